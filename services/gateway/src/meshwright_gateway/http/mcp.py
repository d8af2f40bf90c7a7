"""MCP servers whose tools agents use: as a list, one by one, and as a stream of how they do."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Path

from meshwright.tool_exec.v1 import mcp_server_pb2
from meshwright.tool_exec.v1 import mcp_service_pb2 as pb
from meshwright_common.context import bind
from meshwright_common.errors import DeadlineExceeded, NotFound, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http.chat import event_stream
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, PageSize, PageToken
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.http.schemas import mcp as schemas
from meshwright_gateway.http.sse import event_frame
from meshwright_gateway.http.turn_feed import PAUSES_SECONDS
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import mcp, values

if TYPE_CHECKING:
    from meshwright.tool_exec.v1.mcp_service_pb2_grpc import McpServiceAsyncStub

ServerName = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,32}$")]
_HEALTHY_SECONDS: Final = 10.0
"""A call that lived so long did not fail: it met its deadline, or its process was stopped."""


class McpServerNotFound(NotFound):
    """The tenant has no such server, and the operator neither."""

    reason = "MCP_SERVER_NOT_FOUND"
    text = "there is no MCP server named {server}"


class McpStream:
    """The MCP servers of the caller's tenant as they are, and as they change."""

    def __init__(self, peers: Peers, answers: LongAnswers) -> None:
        self._servers = peers.mcp
        self._answers = answers

    async def follow(self, exchange: Exchange) -> None:
        """Send each server and each change, until the client leaves."""
        stream = event_stream(exchange, self._answers, opens_early=True)
        stream.endless = True
        with bind(exchange.call_context(None)):
            async with stream, aclosing(_followed(self._servers)) as servers:
                async for server in servers:
                    view = mcp.server_with_tools(server).model_dump(mode="json")
                    await stream.send(event_frame("mcp_server", view))


def mcp_router(stub: "McpServiceAsyncStub") -> APIRouter:
    """Return the routes about MCP servers."""
    router = APIRouter(prefix=f"{API_PREFIX}/mcp/servers", tags=["mcp"])

    @router.get("")
    async def list_mcp_servers(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.McpServerList:
        """MCP servers that the tenant may use, by name, the operator's included."""
        answer = await stub.ListServers(
            pb.ListServersRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.McpServerList(
            servers=[mcp.server_view(one) for one in answer.servers],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def add_mcp_server(
        body: schemas.McpServerCreation, idempotency_key: IdempotencyKey = ""
    ) -> schemas.McpServerWithTools:
        """Add a server and ask it what it offers. It is kept also when it does not answer."""
        answer = await stub.AddServer(mcp.add_request(body, idempotency_key))
        return mcp.server_with_tools(answer.server)

    @router.get("/{name}")
    async def get_mcp_server(name: ServerName) -> schemas.McpServerWithTools:
        """One server with its tools."""
        request = pb.WatchServersRequest(names=[name])
        async with open_stream(stub.WatchServers(request)) as answers:
            async for answer in answers:
                if answer.HasField("server"):
                    return mcp.server_with_tools(answer.server)
                break
        raise McpServerNotFound(server=name)

    @router.post("/{name}/refresh")
    async def refresh_mcp_server(
        name: ServerName, body: schemas.McpServerRefresh
    ) -> schemas.McpServerWithTools:
        """Ask a server anew what it offers, and approve definitions of tools."""
        answer = await stub.RefreshServer(
            pb.RefreshServerRequest(name=name, approve_definitions=body.approve_definitions)
        )
        return mcp.server_with_tools(answer.server)

    @router.delete("/{name}", status_code=204)
    async def remove_mcp_server(name: ServerName) -> None:
        """Remove a server. Running calls end as they began; removing an absent one succeeds."""
        await stub.RemoveServer(pb.RemoveServerRequest(name=name))

    return router


async def _followed(
    stub: "McpServiceAsyncStub",
) -> AsyncGenerator[mcp_server_pb2.McpServer, None]:
    """Yield servers over as many calls as it takes; a new call tells all of them again."""
    loop = asyncio.get_running_loop()
    failures, followed = 0, False
    while True:
        began = loop.time()
        try:
            async with open_stream(stub.WatchServers(pb.WatchServersRequest())) as answers:
                async for answer in answers:
                    followed = True
                    if answer.HasField("server"):
                        yield answer.server
        except (DeadlineExceeded, Unavailable):
            if loop.time() - began > _HEALTHY_SECONDS:
                failures = 0
            if not followed or failures == len(PAUSES_SECONDS):
                raise
        await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
        failures += 1
