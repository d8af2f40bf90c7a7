"""What is let in when more comes than this process can serve: refused at once, not late (R-16).

A request is in hand until its first byte leaves; a stream that runs takes no place any more. Those
that find no place wait a moment, the more important ones first. Only so many wait as will have
their turn within `WAIT_SECONDS`, by how many had theirs lately: the others are refused at once, and
whoever waits all the same for so long is refused then (CoDel's idea, RFC 8289: what counts is how
long the queue takes, not how many are in it).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal

from meshwright_common.resilience.adaptive_limit import UPDATE_SECONDS, AdaptiveLimit
from meshwright_gateway.errors import Overloaded
from meshwright_gateway.metrics import LOAD_LIMIT, LOAD_SHED

Priority = Literal["interactive", "background", "batch"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "background", "batch")
WAIT_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.02
"""How often the delay of this process is measured: five samples an update."""
_HEADER: Final = b"x-priority"
_BACKGROUND: Final = ("/api/v1/tasks", "/api/v1/memories", "/v1/embeddings")
_BATCH: Final = ("/api/v1/usage", "/api/v1/audit", "/api/v1/knowledge-bases", "/api/v1/documents")


class _Waiter:
    __slots__ = ("future", "until")

    def __init__(self, until: float, loop: asyncio.AbstractEventLoop) -> None:
        self.until = until
        self.future: asyncio.Future[bool] = loop.create_future()


class LoadShedding:
    """Places for requests in hand, as many as `limit` says."""

    def __init__(self, limit: AdaptiveLimit, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.limit = limit
        self.running = 0
        self._wait_seconds = wait_seconds
        self._waiting: dict[Priority, deque[_Waiter]] = {one: deque() for one in PRIORITIES}
        self._count = 0
        self._most_waiting = limit.value
        self._left = 0
        self._left_per_second = 0.0

    def try_enter(self) -> bool:
        """Take a place if one is free and nobody waits; True: `leave` has to follow."""
        if self.running < self.limit.value and not self._count:
            self.running += 1
            return True
        return False

    async def enter(self, priority: Priority) -> None:
        """Take a place, or wait for one. Raises: Overloaded."""
        if self.try_enter():
            return
        if self._count >= self._most_waiting and not self._make_room(priority):
            raise self._refused(priority)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.time() + self._wait_seconds, loop)
        self._waiting[priority].append(waiter)
        self._count += 1
        try:
            admitted = await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.result():
                self.leave()
            raise
        if not admitted:
            raise self._refused(priority)

    def leave(self) -> None:
        """Give the place back: the next one gets it."""
        self.running -= 1
        self._left += 1
        self._admit()

    def tick(self, now: float) -> None:
        """Send away who has waited long enough, and let in who may come now."""
        if not self._count:
            return
        for waiters in self._waiting.values():
            while waiters and (waiters[0].future.done() or waiters[0].until <= now):
                self._end(waiters.popleft(), admitted=False)
        self._admit()

    async def watch(self) -> None:
        """Measure how late this process is and adapt the limit to it, for ever."""
        loop = asyncio.get_running_loop()
        updated_at = loop.time()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            self.limit.sample(max(now - due, 0.0))
            if now - updated_at >= UPDATE_SECONDS:
                self._update(now - updated_at)
                updated_at = now
            self.tick(now)

    def _update(self, seconds: float) -> None:
        self.limit.update(self.running)
        LOAD_LIMIT.set(self.limit.value)
        self._left_per_second = (self._left_per_second + self._left / seconds) / 2
        self._left = 0
        self._most_waiting = self.limit.value
        if self.limit.is_overloaded:
            # With some air: it does not go evenly.
            in_time = int(self._left_per_second * self._wait_seconds * 0.7)
            self._most_waiting = min(self._most_waiting, in_time)

    def _admit(self) -> None:
        while self._count and self.running < self.limit.value:
            waiters = next(one for one in self._waiting.values() if one)
            if self._end(waiters.popleft(), admitted=True):
                self.running += 1

    def _make_room(self, priority: Priority) -> bool:
        """Send away somebody who is less important. Returns whether there was such a one."""
        for other in reversed(PRIORITIES[PRIORITIES.index(priority) + 1 :]):
            if self._waiting[other]:
                self._end(self._waiting[other].popleft(), admitted=False)
                return True
        return False

    def _end(self, waiter: _Waiter, *, admitted: bool) -> bool:
        """Answer a waiter who was taken out. Returns whether it was still there."""
        self._count -= 1
        if waiter.future.done():
            return False
        waiter.future.set_result(admitted)
        return True

    def _refused(self, priority: Priority) -> Overloaded:
        LOAD_SHED.labels(priority).inc()
        return Overloaded(retry_after_seconds=RETRY_SECONDS)


def priority_of(path: str, headers: Mapping[bytes, bytes]) -> Priority:
    """Return how important a request is: by its route, or less if its client says so."""
    route: Priority = "interactive"
    if path.startswith(_BACKGROUND):
        route = "background"
    elif path.startswith(_BATCH):
        route = "batch"
    asked = headers.get(_HEADER)
    for priority in PRIORITIES[PRIORITIES.index(route) :]:
        if asked == priority.encode("ascii"):
            return priority
    return route
