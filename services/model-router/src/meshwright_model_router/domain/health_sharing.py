"""Replicas tell each other how deployments do, in one exchange a second, beside the calls.

What a replica decides (a breaker opened, a pause began) leaves at once; the others know it with
their next exchange. When a broken deployment has rested, one replica is granted the trial. Without
the shared store each replica judges and tries alone, and tells what it decided when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common.errors import Unavailable
from meshwright_model_router.domain.health import TRIAL_SECONDS, Change, Health
from meshwright_model_router.domain.health_values import ModelKey, Numbers, Rest

EXCHANGE_SECONDS: Final = 1.0
GRANT_SECONDS: Final = 0.5
"""How long a call that can go nowhere else waits for a trial to be granted."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What this replica decided about a model: it rests for `seconds`, or no longer (None)."""

    key: ModelKey
    seconds: float | None
    reason: str = ""
    broken: bool = False


@dataclass(frozen=True, slots=True)
class SharedRest:
    """A rest that some replica decided: `seconds` are left, `trial_seconds` of a trial of ours."""

    seconds: float
    reason: str
    broken: bool
    trial_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What all others counted together, and every rest that is in force."""

    others: Mapping[ModelKey, Numbers]
    rests: Mapping[ModelKey, SharedRest]


class SharedHealth(Protocol):
    """Where replicas meet."""

    async def exchange(
        self,
        reports: Mapping[ModelKey, Numbers],
        decisions: Sequence[Decision],
        wanted: Sequence[ModelKey],
    ) -> Exchanged:
        """Put down what this replica counted and decided, and return what is there after that.

        Of the replicas that want to try a broken deployment after its rest, one is granted it.
        Raises: Unavailable.
        """
        ...


class HealthSharing:
    """Keeps `health` and the other replicas' in step while `run` runs.

    `on_alone` is told True when the shared store is away, and False when it is back.
    """

    def __init__(
        self,
        health: Health,
        shared: SharedHealth,
        *,
        on_alone: Callable[[bool], None] = lambda _: None,
        interval_seconds: float = EXCHANGE_SECONDS,
    ) -> None:
        self._on_alone = on_alone
        self._health = health
        self._shared = shared
        self._interval = interval_seconds
        self._decisions: dict[ModelKey, Decision] = {}
        self._woken = asyncio.Event()
        self._answered = asyncio.Event()
        self._alone = False
        self._is_stopping = False
        health.listen(self._note)

    def _note(self, change: Change) -> None:
        if change.elsewhere:
            return
        key = change.health.key
        seconds = None if change.kind == "closed" else change.seconds
        self._decisions[key] = Decision(key, seconds, change.reason, change.kind == "opened")
        self._woken.set()

    async def grant_wanted(self) -> None:
        """Ask for the trials that calls of this replica want, and return when that is answered."""
        if self._alone:
            await self._health.grant_wanted()
            return
        answered = self._answered
        self._woken.set()
        try:
            async with asyncio.timeout(GRANT_SECONDS):
                await answered.wait()
        except TimeoutError:
            await self._health.grant_wanted()

    async def run(self) -> None:
        """Exchange now and then, and at once when there is something to tell, until `stop`."""
        while not self._is_stopping:
            await self.exchange()
            try:
                async with asyncio.timeout(self._interval):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let `run` return after a last exchange."""
        self._is_stopping = True
        self._woken.set()

    async def exchange(self) -> None:
        """Exchange once."""
        self._woken.clear()
        answered, self._answered = self._answered, asyncio.Event()
        now = self._health.clock.monotonic()
        decisions, self._decisions = self._decisions, {}
        reports: dict[ModelKey, Numbers] = {}
        wanted: list[ModelKey] = []
        for one in self._health.models():
            numbers = one.own_numbers(now)
            if numbers.calls or numbers.in_flight:
                reports[one.key] = numbers
            if one.wanted:
                wanted.append(one.key)
        try:
            exchanged = await self._shared.exchange(reports, list(decisions.values()), wanted)
        except Unavailable:
            # Told when the store is back; what was decided meanwhile is newer.
            self._decisions = decisions | self._decisions
            await self._go_alone()
        else:
            self._take(exchanged)
        finally:
            answered.set()

    async def _go_alone(self) -> None:
        if not self._alone:
            self._alone = True
            self._on_alone(True)
        for one in self._health.models():
            one.others = Numbers()
        await self._health.grant_wanted()

    def _take(self, exchanged: Exchanged) -> None:
        if self._alone:
            self._alone = False
            self._on_alone(False)
        health = self._health
        now = health.clock.monotonic()
        for one in health.models():
            one.others = exchanged.others.get(one.key, _NONE)
        for key, numbers in exchanged.others.items():
            health.at(key).others = numbers
        for one in list(health.models()):
            if one.key in self._decisions:
                continue  # decided while the exchange was under way
            shared = exchanged.rests.get(one.key)
            if shared is None:
                if one.rest is not None and one.rest.broken:
                    health.learn(one, None)
                continue
            health.learn(one, Rest(now + shared.seconds, shared.reason, shared.broken))
            if shared.trial_seconds > 0:
                health.grant(one, min(shared.trial_seconds, TRIAL_SECONDS))
        for key in exchanged.rests.keys() - {one.key for one in health.models()}:
            shared = exchanged.rests[key]
            health.learn(health.at(key), Rest(now + shared.seconds, shared.reason, shared.broken))


_NONE: Final = Numbers()
