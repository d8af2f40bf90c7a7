"""What guards cost: each piece of a stream through one, and a megabyte of a prompt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from bench.measurement import Measurement
from bench.targets import Target
from meshwright_model_router.domain.guards.guard import Action, Guard, PiiKind, Side
from meshwright_model_router.domain.guards.guard_set import MatcherGuard
from meshwright_model_router.domain.guards.matching import Matcher
from meshwright_model_router.domain.guards.pii_matcher import PiiMatcher
from meshwright_model_router.domain.guards.regex_matcher import RegexMatcher
from meshwright_model_router.domain.guards.screen import Screen
from meshwright_model_router.domain.guards.word_matcher import WordMatcher

NAME: Final = "guards"
ABOUT: Final = (
    "µs that a piece of a stream (a word) takes in a guard of personal data, of two patterns and "
    "of 1000 phrases, and ms for a megabyte of a prompt in each"
)
PIECES: Final = 20_000
QUICK_PIECES: Final = 2_000
PROMPT_CHARACTERS: Final = 1_000_000
QUICK_CHARACTERS: Final = 100_000
SENTENCE: Final = "the quick brown fox jumps over 42 lazy dogs in Ulm and writes to you about it "
PATTERNS: Final = (r"secret-[a-z0-9]{3,8}", r"project (?:blue|red)bird")
LONGEST_MATCH: Final = 32


def measure(*, repeats: int, quick: bool) -> list[Measurement]:
    """Measure the guards one by one, in this process."""
    matchers: dict[str, Matcher] = {
        "pii": PiiMatcher(),
        "regex": RegexMatcher(PATTERNS, LONGEST_MATCH),
        "words": WordMatcher([f"banned phrase {number}" for number in range(1000)]),
    }
    count = QUICK_PIECES if quick else PIECES
    characters = QUICK_CHARACTERS if quick else PROMPT_CHARACTERS
    words = SENTENCE.split()
    pieces = [f" {words[number % len(words)]}" for number in range(count)]
    prompt = SENTENCE * (characters // len(SENTENCE))
    measurements = []
    for repeat in range(repeats):
        values: dict[str, float] = {}
        for name, matcher in matchers.items():
            seconds = asyncio.run(_through(matcher, pieces, Side.OUTPUT))
            values[f"{name}_microseconds_per_piece"] = seconds / len(pieces) * 1e6
            seconds = asyncio.run(_through(matcher, [prompt], Side.INPUT))
            values[f"{name}_milliseconds_per_megabyte"] = seconds / len(prompt) * 1e9
        measurements.append(Measurement(NAME, Target.WORKER, repeat, values))
    return measurements


async def _through(matcher: Matcher, pieces: Sequence[str], side: Side) -> float:
    guard = MatcherGuard(Guard("bench", PiiKind(()), Action.REDACT), matcher)
    screen = Screen([guard], side, "bench")
    began = time.perf_counter()
    for piece in pieces:
        await screen.feed(piece)
    await screen.finish()
    return time.perf_counter() - began
