"""McpService: protobuf in, domain call, protobuf out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.tool_exec.v1 import mcp_service_pb2 as pb
from meshwright.tool_exec.v1.mcp_service_pb2_grpc import McpServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_common.context import principal
from meshwright_common.egress import EgressClient
from meshwright_common.errors import invalid
from meshwright_tool_exec import wire_mcp as wire
from meshwright_tool_exec.domain.mcp_administration import McpAdministration

MAX_PAGE_SIZE: Final = 200
DEFAULT_PAGE_SIZE: Final = 50

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; unused here: the interceptors bind what matters."""


class McpServicer(McpServiceServicer):
    """Serves McpService."""

    def __init__(self, administration: McpAdministration, egress: EgressClient) -> None:
        self._administration = administration
        self._egress = egress

    async def AddServer(
        self, request: pb.AddServerRequest, context: Context
    ) -> pb.AddServerResponse:
        """Keep a server and ask it what it offers."""
        new = wire.new_server(request, principal().tenant_id, self._egress)
        added = await self._administration.add(new)
        return pb.AddServerResponse(server=wire.server_message(added))

    async def RefreshServer(
        self, request: pb.RefreshServerRequest, context: Context
    ) -> pb.RefreshServerResponse:
        """Ask a server anew, and approve definitions."""
        name = wire.server_name(request.name)
        approve = wire.definitions(request)
        server = await self._administration.refresh(principal().tenant_id, name, approve)
        return pb.RefreshServerResponse(server=wire.server_message(server))

    async def RemoveServer(
        self, request: pb.RemoveServerRequest, context: Context
    ) -> pb.RemoveServerResponse:
        """Remove a server; removing an absent one succeeds."""
        name = wire.server_name(request.name)
        await self._administration.remove(principal().tenant_id, name)
        return pb.RemoveServerResponse()

    async def ListServers(
        self, request: pb.ListServersRequest, context: Context
    ) -> pb.ListServersResponse:
        """List servers by name; the page token is the last name seen."""
        size = request.page.page_size or DEFAULT_PAGE_SIZE
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise invalid("page.page_size", f"must be 1 to {MAX_PAGE_SIZE}")
        names = _names(request.names)
        servers = [
            server
            for server in self._administration.of(principal().tenant_id, names)
            if server.key.name > request.page.page_token
        ]
        shown = servers[:size]
        token = shown[-1].key.name if len(servers) > size else ""
        return pb.ListServersResponse(
            servers=[wire.server_message(server, with_tools=False) for server in shown],
            page=page_pb2.PageInfo(next_page_token=token),
        )

    async def WatchServers(
        self, request: pb.WatchServersRequest, context: Context
    ) -> AsyncIterator[pb.WatchServersResponse]:
        """Follow servers."""
        names = _names(request.names)
        tenant_id = principal().tenant_id
        async for server, is_complete in self._administration.watch(tenant_id, names):
            message = None if server is None else wire.server_message(server)
            yield pb.WatchServersResponse(server=message, complete=is_complete)


def _names(names: Sequence[str]) -> Collection[str]:
    if len(names) > wire.MAX_NAMES:
        raise invalid("names", f"must be at most {wire.MAX_NAMES}")
    return frozenset(wire.server_name(name, "names") for name in names)
