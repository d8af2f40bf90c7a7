"""Watching over servers: whether they answer, what they offer now, when they are tried again.

Each server of a tenant is kept by one replica, which holds a lease; the operator's servers are
kept by every replica for itself, because what it knows of them stands in no store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import structlog

from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_tool_exec.domain.errors import McpServerUnauthorized
from meshwright_tool_exec.domain.mcp_catalogue import Catalogue
from meshwright_tool_exec.domain.mcp_noting import Noting
from meshwright_tool_exec.domain.mcp_ports import Connections, ServerStore
from meshwright_tool_exec.domain.mcp_servers import ServerKey

LEASE_SECONDS: Final = 20.0
"""How long after a replica's death another one keeps its servers."""
LOOK_SECONDS: Final = 5.0
"""How often leases are renewed and taken."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0

_logger = structlog.get_logger(__name__)


class Keeping:
    """Keeps servers until cancelled."""

    def __init__(
        self,
        catalogue: Catalogue,
        connections: Connections,
        store: ServerStore,
        noting: Noting,
        *,
        probe_seconds: float,
    ) -> None:
        self._catalogue = catalogue
        self._connections = connections
        self._store = store
        self._noting = noting
        self._probe_seconds = probe_seconds
        self._keeper = new_id()
        self._kept: dict[ServerKey, asyncio.Task[None]] = {}
        self._generations: dict[ServerKey, str] = {}

    @property
    def kept(self) -> Collection[ServerKey]:
        """What is kept here now."""
        return tuple(self._kept)

    async def run(self) -> None:
        """Keep what is to be kept. An outage of the store is waited out."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    changed = self._catalogue.changed
                    with suppress(ServiceError):
                        self._take(group, await self._store.keep(self._keeper, LEASE_SECONDS))
                    self._connections.retain(self._catalogue.all(), self._kept.keys())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await changed.wait()
        finally:
            with suppress(ServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._store.leave(self._keeper)

    def _take(self, group: asyncio.TaskGroup, leased: Collection[ServerKey]) -> None:
        operators = {one.key for one in self._catalogue.all() if one.is_operators}
        wanted = operators | {key for key in leased if self._catalogue.get(key) is not None}
        for key in self._kept.keys() - wanted:
            self._kept.pop(key).cancel()
            self._generations.pop(key, None)
        for key in wanted:
            server = self._catalogue.get(key)
            generation = "" if server is None else server.generation
            if key not in self._kept or self._kept[key].done():
                self._kept[key] = group.create_task(self._keep(key))
            elif self._generations[key] != generation:
                self._connections.news(key).set()
            self._generations[key] = generation

    async def _keep(self, key: ServerKey) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        news = self._connections.news(key)
        while True:
            news.clear()
            server = self._catalogue.get(key)
            if server is None:
                return
            wait_seconds: float | None = self._probe_seconds
            try:
                await self._noting.ask(server)
                pause_seconds = FIRST_PAUSE_SECONDS
            except McpServerUnauthorized:
                # Another credential makes another generation, which is news.
                wait_seconds = None
            except Exception as error:  # house: broad-except: one broken server stops no other
                if not isinstance(error, ServiceError):
                    _logger.exception("mcp_server_broken", server=key.name)
                # A call that fails meanwhile is no reason to ask sooner.
                if await self._is_other(key, server.generation, pause_seconds):
                    pause_seconds = FIRST_PAUSE_SECONDS
                else:
                    pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await news.wait()

    async def _is_other(self, key: ServerKey, generation: str, seconds: float) -> bool:
        """Wait; return at once, and true, when the server is another one then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    changed = self._catalogue.changed
                    server = self._catalogue.get(key)
                    if server is None or server.generation != generation:
                        return True
                    await changed.wait()
        return False
