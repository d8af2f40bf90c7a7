"""The open connections of this process, one a server: made when needed, shared by its calls."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from meshwright_common.clock import Clock
from meshwright_common.egress import EgressClient
from meshwright_tool_exec.adapters.mcp_credentials import Credentials
from meshwright_tool_exec.adapters.mcp_failures import AnswerLost, SessionGone
from meshwright_tool_exec.domain.errors import McpServerUnavailable, OutcomeUnknown
from meshwright_tool_exec.domain.mcp_servers import (
    Credential,
    McpServer,
    Offer,
    PinnedTool,
    Program,
    ServerKey,
)
from meshwright_tool_exec.domain.models import Effect, ToolOutput

if TYPE_CHECKING:
    from meshwright_tool_exec.adapters.mcp_session import McpSession

IDLE_SECONDS: Final = 60.0
"""After its last call a connection that nobody keeps is closed."""
FAILED_SECONDS: Final = 1.0
"""Calls do not try again so soon to open a connection that could not be opened."""
CLOSE_SECONDS: Final = 5.0
"""How long connections may take to end in good order, all together."""
_LOUD: Final = ("mcp", "client", "httpx2", "httpcore2")
"""Loggers of libraries that write down what is said: requests, session ids, addresses."""


@dataclass(slots=True)
class _Line:
    """The connection to one generation of a server."""

    session: McpSession | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    used_at: float = 0.0
    failed_at: float = -FAILED_SECONDS
    failure: McpServerUnavailable | None = None
    is_retired: bool = False


class McpConnections:
    """Implements `Connections`. Made by `open_connections`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        egress: EgressClient,
        programs: Mapping[str, Program],
        credential: Callable[[McpServer], Awaitable[Credential | None]],
        clock: Clock,
    ) -> None:
        self._group = group
        self._egress = egress
        self._programs = programs
        self._credential = credential
        self._clock = clock
        self._lines: dict[tuple[ServerKey, str], _Line] = {}
        self._news: dict[ServerKey, asyncio.Event] = {}
        self._living: set[asyncio.Task[None]] = set()

    async def ask(self, server: McpServer) -> Offer:
        for _ in range(2):
            async with self._borrowed(server, is_patient=True) as (line, session):
                try:
                    return await session.offer()
                except SessionGone:
                    session.close()
                except McpServerUnavailable:
                    # Calls that are under way may still have their answers.
                    if line.users == 1:
                        session.close()
                    raise
        raise McpServerUnavailable("the MCP server ends each session at once")

    async def call(
        self, server: McpServer, tool: PinnedTool, arguments: dict[str, object]
    ) -> ToolOutput:
        for _ in range(2):
            async with self._borrowed(server) as (_line, session):
                try:
                    return await session.call(tool.offered_name, arguments)
                except SessionGone:
                    # It was not carried out: once more, in a session of now.
                    session.close()
                except McpServerUnavailable:
                    self.news(server.key).set()
                    raise
                except AnswerLost as error:
                    self.news(server.key).set()
                    if tool.effect is Effect.NON_IDEMPOTENT:
                        raise OutcomeUnknown from error
                    raise McpServerUnavailable(
                        "the MCP server did not answer the call to its end"
                    ) from error
        raise McpServerUnavailable("the MCP server ends each session at once")

    def news(self, key: ServerKey) -> asyncio.Event:
        return self._news.setdefault(key, asyncio.Event())

    def retain(self, servers: Sequence[McpServer], kept: Collection[ServerKey]) -> None:
        alive = {(server.key, server.generation) for server in servers}
        now = self._clock.monotonic()
        for place, line in list(self._lines.items()):
            line.is_retired = place not in alive
            idles = place[0] not in kept and now - line.used_at > IDLE_SECONDS
            if line.users == 0 and (line.is_retired or idles):
                self._drop(place, line)
        keys = {server.key for server in servers}
        for key in self._news.keys() - keys - set(kept):
            del self._news[key]

    async def close(self) -> None:
        """Close all connections, those in use as well; what takes too long is cut off."""
        for place, line in list(self._lines.items()):
            self._drop(place, line)
        if self._living:
            await asyncio.wait(set(self._living), timeout=CLOSE_SECONDS)
        for task in self._living:
            task.cancel()

    @asynccontextmanager
    async def _borrowed(
        self, server: McpServer, *, is_patient: bool = False
    ) -> AsyncIterator[tuple[_Line, McpSession]]:
        """Give the connection; it stays open meanwhile, whatever becomes of the server here."""
        place = server.key, server.generation
        line = self._lines.setdefault(place, _Line())
        line.users += 1
        try:
            yield line, await self._session(server, line, is_patient=is_patient)
        finally:
            line.users -= 1
            line.used_at = self._clock.monotonic()
            if line.users == 0 and line.is_retired:
                self._drop(place, line)

    async def _session(self, server: McpServer, line: _Line, *, is_patient: bool) -> McpSession:
        async with line.opening:
            session = line.session
            if session is not None and session.is_usable:
                return session
            failed = self._clock.monotonic() - line.failed_at < FAILED_SECONDS
            if line.failure is not None and failed and not is_patient:
                raise McpServerUnavailable(line.failure.message)
            line.failure = None
            try:
                line.session = await self._opened(server)
            except McpServerUnavailable as error:
                line.failure, line.failed_at = error, self._clock.monotonic()
                self.news(server.key).set()
                raise
            return line.session

    async def _opened(self, server: McpServer) -> McpSession:
        sdk = await _sdk()
        program = self._programs.get(server.key.name) if server.is_operators else None
        credentials = Credentials(await self._credential(server), self._egress, self._clock)
        session: McpSession = sdk.McpSession(
            server, program, self._egress, credentials, self.news(server.key).set
        )
        # Not below the call that needs it first: others use it, too.
        task = self._group.create_task(session.run(), context=contextvars.Context())
        self._living.add(task)
        task.add_done_callback(self._living.discard)
        try:
            await session.opened()
        except BaseException:
            session.close()
            raise
        return session

    def _drop(self, place: tuple[ServerKey, str], line: _Line) -> None:
        if line.session is not None:
            line.session.close()
        self._lines.pop(place, None)


@asynccontextmanager
async def open_connections(
    egress: EgressClient,
    programs: Mapping[str, Program],
    credential: Callable[[McpServer], Awaitable[Credential | None]],
    clock: Clock,
) -> AsyncIterator[McpConnections]:
    """Give the connections; leaving the block ends them, in good order if that is soon.

    `credential` opens what a server is called with. `programs` are the operator's, by name.
    """
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    async with asyncio.TaskGroup() as group:
        connections = McpConnections(group, egress, programs, credential, clock)
        try:
            yield connections
        finally:
            await connections.close()


async def _sdk() -> Any:
    """Return the module that uses the SDK: half a second of imports, for who has servers."""
    return await asyncio.to_thread(
        importlib.import_module, "meshwright_tool_exec.adapters.mcp_session"
    )
