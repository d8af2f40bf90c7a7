"""What a server's answer, or its silence, makes of what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from meshwright_common.clock import Clock
from meshwright_tool_exec.domain.errors import McpServerUnauthorized, McpServerUnavailable
from meshwright_tool_exec.domain.mcp_catalogue import Catalogue
from meshwright_tool_exec.domain.mcp_pinning import pin, readable
from meshwright_tool_exec.domain.mcp_ports import Connections, ServerStore
from meshwright_tool_exec.domain.mcp_servers import Failure, McpServer, Offer, State

NOTED_AGAIN: Final = timedelta(minutes=5)
"""An answer that changes nothing is written down so often."""
MAX_FAILURE: Final = 500
"""Characters of a failure's message."""


class Noting:
    """Asks servers, and notes what comes of it where all replicas see it."""

    def __init__(
        self, catalogue: Catalogue, connections: Connections, store: ServerStore, clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._connections = connections
        self._store = store
        self._clock = clock

    async def ask(self, server: McpServer, approve: Collection[str] = ()) -> McpServer:
        """Ask a server what it offers, and return it as it is known then.

        Raises: McpServerUnavailable, McpServerUnauthorized, both noted; DefinitionNotOffered;
        McpServerNotFound when it was removed meanwhile; Unavailable.
        """
        try:
            offer = await self._connections.ask(server)
        except McpServerUnavailable as error:
            is_unauthorized = isinstance(error, McpServerUnauthorized)
            failure = Failure(readable(error.message, MAX_FAILURE), is_unauthorized)
            await self._note(server, lambda known: with_failure(known, failure))
            raise
        now = self._clock.now()
        return await self._note(
            server,
            lambda known: with_offer(known, offer, approve, now),
            act="mcp_server.approved" if approve else "",
        )

    async def _note(
        self, server: McpServer, change: Callable[[McpServer], McpServer], *, act: str = ""
    ) -> McpServer:
        if server.is_operators:
            known = self._catalogue.get(server.key) or server
            noted = change(known)
            self._catalogue.put_operators(noted)
            return noted
        noted = await self._store.note(server, change, act=act)
        await self._store.refresh()
        return noted


def with_offer(
    server: McpServer, offer: Offer, approve: Collection[str], now: datetime
) -> McpServer:
    """Return the server after an answer. Raises: DefinitionNotOffered."""
    after = replace(
        server,
        state=State.READY,
        failure="",
        protocol_version=offer.protocol_version,
        tools=pin(server, offer.tools, approve),
        # What the operator's offers is approved by naming it in the configuration.
        approves_first=server.is_operators,
    )
    seen = server.refresh_time
    if after == server and seen is not None and now - seen < NOTED_AGAIN:
        return server
    return replace(after, refresh_time=now)


def with_failure(server: McpServer, failure: Failure) -> McpServer:
    """Return the server after a failure: its tools stay."""
    state = State.UNAUTHORIZED if failure.is_unauthorized else State.UNAVAILABLE
    return replace(server, state=state, failure=failure.message)
