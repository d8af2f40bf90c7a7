"""The parts of MCP servers, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge

from meshwright_common.app import BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.egress import EgressSettings, open_egress
from meshwright_common.encryption import KeyRing
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.telemetry import metric_names
from meshwright_tool_exec.adapters.mcp_connections import open_connections
from meshwright_tool_exec.adapters.postgres_mcp import PostgresMcp
from meshwright_tool_exec.domain import foreign_schemas
from meshwright_tool_exec.domain.mcp_administration import McpAdministration
from meshwright_tool_exec.domain.mcp_catalogue import OPERATOR, Catalogue
from meshwright_tool_exec.domain.mcp_keeping import Keeping
from meshwright_tool_exec.domain.mcp_noting import Noting
from meshwright_tool_exec.domain.mcp_pinning import readable
from meshwright_tool_exec.domain.mcp_servers import (
    BearerToken,
    Credential,
    CredentialKind,
    McpServer,
    PinnedTool,
    ServerKey,
    State,
    Transport,
)
from meshwright_tool_exec.domain.models import CallScope, Source, ToolOutput, ToolSpec
from meshwright_tool_exec.domain.registry import Tool
from meshwright_tool_exec.mcp_settings import McpSection, OperatorServer
from meshwright_tool_exec.servicer_mcp import McpServicer

SERVERS: Final = Gauge(
    metric_names.MCP_SERVERS,
    "MCP servers that this process watches over, by whose they are and how they do.",
    ("owner", "state"),
)
_SHOWN_STATES: Final = (State.CONNECTING, State.READY, State.UNAVAILABLE, State.UNAUTHORIZED)


@dataclass(frozen=True, slots=True)
class Mcp:
    """What the service's composition root needs of it."""

    catalogue: Catalogue
    administration: McpAdministration
    keeping: Keeping
    servicer: McpServicer
    tasks: tuple[BackgroundTask, ...]
    checks: tuple[Check, ...]


@asynccontextmanager
async def open_mcp(
    section: McpSection, egress_settings: EgressSettings, database: Database, ring: KeyRing
) -> AsyncIterator[Mcp]:
    """Give the parts; leaving the block ends the connections and the programs."""
    clock = SystemClock()
    operators = {server.name: server for server in section.servers}
    programs = {
        name: one.program() for name, one in operators.items() if one.transport is Transport.STDIO
    }

    async def credential(server: McpServer) -> Credential | None:
        if not server.is_operators:
            return await store.credential(server)
        token = operators[server.key.name].bearer_token.get_secret_value()
        return BearerToken(token) if token else None

    def tool(server: McpServer, pinned: PinnedTool) -> Tool:
        async def run(arguments: dict[str, object], _scope: CallScope) -> ToolOutput:
            return await connections.call(server, pinned, arguments)

        spec = ToolSpec(
            name=pinned.name,
            description=readable(pinned.description),
            input_schema=pinned.input_schema,
            effect=pinned.effect,
            timeout_seconds=section.call_timeout_seconds,
            source=Source.MCP,
        )
        return Tool(spec, run, foreign_schemas.check)

    catalogue = Catalogue(tool)
    catalogue.put(OPERATOR, [_server(one) for one in section.servers])
    store = PostgresMcp(database, ring, catalogue)
    async with (
        open_egress(egress_settings, for_streams=True) as egress,
        open_connections(egress, programs, credential, clock) as connections,
    ):
        noting = Noting(catalogue, connections, store, clock)
        keeping = Keeping(
            catalogue, connections, store, noting, probe_seconds=section.probe_seconds
        )
        administration = McpAdministration(
            catalogue, store, noting, most_servers=section.servers_per_tenant
        )
        _measure(keeping, catalogue)
        yield Mcp(
            catalogue,
            administration,
            keeping,
            McpServicer(administration, egress),
            tasks=(
                BackgroundTask("mcp-changes", store.changes.run),
                BackgroundTask("mcp-servers", keeping.run),
            ),
            checks=(Check("mcp-servers", store.changes.probe),),
        )


def _server(one: OperatorServer) -> McpServer:
    has_token = bool(one.bearer_token.get_secret_value())
    return McpServer(
        key=ServerKey(OPERATOR, one.name),
        transport=one.transport,
        url=one.url,
        generation=new_id(),
        description=one.description,
        credential_kind=CredentialKind.BEARER if has_token else CredentialKind.NONE,
        trusts_annotations=one.trust_annotations,
        approves_first=True,
    )


def _measure(keeping: Keeping, catalogue: Catalogue) -> None:
    def count(owner: str, state: State) -> int:
        kept = (catalogue.get(key) for key in keeping.kept if bool(key.tenant_id) == (owner != ""))
        return sum(server is not None and server.state is state for server in kept)

    for owner, label in (("", "operator"), ("tenant", "tenants")):
        for state in _SHOWN_STATES:
            SERVERS.labels(label, state.value).set_function(
                lambda owner=owner, state=state: count(owner, state)  # type: ignore[misc]
            )
