"""One connection to RabbitMQ that comes back by itself, with everything declared.

The driver's own robust connection restores what it remembers, one thing after the other, and does
not notice a queue that was deleted under it. This one makes all of it anew, from the topology.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AuthenticationError,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)

from meshwright_common.dispatch.ports import DispatchUnavailable, QueueFull
from meshwright_common.dispatch.rabbitmq_topology import Topology, declare
from meshwright_common.resilience.retry import Backoff
from meshwright_common.telemetry.logging import get_logger

CONNECT_TIMEOUT_SECONDS: Final = 5.0
CONFIRM_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 30
AGAIN: Final = Backoff(attempts=1, initial_seconds=0.5, maximum_seconds=4.0)
"""Between two tries to connect: whoever waits is back well within 10 s of the server."""

logger = get_logger(__name__)


class Unrouted(Exception):
    """No queue took a message: the positions of those that were returned."""

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(f"{len(positions)} messages were returned")
        self.positions = positions


class Post(NamedTuple):
    """A message and where it goes."""

    exchange: str
    routing_key: str
    message: aio_pika.Message


class Link:
    """A connection, made when first needed. `losses` counts how often the queues were found
    empty, or gone, when they need not have been.
    """

    def __init__(self, url: str, topology: Topology, *, name: str) -> None:
        self.topology = topology
        self.losses = 0
        self._url = url
        self._name = name
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._publishing: AbstractChannel | None = None
        self._failures = 0
        self._not_before = 0.0

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._publishing = self._connection, None, None
        if connection is not None:
            await _closed(connection)

    async def probe(self) -> None:
        """Raises: DispatchUnavailable; QueuesDiffer."""
        async with self._lock:
            await self._connected()

    async def redeclare(self) -> None:
        """Make again what somebody deleted. Raises: DispatchUnavailable; QueuesDiffer."""
        async with self.channel() as channel:
            with translated():
                await declare(channel, self.topology)
        self.losses += 1

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a channel for the block. Raises: DispatchUnavailable."""
        async with self._lock:
            connection = await self._connected()
        with translated():
            channel = connection.channel(publisher_confirms=False)
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await channel.initialize()
        try:
            yield channel
        finally:
            await _closed(channel)

    async def publish(self, posts: Sequence[Post], *, mandatory: bool = True) -> None:
        """Return when the queues have stored all of them.

        Raises: Unrouted, with those that no queue takes; QueueFull; DispatchUnavailable.
        """
        async with self._lock:
            await self._connected()
            channel = await self._publisher()
        try:
            with translated():
                async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                    outcomes = await asyncio.gather(
                        *(_publish(channel, post, mandatory=mandatory) for post in posts),
                        return_exceptions=True,
                    )
        except DispatchUnavailable:
            # Paused, blocked by an alarm, or gone without a word: begin anew next time.
            await self._give_up()
            raise
        _judge(outcomes)

    async def _publisher(self) -> AbstractChannel:
        if self._publishing is None or self._publishing.is_closed:
            assert self._connection is not None  # noqa: S101 - connected by the caller
            with translated():
                publishing = self._connection.channel(on_return_raises=True)
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    await publishing.initialize()
            self._publishing = publishing
        return self._publishing

    async def _connected(self) -> AbstractConnection:
        if self._connection is not None and _is_open(self._connection):
            return self._connection
        if time.monotonic() < self._not_before:
            raise DispatchUnavailable("The work queues cannot be reached now.")
        try:
            self._connection, waiting = await self._connect()
        except DispatchUnavailable:
            self._failures += 1
            self._not_before = time.monotonic() + AGAIN.delay_seconds(self._failures)
            raise
        self._publishing = None
        self._failures = 0
        if not waiting:
            # Perhaps they are new, or of a server that lost its data.
            self.losses += 1
        return self._connection

    async def _connect(self) -> tuple[AbstractConnection, int]:
        with translated():
            connection = await aio_pika.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_SECONDS,
                client_properties={"connection_name": self._name},
                heartbeat=HEARTBEAT_SECONDS,
            )
        try:
            with translated():
                async with connection.channel(publisher_confirms=False) as channel:
                    waiting = await declare(channel, self.topology)
        except BaseException:
            await _closed(connection)
            raise
        logger.info("dispatch_connected", name=self._name, waiting=waiting)
        return connection, waiting

    async def _give_up(self) -> None:
        async with self._lock:
            await self.close()


async def _publish(channel: AbstractChannel, post: Post, *, mandatory: bool) -> None:
    underlay = await channel.get_underlay_channel()
    await underlay.basic_publish(
        post.message.body,
        exchange=post.exchange,
        routing_key=post.routing_key,
        properties=post.message.properties,
        mandatory=mandatory,
        # Written, not waited for: what counts is the confirm. The driver's types leave it out.
        wait=False,  # type: ignore[call-arg]
    )


def _judge(outcomes: Sequence[object]) -> None:
    """Raise for what went wrong, the worst first."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures:
        if not isinstance(failure, DeliveryError):
            with translated():
                raise failure
    returned = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, PublishError)]
    if len(returned) < len(failures):
        raise QueueFull("A work queue is full.", retry_after_seconds=1.0)
    if returned:
        raise Unrouted(returned)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises for a server that is away into DispatchUnavailable."""
    try:
        yield
    except (AuthenticationError, ProbableAuthenticationError) as error:
        raise DispatchUnavailable("RabbitMQ refuses our login.") from error
    except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise DispatchUnavailable(
            "The work queues cannot be reached now.", cause=type(error).__name__
        ) from error
    except asyncio.CancelledError as error:
        # The driver cancels whoever waits for a connection that closes.
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise DispatchUnavailable("The connection to the work queues closed.") from error
        raise


def _is_open(connection: AbstractConnection) -> bool:
    # The driver's own `is_closed` only knows of closings that were asked for.
    transport = connection.transport
    return transport is not None and not transport.connection.is_closed


async def _closed(thing: AbstractConnection | AbstractChannel) -> None:
    """Close it, whatever state it is in, and wait for that only so long."""
    with contextlib.suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await thing.close(ConnectionAbortedError("closed here"))
