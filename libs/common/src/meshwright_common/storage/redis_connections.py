"""Connections of redis-py that lose no cancellation, and none of which outlives its client.

Two traps. The driver writes each command under `asyncio.wait_for`: that is a task each time, and
until Python 3.12 it loses a cancellation which comes as the write ends, and the task goes on as if
nobody had left. So commands are written here, under `asyncio.timeout`. And closing a client closes
what is open at that moment: a command that is just connecting, or that repeats itself because its
connection was closed, opens one afterwards that nobody closes.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, cast
from weakref import WeakSet

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError, TimeoutError


@contextlib.asynccontextmanager
async def closing(client: Redis | RedisCluster) -> AsyncIterator[None]:
    """Close `client` at the end of the block with every connection that it has opened in there.

    From then on it opens no more: its commands raise the driver's ConnectionError. A cancellation
    while it is being closed leaves none open either.
    """
    opened = _Opened()
    _let_open(client, opened)
    try:
        yield
    finally:
        opened.client_is_closed = True
        try:
            await client.aclose()
        finally:
            await opened.disconnect()


class _Opened:
    """The connections of one client, and whether there may be more."""

    def __init__(self) -> None:
        self.connections: WeakSet[AbstractConnection] = WeakSet()
        self.client_is_closed = False

    async def disconnect(self) -> None:
        # Waits for nothing, so that no cancellation comes between two of them.
        for one in tuple(self.connections):
            await one.disconnect(nowait=True)


def _let_open(client: Redis | RedisCluster, opened: _Opened) -> None:
    """Make the connections that `client` opens from now on those of this module."""
    if isinstance(client, Redis):
        pool = client.connection_pool
        pool.connection_class = _HEEDING[pool.connection_class]
        pool.connection_kwargs["opened"] = opened
        return
    nodes = client.nodes_manager
    # What is found out about a cluster is opened by the first, what the settings name is there.
    arguments = nodes.connection_kwargs
    arguments["connection_class"] = heeding = _HEEDING[arguments["connection_class"]]
    arguments["opened"] = opened
    for node in nodes.startup_nodes.values():
        node.connection_class = cast("type[Connection]", heeding)
        node.connection_kwargs["opened"] = opened


class _Heeding(AbstractConnection):
    def __init__(self, *, opened: _Opened, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._opened = opened
        opened.connections.add(self)

    async def _connect(self) -> None:
        self._refuse_when_closed()
        await super()._connect()  # type: ignore[no-untyped-call, safe-super]
        try:
            self._refuse_when_closed()
        except ConnectionError:
            await self.disconnect(nowait=True)
            raise

    def _refuse_when_closed(self) -> None:
        if self._opened.client_is_closed:
            raise ConnectionError("the client has been closed")

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        writer = self._writer
        if writer is None:
            # Closing has taken it meanwhile.
            self._refuse_when_closed()
            raise ConnectionError("the connection was closed")
        if isinstance(command, str):
            command = command.encode()
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except builtins.TimeoutError:
            await self.disconnect(nowait=True)
            raise TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # What was not written whole leaves nothing that the next command could use.
            await self.disconnect(nowait=True)
            raise


class _HeedingTcp(_Heeding, Connection):
    pass


class _HeedingTls(_Heeding, SSLConnection):
    pass


class _HeedingUnix(_Heeding, UnixDomainSocketConnection):
    pass


_HEEDING: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _HeedingTcp,
    SSLConnection: _HeedingTls,
    UnixDomainSocketConnection: _HeedingUnix,
}
