"""How many requests are let in: all limits looked at and charged in one step, for many at once.

Requests that arrive while the counters are being asked leave together with the next question, and
those that ask for the same are one group of it. A lone request asks at once; there is no timer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.errors import RateLimited, TooManyAtOnce
from meshwright_gateway.limits.counters import Answer, Batch, Counters, Group, PlaceUse, RateUse
from meshwright_gateway.limits.local_counters import LocalCounters
from meshwright_gateway.limits.rates import MICROSECONDS, Rate
from meshwright_gateway.metrics import LIMITS_ALONE

MOST_GROUPS: Final = 200
"""Groups of one question: the script then takes about a millisecond."""
TICK_SECONDS: Final = 0.25
RENEW_SECONDS: Final = 10.0
"""How often it is said again which places are held: well within their life."""
PROBE_SECONDS: Final = 1.0
"""How often a Redis that was away is looked for."""
PLACE_RETRY_SECONDS: Final = 1.0
"""When a place may have become free."""
Headers = Sequence[tuple[bytes, bytes]]
_logger = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Ask:
    """What the requests of one client to one route ask for. Compared by identity: kept and reused.

    `blocked_until`: until then the answer is known, on the scale of `Clock.monotonic`.
    """

    rates: tuple[tuple[str, Rate], ...]
    place: tuple[str, int] | None = None
    blocked_until: float = 0.0
    blocked_by: Rate | None = None


@dataclass(slots=True)
class _Holder:
    """The places of one key that this gateway holds. `told`: how many everybody knows of."""

    limit: int
    count: int = 0
    told: int = 0


class RequestLimits:
    """Lets requests in, and keeps the places of those under way.

    While `shared` cannot be asked, `alone` decides: this gateway's share of each limit.
    """

    def __init__(
        self,
        shared: Counters | None,
        alone: LocalCounters,
        clock: Clock,
        *,
        timeout_seconds: float,
    ) -> None:
        self._shared = shared
        self._alone = alone
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._away = False
        self._waiting: dict[Ask, list[asyncio.Future[Headers]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._holders: dict[str, _Holder] = {}
        self._changed: set[str] = set()

    @property
    def is_alone(self) -> bool:
        """Whether the shared counters could not be asked the last time."""
        return self._away

    def held(self, key: str) -> int:
        """Return how many places of a key this gateway holds."""
        holder = self._holders.get(key)
        return 0 if holder is None else holder.count

    def refuse_blocked(self, ask: Ask) -> None:
        """Raises: RateLimited when it is known already that a request would not be let in."""
        if ask.blocked_until > 0.0:
            left = ask.blocked_until - self._clock.monotonic()
            if left > 0 and ask.blocked_by is not None:
                raise _refusal(ask.blocked_by, left, _headers(ask.blocked_by, 0, left))

    async def take(self, ask: Ask) -> Headers:
        """Let a request in and return the headers that say what is left; its place is held from now
        on, until `leave`. Raises: RateLimited, TooManyAtOnce.
        """
        self.refuse_blocked(ask)
        if ask.place is not None:
            key, limit = ask.place
            if self.held(key) >= limit:
                raise _no_place(limit)
        waiter: asyncio.Future[Headers] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.get(ask)
        if waiters is None:
            self._waiting[ask] = [waiter]
        else:
            waiters.append(waiter)
        self._begin()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Let in, in the moment in which its client left.
                self.leave(ask)
            raise

    def leave(self, ask: Ask) -> None:
        """Give back the place that `take` gave."""
        if ask.place is None:
            return
        key = ask.place[0]
        holder = self._holders[key]
        holder.count -= 1
        self._changed.add(key)
        # Where many places are taken somebody may wait for this one; else it goes with the next.
        if holder.told * 2 >= holder.limit:
            self._begin()

    async def keep(self) -> None:
        """Tell which places are held, and look for counters that are away, for ever."""
        renewed_at = probed_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.monotonic()
            if now - renewed_at >= RENEW_SECONDS:
                renewed_at = now
                self._changed.update(self._holders)
            if self._away and now - probed_at >= PROBE_SECONDS:
                probed_at = now
                await self._probe()
            if self._changed and not self._away:
                self._begin()

    async def close(self) -> None:
        """Tell for the last time which places are held: none, if all requests have ended."""
        if self._asking is not None:
            await asyncio.wait({self._asking})
        if self._changed and not self._away:
            self._begin()
            if self._asking is not None:
                await asyncio.wait({self._asking})

    # --- asking -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._asking is None:
            # A context of its own: it works for many requests. It starts when this turn of the
            # loop is over, so that what arrived in the same turn is in the same question.
            # house: naked-task: bounded by the time-out; `close` waits for it
            self._asking = asyncio.create_task(self._ask(), context=Context())

    async def _ask(self) -> None:
        try:
            while self._waiting or (self._changed and not self._away):
                asks = self._next()
                try:
                    await self._answer(asks)
                finally:
                    for waiters in asks.values():
                        for waiter in waiters:
                            if not waiter.done():
                                waiter.set_exception(Unavailable("the limits cannot be looked at"))
        finally:
            self._asking = None

    def _next(self) -> dict[Ask, list[asyncio.Future[Headers]]]:
        if len(self._waiting) <= MOST_GROUPS:
            asks, self._waiting = self._waiting, {}
            return asks
        asks = {ask: self._waiting[ask] for ask in list(self._waiting)[:MOST_GROUPS]}
        for ask in asks:
            del self._waiting[ask]
        return asks

    async def _answer(self, asks: dict[Ask, list[asyncio.Future[Headers]]]) -> None:
        batch = self._batch(asks)
        if not batch.places and not any(group.count for group in batch.groups):
            return
        answer = None
        if self._shared is not None and not self._away:
            answer = await self._from_shared(self._shared, batch)
        replicas = 1
        if answer is None:
            answer = self._alone.take(batch)
            replicas = self._alone.replicas
        for use, taken in zip(batch.places, answer.taken, strict=True):
            self._holders[use.key].told = taken
        self._settle(asks, batch, answer, replicas)
        self._drop_empty(batch)

    def _batch(self, asks: dict[Ask, list[asyncio.Future[Headers]]]) -> Batch:
        batch = Batch()
        rates: dict[str, int] = {}
        places: dict[str, int] = {}
        for ask, waiters in asks.items():
            indexes = []
            for key, rate in ask.rates:
                index = rates.get(key)
                if index is None:
                    index = rates[key] = len(batch.rates)
                    debt = 0 if self._away else self._alone.debt_of(key)
                    batch.rates.append(RateUse(key, rate, debt))
                indexes.append(index)
            place = -1
            if ask.place is not None:
                place = self._add_place(batch, places, *ask.place)
            # Those whose request has ended are not asked for.
            count = sum(not waiter.done() for waiter in waiters)
            batch.groups.append(Group(count, place, tuple(indexes)))
        if not self._away:
            for key in self._changed:
                self._add_place(batch, places, key, 0)
            self._changed.clear()
        return batch

    def _add_place(self, batch: Batch, places: dict[str, int], key: str, limit: int) -> int:
        index = places.get(key)
        if index is None:
            holder = self._holders.get(key)
            if holder is None:
                holder = self._holders[key] = _Holder(limit)
            holder.limit = limit or holder.limit
            index = places[key] = len(batch.places)
            batch.places.append(PlaceUse(key, holder.count, holder.limit))
        return index

    async def _from_shared(self, shared: Counters, batch: Batch) -> Answer | None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await shared.take(batch)
        except (Unavailable, TimeoutError) as error:
            # Whatever was granted there is not known: charged twice is better than not at all.
            self._set_away(True, cause=str(error) or type(error).__name__)
            return None
        for use, level in zip(batch.rates, answer.levels, strict=True):
            self._alone.learn(use.key, level)
        return answer

    async def _probe(self) -> None:
        if self._shared is None:
            return
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._shared.take(Batch())
        except (Unavailable, TimeoutError):
            return
        # What is held is said anew: the counters may have lost it.
        self._changed.update(self._holders)
        self._set_away(False, cause="")

    def _set_away(self, away: bool, *, cause: str) -> None:
        self._away = away
        LIMITS_ALONE.set(away)
        if away:
            _logger.error("limits_alone", share=f"1/{self._alone.replicas}", cause=cause)
        else:
            _logger.info("limits_shared_again")

    # --- what comes of it -------------------------------------------------------------------------

    def _settle(
        self,
        asks: dict[Ask, list[asyncio.Future[Headers]]],
        batch: Batch,
        answer: Answer,
        replicas: int,
    ) -> None:
        now = self._clock.monotonic()
        for (ask, waiters), group, admitted in zip(
            asks.items(), batch.groups, answer.admitted, strict=True
        ):
            if group.place >= 0:
                self._holders[batch.places[group.place].key].count += admitted
            headers: Headers = ()
            if admitted:
                headers = self._headers_of(group, batch, answer, replicas)
            there = [waiter for waiter in waiters if not waiter.done()]
            for waiter in there[:admitted]:
                waiter.set_result(headers)
            for _ in range(admitted - len(there)):
                # Its request ended meanwhile.
                self.leave(ask)
            if admitted == group.count:
                continue
            refuse = self._refusal_of(ask, group, batch, answer, replicas, now)
            for waiter in there[admitted:]:
                waiter.set_exception(refuse())

    def _headers_of(self, group: Group, batch: Batch, answer: Answer, replicas: int) -> Headers:
        tightest: tuple[int, Rate, float] | None = None
        for index in group.rates:
            rate, level = batch.rates[index].rate.share(replicas), answer.levels[index]
            room = rate.room(level)
            if tightest is None or room < tightest[0]:
                tightest = room, rate, level
        if tightest is None:
            return ()
        room, rate, level = tightest
        return _headers(rate, room, level / MICROSECONDS)

    def _refusal_of(
        self,
        ask: Ask,
        group: Group,
        batch: Batch,
        answer: Answer,
        replicas: int,
        now: float,
    ) -> Callable[[], ServiceError]:
        """Return what makes the refusals by the limit that holds longest, and remember it."""
        longest, by, level = 0.0, None, 0.0
        for index in group.rates:
            rate = batch.rates[index].rate.share(replicas)
            wait = rate.wait_seconds(answer.levels[index])
            if wait > longest:
                longest, by, level = wait, rate, answer.levels[index]
        if by is None:
            return partial(_no_place, batch.places[group.place].limit)
        ask.blocked_until, ask.blocked_by = now + longest, by
        return partial(_refusal, by, longest, _headers(by, 0, level / MICROSECONDS))

    def _drop_empty(self, batch: Batch) -> None:
        for use in batch.places:
            if self._holders[use.key].count == 0 and use.key not in self._changed:
                del self._holders[use.key]


def _refusal(rate: Rate, seconds: float, headers: Headers) -> RateLimited:
    return RateLimited(
        headers,
        # As whole milliseconds, so that nobody comes back a moment too early.
        retry_after_seconds=math.ceil(seconds * 1000) / 1000,
        limit=rate.name,
        requests=str(rate.limit),
        seconds=str(rate.period_seconds),
    )


def _no_place(limit: int) -> TooManyAtOnce:
    return TooManyAtOnce(
        (), retry_after_seconds=PLACE_RETRY_SECONDS, limit="concurrent", requests=str(limit)
    )


def _headers(rate: Rate, remaining: int, reset_seconds: float) -> Headers:
    return (
        (b"x-ratelimit-limit-requests", b"%d" % rate.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % remaining),
        (b"x-ratelimit-reset-requests", _duration(reset_seconds)),
    )


def _duration(seconds: float) -> bytes:
    """Return a time as OpenAI's API writes it: 120ms, 7.66s, 1m30s."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s".encode()
    minutes, rest = divmod(math.ceil(seconds), 60)
    return b"%dm%ds" % (minutes, rest)
