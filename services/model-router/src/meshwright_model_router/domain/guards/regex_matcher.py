"""Regular expressions from outside, in linear time: RE2."""

from collections.abc import Sequence
from typing import Final

import re2

from meshwright_common.errors import invalid
from meshwright_model_router.domain.guards.matching import Span

CATEGORY: Final = "pattern"
MAX_PROGRAM: Final = 20_000
"""Instructions of all patterns of a guard together."""
MAX_MEMORY_BYTES: Final = 2 * 1024 * 1024
"""Of one compiled expression; what needs more is refused, or runs without RE2's quickest way."""


class RegexMatcher:
    """Finds matches of patterns, the first of them that fits at a place.

    A match is looked for within `longest_match` characters from its beginning. Raises:
    InvalidArgument for what is no pattern of RE2, or matches nothing at all.
    """

    def __init__(self, patterns: Sequence[str], longest_match: int) -> None:
        self.window = longest_match
        for index, pattern in enumerate(patterns):
            _check(pattern, f"patterns[{index}]")
        together = "|".join(f"(?:{pattern})" for pattern in patterns)
        self._pattern = _compiled(together, "patterns")
        if self._pattern.programsize > MAX_PROGRAM:
            raise invalid("patterns", "are too large together")

    def scan(self, text: str, start: int, *, ended: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        length = len(text)
        # Nothing that begins before this place can change: its window and one more are there.
        decided = length if ended else length - self.window
        place = start
        while place < decided:
            found = self._pattern.search(text, place)
            if found is None or found.start() >= decided:
                break
            begin = found.start()
            match = self._pattern.match(text, begin, min(begin + self.window, length))
            if match is None or match.end() == begin:
                place = begin + 1
                continue
            place = match.end()
            spans.append(Span(begin, place, CATEGORY))
        return spans, max(place, decided)


def _check(pattern: str, field: str) -> None:
    # By itself: "a)|(b" is none, though it would be one inside of brackets.
    if _compiled(pattern, field).search("") is not None:
        raise invalid(field, "must not match the empty text")


def _compiled(pattern: str, field: str) -> "re2.Pattern":
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        message = error.args[0] if error.args else ""
        text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
        raise invalid(field, f"is no regular expression of RE2: {text}") from None
