"""The counters of one gateway alone: its share of the limits while Redis cannot be asked (R-20)."""

from __future__ import annotations

from typing import Final

from meshwright_common.clock import Clock
from meshwright_gateway.limits.counters import Answer, Batch, Group, PlaceUse, RateUse, admit
from meshwright_gateway.limits.rates import MICROSECONDS

MOST_KEYS: Final = 50_000
"""Keys that are remembered. When there are more, those that nothing is left of are forgotten."""


class LocalCounters:
    """Grants 1/`replicas` of each limit: together the gateways keep within it.

    What Redis said last of a key is where its share begins: whoever had used up the limit gets
    nothing anew. What is granted here is told to Redis afterwards, see `debt_of`. Never fewer than
    one request and one place: with more replicas than places, those are more than the limit.
    """

    def __init__(self, clock: Clock, replicas: int) -> None:
        self._clock = clock
        self.replicas = replicas
        self._ahead_until: dict[str, float] = {}
        self._debts: dict[str, int] = {}

    def learn(self, key: str, level_us: float) -> None:
        """Remember how far ahead Redis says that a key is."""
        if len(self._ahead_until) >= MOST_KEYS:
            self._forget()
        self._ahead_until[key] = self._now_us() + level_us

    def debt_of(self, key: str) -> int:
        """Return what was granted here for a key since Redis was last told, and forget it."""
        return self._debts.pop(key, 0) if self._debts else 0

    def take(self, batch: Batch) -> Answer:
        """Let in what the share allows."""
        now = self._now_us()
        shared = Batch(
            [RateUse(use.key, use.rate.share(self.replicas)) for use in batch.rates],
            [
                PlaceUse(use.key, use.held, max(use.limit // self.replicas, 1))
                for use in batch.places
            ],
            batch.groups,
        )
        levels = [max(self._ahead_until.get(use.key, 0.0) - now, 0.0) for use in shared.rates]
        admitted, levels, taken = admit(shared, levels, [0] * len(shared.places))
        for use, level in zip(shared.rates, levels, strict=True):
            self._ahead_until[use.key] = now + level
        for group, count in zip(batch.groups, admitted, strict=True):
            self._owe(batch, group, count)
        if len(self._ahead_until) > MOST_KEYS:
            self._forget()
        return Answer(admitted, levels, taken)

    def _owe(self, batch: Batch, group: Group, count: int) -> None:
        for index in group.rates if count else ():
            key = batch.rates[index].key
            self._debts[key] = self._debts.get(key, 0) + count

    def _forget(self) -> None:
        now = self._now_us()
        self._ahead_until = {key: until for key, until in self._ahead_until.items() if until > now}
        if len(self._ahead_until) > MOST_KEYS // 2:
            # To look through them again and again would cost more than they are worth.
            self._ahead_until.clear()
        self._debts = {key: debt for key, debt in self._debts.items() if key in self._ahead_until}

    def _now_us(self) -> float:
        return self._clock.monotonic() * MICROSECONDS
