"""What happens to one batch inside its transaction: apply, and keep failures to their own keys.

The fast way runs the whole batch in one savepoint. When an event fails, that is rolled back, what
stands before the failed one is applied again, the failed one is parked or buried, and the rest of
the batch goes on: one poisoned event costs the batch twice its time, and other keys nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

from meshwright_common import context
from meshwright_common.errors import ResourceExhausted, ServiceError, Unavailable
from meshwright_common.events import dead_letter, inbox, parking
from meshwright_common.events.envelope import Event, EventMalformed, decode
from meshwright_common.events.parking import Parked
from meshwright_common.events.ports import Delivery
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import (
    Connection,
    TransactionConflict,
    is_lost,
    translated_errors,
)
from meshwright_common.storage.tenancy import enter_tenant
from meshwright_common.telemetry.logging import get_logger

Handler: TypeAlias = Callable[[Connection, Event], Awaitable[None]]
"""Applies one event, under its tenant, by the connection alone.

It is not called for an event that was applied before, but it may be called again for one whose
effects were rolled back, so nothing but the connection may be changed. Long work (parsing, a call
to a model) does not belong here: write a row that a worker leases.
"""

BatchHandler: TypeAlias = Callable[[Connection, Sequence[Event]], Awaitable[None]]
"""Applies several events of one tenant, in order, at once: as `Handler`, whose effects it has.

Whatever it raises, its effects are rolled back and the events are given to the `Handler` one by
one, which finds the one to blame.
"""

HANDLER_TIMEOUT_SECONDS: Final = 10.0
LEAST_TOGETHER: Final = 2
"""Fewer events are not worth a batch."""
RETRY_LADDER_SECONDS: Final = (1.0, 5.0, 30.0, 120.0)
"""Pauses after each failure: five tries in all, then the dead letter."""
LONGEST_DEFERRAL_SECONDS: Final = 120.0
DEFERRED_AT_MOST_SECONDS: Final = 24 * 3600.0
"""How long an event waits for a dependency that is away, which costs it no tries."""

logger = get_logger(__name__)


class EventRejected(Exception):
    """Raised by a handler: this event can never be applied, so it becomes a dead letter at once."""


class _Failed(Exception):
    """The delivery at `index` of a sequence could not be applied, because of `error`."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


@dataclass(slots=True)
class Outcome:
    """What became of the events of a batch."""

    applied: int = 0
    deferred: int = 0
    failed: int = 0
    buried: int = 0

    @property
    def stalled(self) -> bool:
        """True when nothing got through because a dependency is away."""
        return self.deferred > 0 and self.applied == 0 and self.buried == 0


class Handling:
    """One consumer's way with events of one topic."""

    def __init__(
        self,
        *,
        consumer: str,
        topic: Topic,
        handler: Handler,
        batch_handler: BatchHandler | None = None,
        ladder_seconds: Sequence[float] = RETRY_LADDER_SECONDS,
        handler_timeout_seconds: float = HANDLER_TIMEOUT_SECONDS,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._handler = handler
        self._batch_handler = batch_handler
        self._ladder = tuple(ladder_seconds)
        self._timeout = handler_timeout_seconds

    async def apply_new(self, connection: Connection, deliveries: Sequence[Delivery]) -> Outcome:
        """Apply deliveries that were not seen before; those behind a waiting key wait, too.

        Raises: Unavailable or TransactionConflict when the transaction itself is lost.
        """
        outcome = Outcome()
        waiting = await parking.keys(connection, consumer=self._consumer, topic=self._topic)
        # Stable, so the order within each key stays; it saves switching the tenant per event.
        rest = sorted(deliveries, key=lambda delivery: delivery.tenant_id)
        while rest:
            free = [one for one in rest if one.key not in waiting]
            for behind in (one for one in rest if one.key in waiting):
                await self._park_behind(connection, behind)
            try:
                applied = await self._apply_together(connection, free)
                if applied is None:
                    applied = await self._apply_all(connection, free)
                outcome.applied += applied
                rest = []
            except _Failed as failure:
                if failure.index:
                    outcome.applied += await self._apply_all(connection, free[: failure.index])
                failed = Parked(free[failure.index], attempts=0, deferrals=0, waited_seconds=0.0)
                if await self._give_back(connection, failed, failure.error, outcome):
                    waiting.add(failed.delivery.key)
                rest = free[failure.index + 1 :]
        return outcome

    async def apply_parked(self, connection: Connection, *, most: int) -> Outcome:
        """Try the waiting events that are due again, the first of each key. Raises: as above."""
        outcome = Outcome()
        consumer, topic = self._consumer, self._topic
        for parked in await parking.due(connection, consumer=consumer, topic=topic, most=most):
            retries = parked.attempts
            try:
                outcome.applied += await self._apply_all(
                    connection, [parked.delivery], retry_count=retries
                )
            except _Failed as failure:
                if await self._give_back(connection, parked, failure.error, outcome):
                    continue
            await enter_tenant(connection, parked.delivery.tenant_id)
            await parking.remove(connection, consumer=consumer, delivery=parked.delivery)
        return outcome

    async def _apply_together(
        self, connection: Connection, deliveries: Sequence[Delivery]
    ) -> int | None:
        """Apply all by the batch handler; return how many were new, None when nothing was done."""
        if self._batch_handler is None or len(deliveries) < LEAST_TOGETHER:
            return None
        try:
            async with connection.transaction():
                fresh = await self._admit(connection, deliveries)
                batches = groupby(
                    (one for one in deliveries if one.event_id in fresh),
                    key=lambda delivery: delivery.tenant_id,
                )
                for tenant, new in batches:
                    await enter_tenant(connection, tenant)
                    events = list({one.event_id: _event_of(one) for one in new}.values())
                    with translated_errors(connection):
                        async with asyncio.timeout(self._timeout):
                            await self._batch_handler(connection, events)
                return len(fresh)
        # house: broad-except: which event is to blame is found out by applying them one by one
        except Exception as error:
            if isinstance(error, TransactionConflict) or is_lost(connection):
                raise
            return None

    async def _admit(self, connection: Connection, deliveries: Sequence[Delivery]) -> set[str]:
        return await inbox.admit(
            connection,
            consumer=self._consumer,
            topic=self._topic,
            event_ids=[delivery.event_id for delivery in deliveries],
        )

    async def _apply_all(
        self, connection: Connection, deliveries: Sequence[Delivery], *, retry_count: int = 0
    ) -> int:
        """Apply all in one savepoint, each once; return how many were new. Raises: _Failed."""
        if not deliveries:
            return 0
        async with connection.transaction():
            fresh = await self._admit(connection, deliveries)
            applied, tenant = 0, ""
            for index, delivery in enumerate(deliveries):
                if delivery.event_id not in fresh:
                    continue
                fresh.discard(delivery.event_id)
                if tenant != delivery.tenant_id:
                    tenant = delivery.tenant_id
                    await enter_tenant(connection, tenant)
                await self._apply(connection, index, delivery, retry_count)
                applied += 1
        return applied

    async def _apply(
        self, connection: Connection, index: int, delivery: Delivery, retry_count: int
    ) -> None:
        try:
            event = _event_of(delivery, retry_count)
            call = context.CallContext(
                request_id=event.event_id,
                correlation_id=event.correlation_id,
                traceparent=event.traceparent,
            )
            with context.bind(call), translated_errors(connection):
                async with asyncio.timeout(self._timeout):
                    await self._handler(connection, event)
        # house: broad-except: whatever a handler raises is about its event and is kept with it
        except Exception as error:
            if isinstance(error, TransactionConflict) or is_lost(connection):
                raise
            raise _Failed(index, error) from error

    async def _give_back(
        self, connection: Connection, parked: Parked, error: Exception, outcome: Outcome
    ) -> bool:
        """Park a failed event for its next try, or bury it. Returns True when it waits."""
        delivery, cause = parked.delivery, parking.describe(error)
        away = isinstance(error, Unavailable | ResourceExhausted)
        away = away and parked.waited_seconds < DEFERRED_AT_MOST_SECONDS
        attempts = parked.attempts + (0 if away else 1)
        facts = {"consumer": self._consumer, "topic": self._topic, "event_id": delivery.event_id}
        hopeless = isinstance(error, EventRejected | EventMalformed)
        if hopeless or (not away and attempts > len(self._ladder)):
            outcome.buried += 1
            await dead_letter.bury(
                connection,
                consumer=self._consumer,
                topic=self._topic,
                delivery=delivery,
                attempts=attempts,
                error=cause,
            )
            logger.error("event_buried", attempts=attempts, error=type(error).__name__, **facts)
            return False
        if away:
            outcome.deferred += 1
            pause = min(2.0**parked.deferrals, LONGEST_DEFERRAL_SECONDS)
        else:
            outcome.failed += 1
            pause = self._ladder[attempts - 1]
        failed = Parked(delivery, attempts, parked.deferrals + (1 if away else 0), 0.0)
        await self._park(connection, failed, pause, cause)
        logger.warning("event_parked", attempts=attempts, error=_reason(error), **facts)
        return True

    async def _park_behind(self, connection: Connection, delivery: Delivery) -> None:
        await self._park(connection, Parked(delivery, 0, 0, 0.0), 0.0, "waits behind its key")

    async def _park(
        self, connection: Connection, parked: Parked, due_in_seconds: float, error: str
    ) -> None:
        await parking.put(
            connection,
            consumer=self._consumer,
            topic=self._topic,
            parked=parked,
            due_in_seconds=due_in_seconds,
            error=error,
        )


def _event_of(delivery: Delivery, retry_count: int = 0) -> Event:
    event = decode(delivery.headers, delivery.body, retry_count=retry_count)
    if (event.event_id, event.tenant_id) != (delivery.event_id, delivery.tenant_id):
        raise EventMalformed("the event is not the one the log names")
    return event


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, ServiceError) else type(error).__name__
