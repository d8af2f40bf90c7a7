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
from typing import Final, NamedTuple, TypeAlias

from meshwright_common import context
from meshwright_common.errors import ResourceExhausted, ServiceError, Unavailable
from meshwright_common.events import dead_letter, inbox, parking
from meshwright_common.events.envelope import Event, EventMalformed, decode
from meshwright_common.events.parking import Parked, Waiting
from meshwright_common.events.ports import Delivery, Key
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import (
    Connection,
    TransactionConflict,
    is_lost,
    translated_errors,
)
from meshwright_common.storage.tenancy import enter_tenant
from meshwright_common.telemetry import trace_context, tracing
from meshwright_common.telemetry.logging import get_logger
from meshwright_common.telemetry.spans import NO_SPAN, Attribute, Kind

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
    """What became of the events of a batch. `malformed` were no events, and are buried, too."""

    applied: int = 0
    malformed: int = 0
    deferred: int = 0
    failed: int = 0
    buried: int = 0

    @property
    def stalled(self) -> bool:
        """True when nothing got through because a dependency is away."""
        return self.deferred > 0 and not (self.applied or self.buried or self.malformed)


class _Read(NamedTuple):
    """A delivery and the event in it."""

    delivery: Delivery
    event: Event


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
        self._span_name = f"process {topic.value}"

    async def apply(
        self, connection: Connection, deliveries: Sequence[Delivery], *, most: int
    ) -> tuple[Outcome, Outcome]:
        """Try up to `most` waiting events that are due again, then apply what is new.

        Returns what became of either. New ones that were seen before are skipped, those behind a
        waiting key wait, too. Raises: Unavailable or TransactionConflict when the transaction
        itself is lost.
        """
        waiting = await self._waiting(connection, most)
        retried = Outcome()
        if waiting.due:
            retried = await self._apply_due(connection, waiting.due)
            waiting = await self._waiting(connection, 0)
        return retried, await self._apply_new(connection, deliveries, set(waiting.keys))

    async def _waiting(self, connection: Connection, most: int) -> Waiting:
        return await parking.waiting(
            connection, consumer=self._consumer, topic=self._topic, most=most
        )

    async def _apply_new(
        self, connection: Connection, deliveries: Sequence[Delivery], waiting: set[Key]
    ) -> Outcome:
        outcome = Outcome()
        read: list[_Read] = []
        for delivery in deliveries:
            try:
                read.append(_Read(delivery, _event_of(delivery)))
            except EventMalformed as error:
                outcome.malformed += 1
                await self._bury(connection, delivery, attempts=1, error=error)
        # Stable, so the order within each key stays; it saves switching the tenant per event.
        read.sort(key=lambda one: one.delivery.tenant_id)
        rest: Sequence[_Read] = read
        while rest:
            free = [one for one in rest if one.delivery.key not in waiting] if waiting else rest
            for behind in rest if waiting else ():
                if behind.delivery.key in waiting:
                    await self._park_behind(connection, behind.delivery)
            try:
                applied = await self._apply_together(connection, free)
                if applied is None:
                    applied = await self._apply_all(connection, free)
                outcome.applied += applied
                rest = ()
            except _Failed as failure:
                if failure.index:
                    outcome.applied += await self._apply_all(connection, free[: failure.index])
                delivery = free[failure.index].delivery
                failed = Parked(delivery, attempts=0, deferrals=0, waited_seconds=0.0)
                if await self._give_back(connection, failed, failure.error, outcome):
                    waiting.add(delivery.key)
                rest = free[failure.index + 1 :]
        return outcome

    async def _apply_due(self, connection: Connection, due: Sequence[Parked]) -> Outcome:
        """Try waiting events again, the first of each key. Raises: as `apply`."""
        outcome = Outcome()
        for parked in due:
            try:
                read = _Read(parked.delivery, _event_of(parked.delivery, parked.attempts))
                outcome.applied += await self._apply_all(connection, [read])
            except EventMalformed as error:
                # Replayed, and still no event.
                outcome.malformed += 1
                await self._bury(connection, parked.delivery, parked.attempts + 1, error)
            except _Failed as failure:
                if await self._give_back(connection, parked, failure.error, outcome):
                    continue
            await enter_tenant(connection, parked.delivery.tenant_id)
            await parking.remove(connection, consumer=self._consumer, delivery=parked.delivery)
        return outcome

    async def _apply_together(self, connection: Connection, read: Sequence[_Read]) -> int | None:
        """Apply all by the batch handler; return how many were new, None when nothing was done."""
        if self._batch_handler is None or len(read) < LEAST_TOGETHER:
            return None
        try:
            async with connection.transaction():
                fresh = await self._admit(connection, read)
                new = (one for one in read if one.delivery.event_id in fresh)
                for tenant, batch in groupby(new, key=lambda one: one.delivery.tenant_id):
                    await enter_tenant(connection, tenant)
                    events = list({one.event.event_id: one.event for one in batch}.values())
                    began_ns = tracing.now_ns()
                    with translated_errors(connection):
                        async with asyncio.timeout(self._timeout):
                            await self._batch_handler(connection, events)
                    self._record_batch(events, began_ns)
                return len(fresh)
        # house: broad-except: which event is to blame is found out by applying them one by one
        except Exception as error:
            if isinstance(error, TransactionConflict) or is_lost(connection):
                raise
            return None

    async def _admit(self, connection: Connection, read: Sequence[_Read]) -> set[str]:
        return await inbox.admit(
            connection,
            consumer=self._consumer,
            topic=self._topic,
            event_ids=[one.delivery.event_id for one in read],
        )

    async def _apply_all(self, connection: Connection, read: Sequence[_Read]) -> int:
        """Apply all in one savepoint, each once; return how many were new. Raises: _Failed."""
        if not read:
            return 0
        async with connection.transaction():
            fresh = await self._admit(connection, read)
            applied, tenant = 0, ""
            for index, one in enumerate(read):
                if one.delivery.event_id not in fresh:
                    continue
                fresh.discard(one.delivery.event_id)
                if tenant != one.delivery.tenant_id:
                    tenant = one.delivery.tenant_id
                    await enter_tenant(connection, tenant)
                await self._apply(connection, index, one.event)
                applied += 1
        return applied

    def _record_batch(self, events: Sequence[Event], began_ns: int) -> None:
        """Give each sampled event of a batch its span: that of the batch, in the event's trace."""
        if not tracing.is_enabled():
            return
        for event in events:
            if trace_context.is_sampled(event.traceparent):
                attributes = self._described(event)
                attributes["messaging.batch.message_count"] = len(events)
                tracing.record(
                    self._span_name, Kind.CONSUMER, event.traceparent, attributes, began_ns=began_ns
                )

    def _described(self, event: Event) -> dict[str, Attribute]:
        return {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._topic.value,
            "messaging.consumer.group.name": self._consumer,
            "messaging.message.id": event.event_id,
        }

    async def _apply(self, connection: Connection, index: int, event: Event) -> None:
        span = NO_SPAN
        if event.traceparent:
            span = tracing.begin_trace(self._span_name, Kind.CONSUMER, event.traceparent)
        if span.recording:
            span.attributes.update(self._described(event))
        try:
            call = context.CallContext(
                request_id=event.event_id,
                correlation_id=event.correlation_id,
                traceparent=span.traceparent or event.traceparent,
                tracestate=event.tracestate,
            )
            with context.bind(call), translated_errors(connection):
                async with asyncio.timeout(self._timeout):
                    await self._handler(connection, event)
        # house: broad-except: whatever a handler raises is about its event and is kept with it
        except Exception as error:
            span.failed_by(error)
            if isinstance(error, TransactionConflict) or is_lost(connection):
                raise
            raise _Failed(index, error) from error
        finally:
            span.end()

    async def _give_back(
        self, connection: Connection, parked: Parked, error: Exception, outcome: Outcome
    ) -> bool:
        """Park a failed event for its next try, or bury it. Returns True when it waits."""
        delivery = parked.delivery
        away = isinstance(error, Unavailable | ResourceExhausted)
        away = away and parked.waited_seconds < DEFERRED_AT_MOST_SECONDS
        attempts = parked.attempts + (0 if away else 1)
        hopeless = isinstance(error, EventRejected)
        if hopeless or (not away and attempts > len(self._ladder)):
            outcome.buried += 1
            await self._bury(connection, delivery, attempts, error)
            return False
        if away:
            outcome.deferred += 1
            pause = min(2.0**parked.deferrals, LONGEST_DEFERRAL_SECONDS)
        else:
            outcome.failed += 1
            pause = self._ladder[attempts - 1]
        failed = Parked(delivery, attempts, parked.deferrals + (1 if away else 0), 0.0)
        await self._park(connection, failed, pause, parking.describe(error))
        logger.warning(
            "event_parked", attempts=attempts, error=_reason(error), **self._facts(delivery)
        )
        return True

    async def _bury(
        self, connection: Connection, delivery: Delivery, attempts: int, error: Exception
    ) -> None:
        await dead_letter.bury(
            connection,
            consumer=self._consumer,
            topic=self._topic,
            delivery=delivery,
            attempts=attempts,
            error=parking.describe(error),
        )
        facts = self._facts(delivery)
        logger.error("event_buried", attempts=attempts, error=type(error).__name__, **facts)

    def _facts(self, delivery: Delivery) -> dict[str, str]:
        return {
            "consumer": self._consumer,
            "topic": self._topic.value,
            "event_id": delivery.event_id,
            "origin": delivery.origin,
        }

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
    if delivery.defect:
        raise EventMalformed(delivery.defect)
    event = decode(delivery.headers, delivery.body, retry_count=retry_count)
    named = (delivery.event_id, delivery.tenant_id, delivery.partition_key)
    if (event.event_id, event.tenant_id, event.partition_key) != named:
        raise EventMalformed("the event is not the one the log names")
    return event


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, ServiceError) else type(error).__name__
