"""Connections of redis-py that lose no cancellation.

Trap: the driver writes each command under `asyncio.wait_for`. Until Python 3.12 that loses a
cancellation which comes as the write ends, and the task goes on as if nobody had left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, cast

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)


def heed_cancellation(client: ConnectionPool | RedisCluster) -> None:
    """Make the connections that `client` opens from now on such that lose no cancellation."""
    if isinstance(client, ConnectionPool):
        client.connection_class = _HEEDING[client.connection_class]
        return
    nodes = client.nodes_manager
    # What is found out about a cluster is opened by the first, what the settings name is there.
    arguments = nodes.connection_kwargs
    arguments["connection_class"] = heeding = _HEEDING[arguments["connection_class"]]
    for node in nodes.startup_nodes.values():
        node.connection_class = cast("type[Connection]", heeding)


class _Heeding(AbstractConnection):
    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        await super().send_packed_command(command, check_health)
        if task is not None and task.cancelling() > before:
            # As the driver does when it is told: nobody will read the answer.
            await self.disconnect(nowait=True)
            raise asyncio.CancelledError


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
