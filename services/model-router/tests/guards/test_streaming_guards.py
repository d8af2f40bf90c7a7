"""Guards on streams: the same however a text is cut, and nothing held longer than it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright_model_router.domain.guards.guard import (
    Action,
    Guard,
    GuardKind,
    PiiKind,
    RegexKind,
    Side,
    WordsKind,
)
from meshwright_model_router.domain.guards.guard_set import MatcherGuard, ReadyGuard
from meshwright_model_router.domain.guards.matching import Matcher
from meshwright_model_router.domain.guards.pii_matcher import PiiMatcher
from meshwright_model_router.domain.guards.regex_matcher import RegexMatcher
from meshwright_model_router.domain.guards.screen import Screen
from meshwright_model_router.domain.guards.stages import MatcherStage
from meshwright_model_router.domain.guards.word_matcher import WordMatcher

PATTERNS = (r"\bsecret-[a-z0-9]{3,8}\b", r"[0-9]+x", r"a+?b|^start|end$", r"(?i)q.{0,4}z")
PHRASES = ("bad", "bad phrase", "Straße", "坏词", "坏", "café", "a b", "baddest")
FRAGMENTS = (
    *("secret-", "abc", "123", "x", "aab", "start", "end", "Q..z", " ", "  ", "\n", "bad", "BAD"),
    *("phrase", "est", "strasse", "STRASSE", "坏", "词", "好", "cafe", "\u0301", "é", "\u200b"),
    *("\uff22\uff21\uff24", "a@b.com", "mail", "@", ".", "-", "example.org", "+1 555 123 4567"),
    *("(212) 555-0123", "1", "4111 1111 1111 1111", "4111111111111111", "GB", "219-09-9999"),
    *("DE89 3704 0044 0532 0130 00", "11010519491231002X", "10.0.0.1", "fe80::1", ":", "AKIA"),
    *("sk-abcdefghijklmnopqrstuv", "-----BEGIN PRIVATE KEY-----", "MIIBVgIBADANBg==", "eyJhbGciO"),
    *("IOSFODNN7EXAMPLE", "+"),
)


def matchers() -> list[Matcher]:
    return [RegexMatcher(PATTERNS, 16), PiiMatcher(), WordMatcher(PHRASES)]


def guards(action: Action) -> list[ReadyGuard]:
    kinds: Sequence[GuardKind] = (RegexKind(PATTERNS, 16), PiiKind(()), WordsKind(PHRASES))
    return [
        MatcherGuard(Guard(f"g{index}", kind, action), matcher)
        for index, (kind, matcher) in enumerate(zip(kinds, matchers(), strict=True))
    ]


def screened(pieces: Sequence[str], of: Sequence[ReadyGuard]) -> tuple[str, bool, list[object]]:
    async def run() -> tuple[str, bool, list[object]]:
        screen = Screen(of, Side.OUTPUT, "m")
        passed: list[str] = []
        for piece in pieces:
            passed.append(await screen.feed(piece))
            if screen.blocked:
                break
        else:
            passed.append(await screen.finish())
        return "".join(passed), screen.blocked, [*screen.findings()]

    return asyncio.run(run())


TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


def cut(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(ends)]


@pytest.mark.parametrize("action", [Action.REDACT, Action.BLOCK, Action.REPORT])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=40))
def test_what_passes_does_not_depend_on_how_the_text_was_cut(
    action: Action, text: str, places: list[int]
) -> None:
    of = guards(action)
    whole = screened([text], of)
    for pieces in (cut(text, places), list(text)):
        # Of a text that was blocked, guards before the one that did have seen more or less of it.
        compared = 2 if whole[1] else 3
        assert screened(pieces, of)[:compared] == whole[:compared]
    if action is Action.REPORT:
        assert whole[0] == text


@settings(max_examples=40, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_no_more_is_held_than_the_window(text: str) -> None:
    for matcher in matchers():
        guard = Guard("g", PiiKind(()), Action.REDACT)
        stage = MatcherStage(guard, matcher, Side.OUTPUT)
        for char in text:
            asyncio.run(stage.feed(char))
            assert stage.held <= matcher.window


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("hello world ", "hello world "),
        # A word may become an address: it waits for its end, the text before it does not.
        ("write to me", "write to "),
        ("Fine. Thanks", "Fine. "),
        ("好的，谢谢", "好的，谢谢"),
    ],
)
def test_personal_data_holds_only_what_may_become_some(text: str, passed: str) -> None:
    stage = MatcherStage(Guard("g", PiiKind(()), Action.REDACT), PiiMatcher(), Side.OUTPUT)
    assert asyncio.run(stage.feed(text)) == passed


def test_words_hold_only_the_beginning_of_a_phrase() -> None:
    guard = Guard("g", WordsKind(("bad", "bad phrase")), Action.REDACT)
    stage = MatcherStage(guard, WordMatcher(("bad", "bad phrase")), Side.OUTPUT)
    released = [asyncio.run(stage.feed(char)) for char in "no bird, bad phras. Bad phrase."]
    assert released == [
        *("n", "o", " ", "", "bi", "r", "d", ",", " "),
        *("", "", "", "", "", "", "", "", "", "[phrase] phras.", " "),
        *("", "", "", "", "", "", "", "", "", "", "[phrase]."),
    ]
