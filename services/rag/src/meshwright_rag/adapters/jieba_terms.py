"""Terms as the full-text indexes keep them and look for them.

`meshwright_common.text.terms` cuts passages and queries alike.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Final

from meshwright_common.text.terms import terms

_MAX_POSITION: Final = 16_383
"""PostgreSQL keeps no position above this in a tsvector, and no more than 255 of one term."""
_MAX_POSITIONS: Final = 255

MAX_DISTANCE: Final = 3
"""Terms of a query further apart than this do not belong together."""

_WRITTEN: Final = re.compile(r"'(?P<term>(?:[^']|'')*)':(?P<positions>[0-9A,]+)")


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


@cache
def _common_words() -> frozenset[str]:
    lines = (
        resources.files(__package__).joinpath("common_words.txt").read_text("utf-8").splitlines()
    )
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
