"""Adding, refreshing and removing MCP servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from typing import Final

from meshwright_tool_exec.domain.errors import McpServerUnavailable, OperatorsServer
from meshwright_tool_exec.domain.mcp_catalogue import Catalogue
from meshwright_tool_exec.domain.mcp_noting import Noting
from meshwright_tool_exec.domain.mcp_ports import NewServer, ServerStore
from meshwright_tool_exec.domain.mcp_servers import McpServer, ServerKey, State

FIRST_ANSWER_SECONDS: Final = 10.0
"""How long adding waits for the server's first answer."""


class McpAdministration:
    """The servers of tenants. What comes here was checked for its shape."""

    def __init__(
        self, catalogue: Catalogue, store: ServerStore, noting: Noting, *, most_servers: int
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._noting = noting
        self._most_servers = most_servers

    def of(self, tenant_id: str, names: Collection[str] = ()) -> Sequence[McpServer]:
        """Return the servers that a tenant may use, by name."""
        return self._catalogue.of(tenant_id, names)

    async def add(self, new: NewServer) -> McpServer:
        """Keep a server and ask it what it offers; one that does not answer is kept, too.

        Raises: OperatorsServer, McpServerExists, TooManyServers, RequestIdReused, Unavailable.
        """
        key = new.server.key
        if self._catalogue.is_operators(key.name):
            raise OperatorsServer(server=key.name)
        added = await self._store.add(new, most=self._most_servers)
        await self._store.refresh()
        if added.state is not State.CONNECTING:
            return added
        try:
            async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                return await self._noting.ask(added)
        except (McpServerUnavailable, TimeoutError):
            return self._catalogue.get(key) or added

    async def refresh(self, tenant_id: str, name: str, approve: Collection[str]) -> McpServer:
        """Ask a server anew, and approve definitions.

        Raises: McpServerNotFound, McpServerUnavailable, DefinitionNotOffered; OperatorsServer when
        something of the operator's is to be approved.
        """
        server = self._catalogue.find(tenant_id, name)
        if approve and server.is_operators:
            raise OperatorsServer(server=name)
        return await self._noting.ask(server, approve)

    async def remove(self, tenant_id: str, name: str) -> None:
        """Remove a server; calls that run end as they began. Raises: OperatorsServer."""
        if self._catalogue.is_operators(name):
            raise OperatorsServer(server=name)
        await self._store.remove(ServerKey(tenant_id, name))
        await self._store.refresh()

    async def watch(
        self, tenant_id: str, names: Collection[str] = ()
    ) -> AsyncIterator[tuple[McpServer | None, bool]]:
        """Yield each server, then each change, for ever. Slow readers get the newest state only.

        The second value is true from the moment when all were yielded for the first time: with the
        last of them, or alone when there are none.
        """
        seen: dict[str, McpServer] = {}
        is_complete = False
        while True:
            changed = self._catalogue.changed
            now = {server.key.name: server for server in self._catalogue.of(tenant_id, names)}
            fresh = [server for name, server in now.items() if seen.get(name) != server]
            fresh += [
                replace(gone, state=State.REMOVED, tools=())
                for name, gone in seen.items()
                if name not in now
            ]
            seen = now
            for position, server in enumerate(fresh, start=1):
                is_complete = is_complete or position == len(fresh)
                yield server, is_complete
            if not is_complete:
                is_complete = True
                yield None, True
            await changed.wait()
