"""Looking for something in a text that may not be all there yet."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Span:
    """Something found: characters `start` to `end`, and what it is."""

    start: int
    end: int
    category: str


class Matcher(Protocol):
    """Finds spans, the same ones in whatever pieces a text comes.

    What is at a place depends on nothing but the character before it and the `window` characters
    from it on, and the next one: so a place is decided as soon as these are there.
    """

    @property
    def window(self) -> int:
        """Characters of the longest span there can be."""
        ...

    def scan(self, text: str, start: int, *, ended: bool) -> tuple[list[Span], int]:
        """Return the spans of `text` that no further text can change, and how far that is decided.

        Leftmost first, none over another, none before `start`, which is 0 at the beginning of the
        whole text and else 1: the first character is context. Every span begins before the place
        that is returned, where the next scan has to go on; `ended`: no text follows.
        """
        ...
