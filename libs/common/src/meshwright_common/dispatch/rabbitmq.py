"""Work queues in RabbitMQ: confirmed, mandatory, acknowledged by hand, lanes taken by weight."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, HeadersType
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from meshwright_common import kept_trace
from meshwright_common.dispatch import bodies
from meshwright_common.dispatch.lanes import (
    MAX_RETRIES,
    WEIGHTS,
    Lane,
    WeightedLanes,
    retry_delay_seconds,
)
from meshwright_common.dispatch.ports import (
    DeadLetter,
    Delivery,
    DispatchUnavailable,
    QueueFull,
    Taking,
    Unroutable,
    WorkItem,
)
from meshwright_common.dispatch.rabbitmq_link import Link, Post, Unrouted, translated
from meshwright_common.dispatch.rabbitmq_topology import (
    DECLARE_TIMEOUT_SECONDS,
    Topology,
    routing_key,
)
from meshwright_common.errors import ServiceError
from meshwright_common.telemetry import trace_context
from meshwright_common.telemetry.logging import get_logger

PREFETCH: Final = 16
"""Unsettled items per consumer, times the lane's weight: as many as a taker claims at once."""
MOST_TOGETHER: Final = 256
"""Messages under way at a time."""
HOLD_SECONDS: Final = 1.0
"""Items that nobody asks for here go back after this."""
SILENCE_SECONDS: Final = 5.0
"""When so long nothing comes to those who wait, it is looked whether something waits for them. Seen
after a kill: a server that is just starting confirmed the consumers, brought them nothing, and did
not say so."""
AGAIN_SECONDS: Final = 0.5
"""Pause before a taker whose queues are away tries again."""
MAX_REASON_CHARACTERS: Final = 500
REASON_HEADER: Final = "meshwright-reason"

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _RabbitDelivery(Delivery):
    message: AbstractIncomingMessage
    arrived_at: float


class RabbitWorkQueue:
    """Work queues over one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def losses(self) -> int:
        return self._link.losses

    async def put(self, items: Sequence[WorkItem]) -> None:
        if not items:
            await self._link.probe()
        posts = [_work_post(self._link.topology, item) for item in items]
        for start in range(0, len(posts), MOST_TOGETHER):
            await self._publish(posts[start : start + MOST_TOGETHER], items[start:])

    async def _publish(self, posts: Sequence[Post], items: Sequence[WorkItem]) -> None:
        try:
            await self._link.publish(posts)
        except Unrouted as first:
            # Somebody may have deleted the queues while we were connected.
            await self._link.redeclare()
            left = [posts[position] for position in first.positions]
            try:
                await self._link.publish(left)
            except Unrouted as second:
                item = items[first.positions[second.positions[0]]]
                raise Unroutable(kind=item.kind) from second

    @contextlib.asynccontextmanager
    async def taking(self) -> AsyncIterator[Taking]:
        taking = _RabbitTaking(self._link)
        # house: naked-task: ended and awaited below; a group would wrap the block's errors
        keeping = asyncio.create_task(taking.keep_subscribed(), name="dispatch-taking")
        try:
            yield taking
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def dead_letters(self, most: int) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        async with self._link.channel() as channel:
            with translated():
                queue = await channel.get_queue(self._link.topology.dead_letter_queue, ensure=False)
                while len(found) < most:
                    message = await queue.get(fail=False)
                    if message is None:
                        break
                    found.append(_dead_letter(message))
                    await message.ack()
        return found


class _RabbitTaking:
    """Consumers of all queues on a channel of their own."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lanes = WeightedLanes()
        self._held: dict[Lane, deque[_RabbitDelivery]] = {lane: deque() for lane in Lane}
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._subscribed = False
        self._takers = 0
        self._takes = 0
        self._unsettled: set[Delivery] = set()
        self._heard_at = 0.0

    # --- taking and settling ---------------------------------------------------------------------

    async def take(self, most: int) -> Sequence[Delivery]:
        if not self._takers:
            self._heard_at = time.monotonic()
        self._takers += 1
        self._takes += 1
        self._wanted.set()
        try:
            while True:
                if self._subscribed and (taken := self._taken(most)):
                    return taken
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._takers -= 1

    def _taken(self, most: int) -> list[_RabbitDelivery]:
        shares = self._lanes.shares({lane: len(held) for lane, held in self._held.items()}, most)
        taken = [self._held[lane].popleft() for lane, count in shares.items() for _ in range(count)]
        self._unsettled.update(taken)
        return taken

    async def ack(self, deliveries: Collection[Delivery]) -> None:
        self._unsettled.difference_update(deliveries)
        with contextlib.suppress(*CONNECTION_EXCEPTIONS):
            for delivery in deliveries:
                message = _message_of(delivery)
                await message.channel.basic_ack(message.delivery_tag or 0, wait=False)

    async def retry(self, delivery: Delivery, reason: str) -> None:
        item, topology = delivery.item, self._link.topology
        if item.attempt >= MAX_RETRIES:
            await self.reject(delivery, f"failed {MAX_RETRIES + 1} times: {reason}")
            return
        again = replace(item, attempt=item.attempt + 1)
        delay = retry_delay_seconds(again.attempt)
        message = _message(again, expires_in_seconds=delay)
        key = routing_key(again.kind, again.lane)
        await self._hand_over(delivery, Post(topology.retry(again.attempt), key, message))

    async def reject(self, delivery: Delivery, reason: str) -> None:
        message = _message_of(delivery)
        await self._hand_over(delivery, _dead_post(self._link.topology, message, reason))

    async def _hand_over(self, delivery: Delivery, post: Post) -> None:
        """Store the successor, then settle. When that fails, the item comes again by itself."""
        try:
            await self._link.publish([post])
        except (Unrouted, QueueFull, DispatchUnavailable) as error:
            logger.warning("dispatch_not_handed_over", error=str(error))
            self._unsettled.discard(delivery)
            await _put_back(_message_of(delivery))
        else:
            await self.ack([delivery])

    # --- staying subscribed ----------------------------------------------------------------------

    async def keep_subscribed(self) -> None:
        """Consume for as long as somebody takes, on a new channel when one is lost."""
        while True:
            try:
                async with self._link.channel() as channel:
                    await self._work_on(channel)
                # Closed, or its queues were deleted: make sure that they are there.
                await self._link.redeclare()
            except ServiceError as error:
                logger.info("dispatch_taking_interrupted", reason=error.reason)
                await asyncio.sleep(AGAIN_SECONDS)
            finally:
                self._unsettled.clear()
                for held in self._held.values():
                    held.clear()

    async def _work_on(self, channel: AbstractChannel) -> None:
        """Consume on this channel, with pauses, until it is lost."""
        lost = asyncio.Event()
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())
        while not lost.is_set():
            await _first_of(self._wanted, lost)
            with translated():
                consumers = await self._consume(channel)
            while not lost.is_set():
                takes = self._takes
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HOLD_SECONDS):
                        await lost.wait()
                if takes == self._takes and not self._takers and any(self._held.values()):
                    break
                await self._give_back(time.monotonic() - HOLD_SECONDS)
                await self._look_for_forgotten(channel, [queue.name for queue, _ in consumers])
            if not lost.is_set():
                self._wanted.clear()
                with translated():
                    for queue, tag in consumers:
                        await queue.cancel(tag)
                await self._give_back(time.monotonic())

    async def _look_for_forgotten(self, channel: AbstractChannel, names: Sequence[str]) -> None:
        """Raises: DispatchUnavailable when items wait in these queues, and takers wait for them.

        Not while a taker has unsettled items: then it may be given no more.
        """
        now = time.monotonic()
        if not self._takers or self._unsettled or now < self._heard_at + SILENCE_SECONDS:
            return
        self._heard_at = now
        with translated():
            for name in names:
                queue = await channel.declare_queue(
                    name, passive=True, timeout=DECLARE_TIMEOUT_SECONDS
                )
                if queue.declaration_result.message_count:
                    logger.warning("dispatch_consumer_forgotten", queue=name)
                    raise DispatchUnavailable("The work queues bring us nothing.")

    async def _consume(self, channel: AbstractChannel) -> list[tuple[AbstractQueue, str]]:
        consumers: list[tuple[AbstractQueue, str]] = []
        # Nothing is taken before all lanes are there: the first one would have it all.
        self._subscribed = False
        for lane in Lane:
            await channel.set_qos(
                prefetch_count=PREFETCH * WEIGHTS[lane], timeout=DECLARE_TIMEOUT_SECONDS
            )
            for kind in self._link.topology.kinds:
                name = self._link.topology.work_queue(kind, lane)
                queue = await channel.get_queue(name, ensure=False)
                tag = await queue.consume(self._receive, timeout=DECLARE_TIMEOUT_SECONDS)
                consumers.append((queue, tag))
        self._subscribed = True
        self._arrived.set()
        return consumers

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        try:
            item = bodies.decode(message.body, trace=_trace_of(message))
        except bodies.ItemMalformed as error:
            await self._bury(message, str(error))
            return
        self._heard_at = time.monotonic()
        delivery = _RabbitDelivery(item, bool(message.redelivered), message, self._heard_at)
        self._held[item.lane].append(delivery)
        if self._subscribed:
            self._arrived.set()

    async def _bury(self, message: AbstractIncomingMessage, reason: str) -> None:
        logger.warning("dispatch_item_malformed", reason=reason)
        try:
            await self._link.publish([_dead_post(self._link.topology, message, reason)])
        except (Unrouted, QueueFull, DispatchUnavailable):
            await _put_back(message)
        else:
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):
                await message.ack()

    async def _give_back(self, arrived_before: float) -> None:
        """Put what came before and was not taken at the end of its queue, as new: returned by
        hand, it would count as a failed delivery, and end as a dead letter of busy takers.
        """
        stale: list[_RabbitDelivery] = []
        for held in self._held.values():
            while held and held[0].arrived_at <= arrived_before:
                stale.append(held.popleft())
        if not stale:
            return
        try:
            await self._link.publish([_again(self._link.topology, one) for one in stale])
        except (Unrouted, QueueFull, DispatchUnavailable):
            for one in stale:
                await _put_back(one.message)
        else:
            await self.ack(stale)


async def _first_of(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    # house: naked-task: both ended below
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _message_of(delivery: Delivery) -> AbstractIncomingMessage:
    assert isinstance(delivery, _RabbitDelivery)  # noqa: S101 - we gave it out
    return delivery.message


async def _put_back(message: AbstractIncomingMessage) -> None:
    with contextlib.suppress(*CONNECTION_EXCEPTIONS):
        await message.nack(requeue=True)


def _work_post(topology: Topology, item: WorkItem) -> Post:
    message = _message(item, expires_in_seconds=item.expires_in_seconds)
    return Post(topology.exchange, routing_key(item.kind, item.lane), message)


def _again(topology: Topology, delivery: _RabbitDelivery) -> Post:
    # The time it is good for begins anew: that is the putter's to watch, too.
    expiration = delivery.message.expiration
    message = _message(
        delivery.item,
        expires_in_seconds=expiration if isinstance(expiration, int | float) else None,
    )
    return Post(topology.exchange, routing_key(delivery.item.kind, delivery.item.lane), message)


def _message(item: WorkItem, *, expires_in_seconds: float | None) -> Message:
    return Message(
        bodies.encode(item),
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=_headers_of(item.trace),
        expiration=expires_in_seconds,
    )


def _headers_of(trace: str) -> HeadersType | None:
    traceparent, tracestate = kept_trace.parted(trace)
    if not traceparent:
        return None
    if not tracestate:
        return {"traceparent": traceparent}
    return {"traceparent": traceparent, "tracestate": tracestate}


def _trace_of(message: AbstractIncomingMessage) -> str:
    named = (str(message.headers.get(name, "")) for name in ("traceparent", "tracestate"))
    return kept_trace.joined(*trace_context.taken(*named))


def _dead_post(topology: Topology, message: AbstractIncomingMessage, reason: str) -> Post:
    dead = Message(
        message.body,
        content_type=message.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={REASON_HEADER: reason[:MAX_REASON_CHARACTERS]},
    )
    return Post(topology.dead_letter_exchange, message.routing_key or "", dead)


def _dead_letter(message: AbstractIncomingMessage) -> DeadLetter:
    try:
        item = bodies.decode(message.body)
    except bodies.ItemMalformed:
        item = None
    return DeadLetter(item, _reason(message), message.body)


def _reason(message: AbstractIncomingMessage) -> str:
    given = message.headers.get(REASON_HEADER)
    if isinstance(given, str):
        return given
    deaths = message.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return str(deaths[0].get("reason", ""))
    return ""
