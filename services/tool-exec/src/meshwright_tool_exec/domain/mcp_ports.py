"""What MCP servers need from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshwright_tool_exec.domain.mcp_servers import (
    Credential,
    McpServer,
    Offer,
    PinnedTool,
    ServerKey,
)
from meshwright_tool_exec.domain.models import ToolOutput


@dataclass(frozen=True, slots=True)
class NewServer:
    """A server as somebody adds it. `credential` None keeps that of a server at the same origin."""

    server: McpServer
    credential: Credential | None = field(repr=False)
    replaces: bool
    request_id: str = ""


class ServerStore(Protocol):
    """Keeps the servers of tenants. Each change reaches the catalogues of all replicas."""

    async def add(self, new: NewServer, *, most: int) -> McpServer:
        """Commit a server with its audit record, or return what the same request id made.

        Raises: McpServerExists, TooManyServers when the tenant has `most`, RequestIdReused.
        """
        ...

    async def note(
        self, server: McpServer, change: Callable[[McpServer], McpServer], *, act: str = ""
    ) -> McpServer:
        """Commit what `change` makes of the server as it is stored, and return that.

        What was stored under another generation is left alone and returned. `act` names an audit
        record; "" for none. Raises: McpServerNotFound, and what `change` raises.
        """
        ...

    async def remove(self, key: ServerKey) -> None:
        """Commit that the server is gone, with its audit record. An absent one is no error."""
        ...

    async def keep(self, keeper: str, seconds: float) -> Collection[ServerKey]:
        """Take what nobody keeps, for `seconds`, and go on with what `keeper` has; return all.

        Who keeps a server watches its health, for all replicas.
        """
        ...

    async def leave(self, keeper: str) -> None:
        """Let others keep what `keeper` kept, at once."""
        ...

    async def refresh(self) -> None:
        """Read into the catalogue what was committed until now. Raises: Unavailable."""
        ...


class Connections(Protocol):
    """Speaks to servers."""

    async def ask(self, server: McpServer) -> Offer:
        """Return what a server offers now. Raises: McpServerUnavailable, McpServerUnauthorized."""
        ...

    async def call(
        self, server: McpServer, tool: PinnedTool, arguments: dict[str, object]
    ) -> ToolOutput:
        """Call a tool. Cancelling stops it at the server (notifications/cancelled).

        Raises: McpServerUnavailable when nothing was done, ToolFailed when the tool says so,
        OutcomeUnknown when the call was sent and no answer came, unless the tool only reads or is
        idempotent: then McpServerUnavailable.
        """
        ...

    def news(self, key: ServerKey) -> asyncio.Event:
        """Return what is set when a server should be asked anew: its tools changed, it was lost."""
        ...

    def retain(self, servers: Sequence[McpServer], kept: Collection[ServerKey]) -> None:
        """Close what is for no server of these, once its calls end, and what idles unless kept."""
        ...
