"""Agent statuses over a fan-out exchange: each listener has a queue of its own while it listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from meshwright_common.dispatch.rabbitmq_link import Link, Post, translated
from meshwright_common.dispatch.status import (
    MAX_WAITING,
    SUBSCRIBE_SECONDS,
    AgentStatus,
    Inbox,
    encode_status,
)
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.telemetry.logging import get_logger

AGAIN_SECONDS: Final = 0.5
STATUS_SECONDS: Final = 30.0
"""Nobody wants an older one."""

logger = get_logger(__name__)


class RabbitStatusBoard:
    """Statuses over one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def publish(self, status: AgentStatus) -> None:
        message = Message(
            encode_status(status), content_type="application/json", expiration=STATUS_SECONDS
        )
        # Not mandatory: perhaps nobody listens.
        await self._link.publish(
            [Post(self._link.topology.status_exchange, "", message)], mandatory=False
        )

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[AgentStatus]]:
        inbox, listening = Inbox(), asyncio.Event()
        # house: naked-task: ended and awaited below; a group would wrap the block's errors
        hearing = asyncio.create_task(self._hear(inbox, listening), name="agent-status")
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await listening.wait()
        except TimeoutError:
            raise Unavailable("agent statuses cannot be heard now") from None
        else:
            yield inbox.statuses()
        finally:
            hearing.cancel()
            await asyncio.wait({hearing})

    async def _hear(self, inbox: Inbox, listening: asyncio.Event) -> None:
        while True:
            try:
                async with self._link.channel() as channel:
                    with translated():
                        lost = await self._consume(channel, inbox)
                    listening.set()
                    await lost.wait()
            except ServiceError as error:
                logger.info("agent_status_interrupted", reason=error.reason)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _consume(self, channel: AbstractChannel, inbox: Inbox) -> asyncio.Event:
        async def receive(message: AbstractIncomingMessage) -> None:
            inbox.receive(message.body)

        lost = asyncio.Event()
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())
        queue = await channel.declare_queue(
            exclusive=True, auto_delete=True, arguments={"x-max-length": MAX_WAITING}
        )
        await queue.bind(self._link.topology.status_exchange)
        await queue.consume(receive, no_ack=True)
        return lost
