"""Words of a text for full-text search: Chinese by jieba's dictionary, English by its stems.

The same function cuts passages and queries, so what was indexed is what is looked for. The
dictionary (34 MB) is loaded when the first Chinese text comes, once per process.
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Final

import snowballstemmer

from meshwright_rag.domain.text import WIDE

MAX_TERM_CHARACTERS: Final = 64
"""Longer words (hashes, encoded data) are no words: nobody types them."""

_MAX_POSITION: Final = 16_383
"""PostgreSQL keeps no position above this in a tsvector, and no more than 255 of one term."""
_MAX_POSITIONS: Final = 255

MAX_DISTANCE: Final = 3
"""Terms of a query further apart than this do not belong together."""

_CACHED_STEMS: Final = 20_000
_PIECE: Final = re.compile(
    f"(?P<wide>[{WIDE}]+)"
    # A word, or words joined the way names of files, hosts, packages and versions are.
    rf"|(?P<word>(?:(?![{WIDE}_])\w)+(?:[-._/:@+](?:(?![{WIDE}_])\w)+)*)"
)
_WRITTEN: Final = re.compile(r"'(?P<term>(?:[^']|'')*)':(?P<positions>[0-9A,]+)")
_WIDE: Final = re.compile(f"[{WIDE}]")
_PART: Final = re.compile(r"[^-._/:@+]+")
_ACCENTED: Final = re.compile("[\u00e0-\u024f\u1e00-\u1eff]")
_STEMMER: Final = snowballstemmer.stemmer("english")


def terms(text: str) -> Iterator[tuple[int, str]]:
    """Yield position (from 1) and term for every word of `text`, in order.

    A compound such as `apt-get` yields itself and, at the same position and on, its parts.
    """
    position = 0
    for piece in _PIECE.finditer(_folded(text)):
        if piece["wide"]:
            for word in _dictionary()(piece["wide"]):
                position += 1
                yield position, word
            continue
        word = piece["word"]
        parts = _PART.findall(word)
        if len(parts) > 1 and len(word) <= MAX_TERM_CHARACTERS:
            yield position + 1, word
        for part in parts:
            position += 1
            if len(part) <= MAX_TERM_CHARACTERS:
                yield position, _stem(part)


async def prepare(text: str) -> None:
    """Load what cutting `text` needs, off the event loop. Without it, the first cut blocks."""
    if _WIDE.search(text) and not _dictionary.cache_info().currsize:
        await asyncio.to_thread(_dictionary)


def tsvector(text: str, headings: Sequence[str]) -> tuple[str, int]:
    """Return a PostgreSQL tsvector's literal, and how many terms the text has.

    Terms of the text have their positions and weight D, terms of headings have weight A.
    """
    positions: dict[str, list[str]] = {}
    for heading in headings:
        for _, term in terms(heading):
            positions[term] = [f"{_MAX_POSITION}A"]
    count = 0
    for position, term in terms(text):
        count += 1
        held = positions.setdefault(term, [])
        if len(held) < _MAX_POSITIONS and position < _MAX_POSITION:
            held.append(str(position))
    literal = " ".join(f"{quoted(term)}:{','.join(held)}" for term, held in positions.items())
    return literal, count


def written(literal: str) -> tuple[list[str], list[str]]:
    """Return the terms that `tsvector` wrote: those of the text, in order, and of the headings.

    Terms at one position (a compound and its first part) follow each other, the longer one first.
    """
    text: list[tuple[int, int, str]] = []
    headings: list[str] = []
    for found in _WRITTEN.finditer(literal):
        term = found["term"].replace("''", "'").replace("\\\\", "\\")
        for position in found["positions"].split(","):
            if position.endswith("A"):
                headings.append(term)
            else:
                text.append((int(position), -len(term), term))
    return [term for _, _, term in sorted(text)], headings


def quoted(term: str) -> str:
    """Return a term as it stands in literals of tsvector and tsquery."""
    return "'" + term.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """What to look for: single terms, and pairs of terms with their distance (1: neighbours)."""

    single: tuple[str, ...]
    pairs: tuple[tuple[str, int, str], ...]


def query_terms(query: str) -> QueryTerms:
    """Return the different terms of a query that carry meaning; when none does, all of them.

    "How do I …" is in every manual; a query of such words only ("who") means them.
    """
    found = list(terms(query))
    meant = [(at, term) for at, term in found if term not in _common_words()] or found
    pairs = (
        (before, at - earlier, term)
        for (earlier, before), (at, term) in pairwise(meant)
        if 0 < at - earlier <= MAX_DISTANCE
    )
    return QueryTerms(tuple(dict.fromkeys(term for _, term in meant)), tuple(dict.fromkeys(pairs)))


def _folded(text: str) -> str:
    """Return `text` without differences that people do not type: width, case, Latin accents."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        return text
    return _ACCENTED.sub(lambda found: unicodedata.normalize("NFD", found[0])[0], text)


@cache
def _dictionary() -> Callable[[str], list[str]]:
    # Importing it reads the dictionary: not before there is something to cut.
    import rjieba  # noqa: PLC0415

    return rjieba.cut_for_search


@cache
def _common_words() -> frozenset[str]:
    lines = (
        resources.files(__package__).joinpath("common_words.txt").read_text("utf-8").splitlines()
    )
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@lru_cache(maxsize=_CACHED_STEMS)
def _stem(word: str) -> str:
    if not word.isascii() or not word.isalpha():
        return word
    return _STEMMER.stemWord(word)
