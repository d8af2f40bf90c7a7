"""Joining ranked lists into one: reciprocal rank fusion."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K: Final = 60
"""Damping of the ranks. 60 is the value of the method's authors (Cormack et al., 2009)."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Fused(Generic[T]):
    """An item of the joint list. `ranks` holds its rank, from 1, in each list it was in."""

    item: T
    score: float
    ranks: Mapping[str, int]


def fuse(lists: Mapping[str, tuple[float, Sequence[T]]]) -> list[Fused[T]]:
    """Return every item of the lists once, best first, scores in (0, 1].

    `lists` maps a name to the list's weight and its items, best first. A list of weight 0 counts
    for nothing. Score 1 means first in every list. Items of equal score keep a fixed order: by
    their best rank, then by their representation, so that equal searches give equal answers.
    """
    ranks: dict[T, dict[str, int]] = {}
    for name, (weight, items) in lists.items():
        if weight > 0:
            for rank, item in enumerate(items, start=1):
                ranks.setdefault(item, {}).setdefault(name, rank)
    best = sum(weight for weight, _ in lists.values()) / (K + 1)
    fused = [
        Fused(item, sum(lists[name][0] / (K + rank) for name, rank in found.items()) / best, found)
        for item, found in ranks.items()
    ]
    return sorted(fused, key=lambda one: (-one.score, min(one.ranks.values()), repr(one.item)))
