"""Servers that break the protocol: nothing of it reaches further than their own calls (T2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from meshwright_common.clock import SystemClock
from meshwright_common.egress import EgressSettings, open_egress
from meshwright_common.ids import new_id
from meshwright_tool_exec.adapters.mcp_connections import McpConnections, open_connections
from meshwright_tool_exec.domain.errors import (
    McpServerUnauthorized,
    McpServerUnavailable,
    OutcomeUnknown,
    ToolFailed,
)
from meshwright_tool_exec.domain.mcp_servers import (
    BearerToken,
    Credential,
    McpServer,
    OauthClient,
    PinnedTool,
    ServerKey,
    Transport,
)
from meshwright_tool_exec.domain.models import Effect

pytestmark = pytest.mark.asyncio
METHOD_UNKNOWN: Final = -32601
SCHEMA: Final = {"type": "object"}
TOOL: Final = PinnedTool("s.t", "t", "", SCHEMA, Effect.NON_IDEMPOTENT, "", is_approved=True)


class Script:
    """A server of the handshake's generation whose tools answer as a test likes."""

    def __init__(self, answer: Callable[[dict[str, Any]], web.StreamResponse]) -> None:
        self.answer = answer
        self.sessions = 0
        self.seen: list[str] = []
        self.authorizations: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405)
        if request.path == "/token":
            self.seen.append("token")
            return web.json_response({"access_token": f"token-{len(self.seen)}"})
        message = json.loads(await request.read())
        method = message["method"]
        self.seen.append(method)
        self.authorizations.append(request.headers.get("authorization", ""))
        if "id" not in message:
            return web.Response(status=202)
        if method == "initialize":
            self.sessions += 1
            result: Any = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "script", "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": [{"name": "t", "inputSchema": SCHEMA}]}
        elif method == "tools/call":
            return self.answer(message)
        else:
            return replied(message, error={"code": METHOD_UNKNOWN, "message": "unknown"})
        answer = replied(message, result=result)
        answer.headers["mcp-session-id"] = f"session-{self.sessions}"
        return answer


def replied(message: dict[str, Any], **content: Any) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], **content})


@asynccontextmanager
async def speaking_to(
    script: Script, credential: Callable[[str], Credential | None] = lambda _: None
) -> AsyncIterator[tuple[McpConnections, McpServer]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server()
    url = f"http://127.0.0.1:{running.port}"
    server = McpServer(ServerKey(new_id(), "s"), Transport.STREAMABLE_HTTP, f"{url}/mcp", new_id())

    async def opened(_server: McpServer) -> Credential | None:
        return credential(url)

    allowed = EgressSettings(allowed_hosts=(f"127.0.0.1:{running.port}",))
    try:
        async with (
            open_egress(allowed, for_streams=True) as egress,
            open_connections(egress, {}, opened, SystemClock()) as connections,
        ):
            yield connections, server
    finally:
        await running.close()


async def test_an_error_an_odd_answer_and_one_that_is_too_large_fail_as_tools() -> None:
    answers: Iterator[Callable[[dict[str, Any]], web.StreamResponse]] = iter(
        [
            lambda message: replied(message, error={"code": -32000 - 50, "message": "no \x1btea"}),
            lambda message: replied(message, result={"what": "is this"}),
            lambda message: replied(
                message, result={"content": [{"type": "text", "text": "x" * 5_000_000}]}
            ),
            lambda message: replied(
                message, result={"content": [{"type": "text", "text": "fine"}]}
            ),
        ]
    )

    def in_turn(message: dict[str, Any]) -> web.StreamResponse:
        return next(answers)(message)

    async with speaking_to(Script(in_turn)) as (to, server):
        with pytest.raises(ToolFailed) as failed:
            await to.call(server, TOOL, {})
        assert "no  tea" == failed.value.message
        for _ in range(2):
            with pytest.raises(ToolFailed):
                await to.call(server, TOOL, {})
        output = await to.call(server, TOOL, {})
    assert "fine" == output.result


async def test_a_session_that_is_gone_is_made_anew_and_the_call_sent_once_more() -> None:
    script = Script(lambda _message: web.Response(status=404))

    def later(message: dict[str, Any]) -> web.StreamResponse:
        script.answer = lambda message: replied(message, result={"content": []})
        return web.Response(status=404)

    script.answer = later
    async with speaking_to(script) as (to, server):
        assert "" == (await to.call(server, TOOL, {})).result
    assert (2, 2) == (script.sessions, script.seen.count("tools/call"))


async def test_what_was_sent_and_not_answered_is_unknown_and_not_sent_again() -> None:
    script = Script(lambda _message: web.Response(status=500))
    async with speaking_to(script) as (to, server):
        with pytest.raises(OutcomeUnknown):
            await to.call(server, TOOL, {})
        assert 1 == script.seen.count("tools/call")
        repeatable = replace(TOOL, effect=Effect.READ_ONLY)
        with pytest.raises(McpServerUnavailable):
            await to.call(server, repeatable, {})


async def test_redirects_lead_nowhere_and_a_refused_credential_is_told() -> None:
    def away(_message: dict[str, Any]) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://169.254.169.254/latest")

    script = Script(away)
    async with speaking_to(script, lambda _: BearerToken("secret")) as (to, server):
        with pytest.raises(ToolFailed):
            await to.call(server, TOOL, {})
        assert {"Bearer secret"} == set(script.authorizations)
        script.answer = lambda _message: web.Response(status=401)
        with pytest.raises(McpServerUnauthorized):
            await to.call(server, TOOL, {})


async def test_a_token_of_an_oauth_client_is_fetched_and_renewed_when_it_is_refused() -> None:
    script = Script(lambda message: replied(message, result={"content": []}))
    handled = script.handle

    async def refusing_once(request: web.Request) -> web.StreamResponse:
        expired = request.headers.get("authorization") == "Bearer token-1"
        if expired and "tools/list" in script.seen:
            return web.Response(status=401)
        return await handled(request)

    script.handle = refusing_once  # type: ignore[method-assign]
    async with speaking_to(
        script, lambda url: OauthClient("id", "secret", f"{url}/token", ("read",))
    ) as (to, server):
        await to.ask(server)
        assert "" == (await to.call(server, TOOL, {})).result
    assert 2 == script.seen.count("token")
    assert script.authorizations[-1].startswith("Bearer token-")
