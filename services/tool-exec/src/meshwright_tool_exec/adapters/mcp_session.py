"""One connection to an MCP server, over the protocol's own SDK. Loaded when it is first needed.

The SDK's client lives in one task, from its handshake to its end, as its task groups want it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from meshwright_common.egress import EgressClient
from meshwright_common.errors import PermissionDenied, ServiceError
from meshwright_common.telemetry import propagation
from meshwright_common.telemetry.logging import get_logger
from meshwright_tool_exec.adapters.mcp_content import output_of
from meshwright_tool_exec.adapters.mcp_credentials import Credentials
from meshwright_tool_exec.adapters.mcp_failures import AnswerLost, SessionGone
from meshwright_tool_exec.adapters.mcp_http import Exchange, GuardedTransport, exchange
from meshwright_tool_exec.domain.errors import (
    McpServerUnauthorized,
    McpServerUnavailable,
    ToolFailed,
)
from meshwright_tool_exec.domain.mcp_pinning import readable
from meshwright_tool_exec.domain.mcp_servers import (
    MAX_TOOLS,
    McpServer,
    Offer,
    OfferedTool,
    Program,
    Transport,
)
from meshwright_tool_exec.domain.models import ToolOutput

ANSWER_SECONDS: Final = 10.0
"""How long the handshake and each listing may take."""
MAX_PAGES: Final = 20
HOST_OF_PROGRAMS: Final = "localhost"
"""Programs run on this machine: by this name they are told of traces."""
_ME: Final = types.Implementation(name="meshwright", version="1")
_REFUSED: Final = frozenset({401, 403})
_GONE: Final = 404
_FAULT: Final = 500
_LOST: Final = frozenset({types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT})
_logger = get_logger(__name__)


class McpSession:
    """A connection to `server`. `run` is its life; it is used beside it, by any number of calls.

    `tell` is called when the server says that its tools changed, and when the connection is lost.
    """

    def __init__(
        self,
        server: McpServer,
        program: Program | None,
        egress: EgressClient,
        credentials: Credentials,
        tell: Callable[[], None],
    ) -> None:
        self._server = server
        self._program = program
        self._egress = egress
        self._credentials = credentials
        self._tell = tell
        self._client: Client | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._host = (
            HOST_OF_PROGRAMS if program is not None else (urlsplit(server.url).hostname or "")
        ).lower()

    @property
    def is_usable(self) -> bool:
        """Whether calls may begin."""
        return self._client is not None and not self._closing.is_set()

    def close(self) -> None:
        """Let `run` end. Calls that are under way are lost."""
        self._closing.set()

    async def opened(self) -> None:
        """Wait for the handshake. Raises: McpServerUnavailable, McpServerUnauthorized."""
        await asyncio.shield(self._opened)

    async def run(self) -> None:
        """Open the connection and hold it until `close`, or until it is lost."""
        noted = Exchange()
        exchange.set(noted)
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(ANSWER_SECONDS):
                    client = await stack.enter_async_context(await self._made(stack))
                self._client = client
                self._opened.set_result(None)
                await self._hold(client)
        except BaseException as error:  # house: broad-except: whoever waits is told
            if not self._opened.done():
                # Whoever waits for it hears of it; nobody may.
                self._opened.set_exception(_failure(error, noted))
                self._opened.exception()
            if not isinstance(error, Exception):
                raise
            _logger.info(
                "mcp_connection_ended", server=self._server.key.name, cause=type(error).__name__
            )
        finally:
            self._client = None
            self._closing.set()
            self._tell()

    async def offer(self) -> Offer:
        """Ask for the tools. Raises: McpServerUnavailable, McpServerUnauthorized, SessionGone."""
        client = self._usable()
        noted = Exchange()
        exchange.set(noted)
        tools: list[OfferedTool] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for _ in range(MAX_PAGES):
                    page = await client.list_tools(cursor=cursor, cache_mode="bypass")
                    tools += map(_offered, page.tools)
                    cursor = page.next_cursor
                    if cursor is None or len(tools) >= MAX_TOOLS:
                        break
        except Exception as error:  # house: broad-except: whatever the SDK raises, nothing was done
            if self._is_over(error) or noted.status == _GONE:
                raise SessionGone from error
            raise _failure(error, noted) from error
        return Offer(str(client.protocol_version), tuple(tools))

    async def call(self, tool: str, arguments: dict[str, object]) -> ToolOutput:
        """Call a tool. Cancelling tells the server so.

        Raises: ToolFailed, McpServerUnavailable and SessionGone when nothing was done, AnswerLost.
        """
        client = self._usable()
        noted = Exchange()
        exchange.set(noted)
        meta: Any = propagation.headers_for(self._host) or None
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=tool, arguments=arguments, meta=meta)
        )
        try:
            # Not client.call_tool: that checks answers by the server's schema, which may be a trap,
            # and lets servers ask users back, which nobody here could answer.
            result = await client.session.send_request(request, types.CallToolResult)
        except MCPError as error:
            self._is_over(error)
            raise _call_failure(error, noted) from error
        except ValidationError as error:
            raise ToolFailed("the MCP server's answer is none of the protocol's") from error
        return output_of(result)

    def _is_over(self, error: Exception) -> bool:
        """Whether the whole connection ended, which then takes no more calls."""
        # Over streamable HTTP each request has a connection of its own.
        is_one_pipe = self._server.transport is not Transport.STREAMABLE_HTTP
        is_over = (
            is_one_pipe and isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED
        )
        if is_over:
            self.close()
        return is_over

    def _usable(self) -> Client:
        client = self._client
        if client is None or self._closing.is_set():
            raise SessionGone
        return client

    async def _made(self, stack: AsyncExitStack) -> Client:
        transport: AbstractAsyncContextManager[Any]
        if self._program is not None:
            program = self._program
            # What it writes there may be content: it has a log of its own for that.
            silence = stack.enter_context(os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
            parameters = StdioServerParameters(
                command=program.command,
                args=list(program.arguments),
                env=dict(program.environment),
            )
            transport = stdio_client(parameters, errlog=silence)
        elif self._server.transport is Transport.SSE:
            transport = sse_client(self._server.url, httpx_client_factory=self._http)
        else:
            http = await stack.enter_async_context(self._http())
            transport = streamable_http_client(self._server.url, http_client=http)
        return Client(
            transport,
            mode="legacy" if self._server.transport is Transport.SSE else "auto",
            cache=None,
            client_info=_ME,
            message_handler=self._hear,
            read_timeout_seconds=None,
        )

    def _http(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        transport = GuardedTransport(self._egress, self._credentials)
        return httpx2.AsyncClient(transport=transport, headers=headers, trust_env=False)

    async def _hold(self, client: Client) -> None:
        capabilities = client.server_capabilities.tools
        if client.session.discover_result is None or not (
            capabilities and capabilities.list_changed
        ):
            await self._closing.wait()
            return
        # Since 2026-07-28 changes are told to those who listen.
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(client))
            await self._closing.wait()
            listening.cancel()

    async def _listen(self, client: Client) -> None:
        try:
            async with client.listen(tools_list_changed=True) as subscription:
                async for _ in subscription:
                    self._tell()
        except Exception as error:  # house: broad-except: without it, tools are asked for at times
            _logger.info(
                "mcp_not_listening", server=self._server.key.name, cause=type(error).__name__
            )
        self._tell()

    async def _hear(self, message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._tell()


def _offered(tool: types.Tool) -> OfferedTool:
    hints = tool.annotations
    return OfferedTool(
        name=tool.name,
        description=tool.description or "",
        input_schema=tool.input_schema,
        is_read_only=bool(hints and hints.read_only_hint),
        is_idempotent=bool(hints and hints.idempotent_hint),
    )


def _call_failure(error: MCPError, noted: Exchange) -> Exception:
    """Return what a failed call is to the platform."""
    if noted.was_not_sent and noted.error is not None:
        return _unavailable(noted.error)
    if noted.status in _REFUSED:
        return McpServerUnauthorized("the MCP server refused the credential")
    if noted.status == _GONE:
        return SessionGone()
    if error.code in _LOST or noted.error is not None or noted.status >= _FAULT:
        return AnswerLost(error.message)
    return ToolFailed(readable(error.message, 2_000))


def _failure(error: BaseException, noted: Exchange) -> ServiceError:
    """Return why a server could not be asked."""
    if noted.status in _REFUSED:
        return McpServerUnauthorized(f"the MCP server refused the credential ({noted.status})")
    if noted.error is not None:
        return _unavailable(noted.error)
    found = (_described(one, noted) for one in _leaves(error))
    return next((one for one in found if one is not None), None) or McpServerUnavailable(
        f"the MCP server answered with status {noted.status}"
        if noted.status
        else "the connection was lost"
    )


def _described(error: BaseException, noted: Exchange) -> McpServerUnavailable | None:
    if isinstance(error, ServiceError):
        return _unavailable(error)
    if isinstance(error, FileNotFoundError | PermissionError):
        return McpServerUnavailable("the program cannot be run")
    if isinstance(error, TimeoutError):
        return McpServerUnavailable(f"no answer within {ANSWER_SECONDS:g} seconds")
    if isinstance(error, MCPError) and noted.status < _FAULT:
        return McpServerUnavailable(readable(error.message, 300))
    return None


def _unavailable(error: ServiceError) -> McpServerUnavailable:
    if isinstance(error, McpServerUnavailable):
        return error
    kind = "refused: " if isinstance(error, PermissionDenied) else ""
    return McpServerUnavailable(f"{kind}{error.message}")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
