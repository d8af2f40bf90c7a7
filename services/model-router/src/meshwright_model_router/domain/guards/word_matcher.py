"""Words and phrases in any script, without regard to case, width, or invisible characters.

All phrases are looked for at once, after Aho and Corasick (1975). Letters are compared by their
compatibility decomposition (NFKD) and folded case, one by one, so that each keeps its place.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import ahocorasick

from meshwright_common.errors import invalid
from meshwright_model_router.domain.guards.matching import Span
from meshwright_model_router.domain.tokens import is_wide

CATEGORY: Final = "phrase"
MOST_FOLDS: Final = 16_384
"""Characters whose folded form is remembered."""
_SLACK: Final = 2
"""Characters of a text for one of a phrase, at most: more invisible ones are too many."""


class WordMatcher:
    """Finds phrases: of several at one place the longest.

    Where a phrase begins or ends with a letter of a script with blanks, it begins or ends with the
    word. Raises: InvalidArgument for a phrase of nothing that is seen.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = ahocorasick.Automaton()
        longest = 0
        beginnings: set[str] = set()
        for index, phrase in enumerate(phrases):
            folded = "".join(char for char, _ in _folded(" ".join(phrase.split())))
            if not folded.strip():
                raise invalid(f"phrases[{index}]", "must hold a letter or a sign")
            self._phrases.add_word(folded, len(folded))
            longest = max(longest, len(folded))
            beginnings.add(folded[0])
        self._phrases.make_automaton()
        self._longest = longest
        self._beginnings = frozenset(beginnings)
        self.window = _SLACK * longest

    def scan(self, text: str, start: int, *, ended: bool) -> tuple[list[Span], int]:
        folded, places = _folded_from(text, start)
        length = len(text)
        decided = length if ended else self._decided(text, folded, places)
        spans: list[Span] = []
        place = start
        for begin, end in self._found(text, folded, places):
            if begin >= place and begin < decided:
                spans.append(Span(begin, end, CATEGORY))
                place = end
        return spans, max(place, decided)

    def _found(self, text: str, folded: str, places: Sequence[int]) -> list[tuple[int, int]]:
        """Return the places of whole phrases, leftmost first and longest first."""
        found: set[tuple[int, int]] = set()
        for last, size in self._phrases.iter(folded):
            begin, end = places[last - size + 1], places[last] + 1
            if end - begin <= self.window and _is_whole(text, begin, end):
                found.add((begin, end))
        return sorted(found, key=lambda one: (one[0], -one[1]))

    def _decided(self, text: str, folded: str, places: Sequence[int]) -> int:
        """Return the first place where a phrase may have begun that is not all there."""
        length = len(text)
        for index in range(max(0, len(folded) - self._longest), len(folded)):
            if folded[index] not in self._beginnings:
                continue
            place = places[index]
            if place < length - self.window:
                continue
            if _begins(text, place) and self._phrases.match(folded[index:]):
                return place
        return length


class _Folds(dict[int, str]):
    """Characters as they are compared, for `str.translate`; `irregular`: not one for one."""

    def __init__(self) -> None:
        super().__init__()
        self.irregular: set[str] = set()

    def __missing__(self, code: int) -> str:
        if len(self) >= MOST_FOLDS:
            # Not `irregular`: a text that is being folded may have some.
            self.clear()
        char = chr(code)
        folded = self[code] = " " if char.isspace() else _fold(char)
        if len(folded) != 1:
            self.irregular.add(char)
        return folded


_FOLDS: Final = _Folds()
_BLANKS: Final = re.compile(r"\s\s")


def _folded_from(text: str, start: int) -> tuple[str, Sequence[int]]:
    """Return the characters to compare from `start` on, and the place of each in `text`."""
    if _BLANKS.search(text) is None:
        folded = text.translate(_FOLDS)
        # Looked at after it: what is irregular is known once it was folded.
        if _FOLDS.irregular.isdisjoint(text):
            return folded[start:], range(start, len(text))
    pairs = [pair for pair in _folded(text) if pair[1] >= start]
    return "".join(char for char, _ in pairs), [place for _, place in pairs]


def _folded(text: str) -> Iterator[tuple[str, int]]:
    """Yield the characters to compare, each with its place in `text`."""
    before = ""
    for place, char in enumerate(text):
        if char.isspace():
            # Blanks count as one, whatever they are.
            if not before.isspace():
                yield " ", place
        else:
            for one in _FOLDS[ord(char)]:
                yield one, place
        before = char


def _fold(char: str) -> str:
    if unicodedata.category(char) == "Cf":
        return ""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())


def _is_whole(text: str, begin: int, end: int) -> bool:
    after = text[end : end + 1]
    return _begins(text, begin) and not (_joins(text[end - 1]) and _joins(after))


def _begins(text: str, place: int) -> bool:
    before = text[place - 1 : place] if place else ""
    return not (_joins(before) and _joins(text[place]))


@lru_cache(maxsize=4096)
def _joins(char: str) -> bool:
    """Return whether a character makes one word with a letter beside it."""
    if not char or is_wide(char):
        return False
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")
