"""Personal data in a text: held back only while it may still become some."""

import re
from collections.abc import Sequence
from typing import Final

from meshwright_model_router.domain.guards.matching import Span
from meshwright_model_router.domain.guards.pii_kinds import (
    BLOCK_BEGINNING,
    KEY_BEGINNINGS,
    PII_PATTERNS,
    PiiPattern,
)

WINDOW: Final = 4_400
"""Characters of the longest secret: a private key. Without the beginning of one, 360 are enough."""
SHORT_WINDOW: Final = 360

# In every text that has something, and in few others: most pieces of a stream end here.
_ANY_HINT: Final = re.compile(f"[0-9@]|{BLOCK_BEGINNING}|{KEY_BEGINNINGS}")
# Ends of texts that may be the beginning of something: a word, digits with what stands between
# them, groups of an IBAN. Wider than the patterns: what is held too long is let go with the next
# blank, what is let go too early is not to be had back.
_UNFINISHED: Final = re.compile(
    r"[A-Z]{2}[0-9]{2}[ A-Z0-9]*\Z"
    r"|[+(0-9][0-9Xx ().\-/]*\Z"
    r"|[A-Za-z0-9._%+\-@:]+\Z"
)
_UNFINISHED_SECRET: Final = re.compile(
    rf"{BLOCK_BEGINNING}[A-Za-z0-9+/=\s-]*\Z|{KEY_BEGINNINGS}[A-Za-z0-9._-]*\Z"
)


class PiiMatcher:
    """Finds personal data of the kinds named; none: of all kinds."""

    window = WINDOW

    def __init__(self, kinds: Sequence[str] = ()) -> None:
        wanted = set(kinds or PII_PATTERNS)
        self._patterns = [one for one in PII_PATTERNS.values() if one.name in wanted]
        self._secrets = "secret" in wanted

    def scan(self, text: str, start: int, *, ended: bool) -> tuple[list[Span], int]:
        decided = len(text) if ended else self._decided(text, start)
        hinted: Sequence[PiiPattern] = ()
        if _ANY_HINT.search(text, start):
            hinted = [one for one in self._patterns if one.hint.search(text, start)]
        spans: list[Span] = []
        place = start
        following: dict[str, Span | None] = {}
        while hinted and place < decided:
            first: Span | None = None
            for one in hinted:
                if one.name not in following or _is_behind(following[one.name], place):
                    following[one.name] = _next(one, text, place)
                found = following[one.name]
                if found is not None and (first is None or found.start < first.start):
                    first = found
            if first is None or first.start >= decided:
                break
            spans.append(first)
            place = first.end
        return spans, max(place, decided)

    def _decided(self, text: str, start: int) -> int:
        length = len(text)
        tail = max(start, length - SHORT_WINDOW)
        unfinished = _UNFINISHED.search(text, tail)
        decided = unfinished.start() if unfinished else length
        if self._secrets:
            tail = max(start, length - WINDOW)
            secret = _UNFINISHED_SECRET.search(text, tail)
            if secret is not None:
                decided = min(decided, secret.start())
        return decided


def _is_behind(span: Span | None, place: int) -> bool:
    return span is not None and span.start < place


def _next(kind: PiiPattern, text: str, place: int) -> Span | None:
    """Return the first of a kind that begins at `place` or later."""
    while match := kind.pattern.search(text, place):
        size = kind.check(match.group())
        if size:
            return Span(match.start(), match.start() + size, kind.name)
        place = match.start() + 1
    return None
