"""What is asked of the counters, and what they answer: many requests in one step.

A group is a number of requests that ask for the same: under the same rates, and for the same places
or none. Of each group as many are let in as *all* its limits allow, and just those are charged on
each of them: a request that is refused by one limit costs nothing on the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from meshwright_gateway.limits.rates import Rate


@dataclass(frozen=True, slots=True)
class RateUse:
    """A rate of one key. `debt`: requests let in while the counters could not be asked."""

    key: str
    rate: Rate
    debt: int = 0


@dataclass(frozen=True, slots=True)
class PlaceUse:
    """Places of one key, for requests under way: `limit` in all, of which we hold `held`."""

    key: str
    held: int
    limit: int


@dataclass(frozen=True, slots=True)
class Group:
    """`count` requests, with the positions of their rates and of their places (-1: none)."""

    count: int
    place: int
    rates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything that is asked in one step."""

    rates: list[RateUse] = field(default_factory=list)
    places: list[PlaceUse] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """How many of each group were let in; then for each rate how far ahead its key is, in
    microseconds; and for each place how many are taken by everybody.
    """

    admitted: list[int]
    levels: list[float]
    taken: list[int]


class Counters(Protocol):
    """The counters of all gateways, or those of one."""

    async def take(self, batch: Batch) -> Answer:
        """Let in what the limits allow. Raises: Unavailable when the counters cannot be asked."""
        ...


def admit(
    batch: Batch, levels: list[float], others: list[int]
) -> tuple[list[int], list[float], list[int]]:
    """Return how many of each group are let in, then the levels and all taken places.

    `levels` are those before, `others` the places that others hold. The script in Redis does the
    same; a test compares them.
    """
    levels = list(levels)
    taken = [other + use.held for other, use in zip(others, batch.places, strict=True)]
    admitted: list[int] = []
    for group in batch.groups:
        count = group.count
        for index in group.rates:
            count = min(count, batch.rates[index].rate.room(levels[index]))
        if group.place >= 0:
            limit = batch.places[group.place].limit
            count = max(min(count, limit - taken[group.place]), 0)
            taken[group.place] += count
        for index in group.rates:
            levels[index] += count * batch.rates[index].rate.interval_us
        admitted.append(count)
    return admitted, levels, taken
