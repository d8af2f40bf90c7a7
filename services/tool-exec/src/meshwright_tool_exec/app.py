"""tool-exec's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

# Loaded for its descriptor: it is declared and not served yet.
from meshwright.tool_exec.v1 import mcp_service_pb2, skill_service_pb2
from meshwright.tool_exec.v1.mcp_service_pb2_grpc import add_McpServiceServicer_to_server
from meshwright.tool_exec.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from meshwright_common.app import App, Check
from meshwright_common.clock import SystemClock
from meshwright_common.egress import open_egress
from meshwright_common.encryption import open_key_ring
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.unserved import add_unserved_service
from meshwright_common.storage.postgres import open_database
from meshwright_tool_exec.adapters.guarded_web import GuardedWeb
from meshwright_tool_exec.adapters.postgres_effects import PostgresEffects
from meshwright_tool_exec.adapters.retrieval_client import RetrievalClient
from meshwright_tool_exec.adapters.stored_data import stored_data
from meshwright_tool_exec.builtin.calculator import calculator
from meshwright_tool_exec.builtin.current_time import current_time
from meshwright_tool_exec.builtin.http_get import http_get
from meshwright_tool_exec.builtin.knowledge_search import knowledge_search
from meshwright_tool_exec.domain.execution import Execution
from meshwright_tool_exec.domain.registry import Registry
from meshwright_tool_exec.mcp import open_mcp
from meshwright_tool_exec.servicer import ToolServicer
from meshwright_tool_exec.settings import Settings

TOOL_SERVICE: Final = "meshwright.tool_exec.v1.ToolService"
MCP_SERVICE: Final = mcp_service_pb2.DESCRIPTOR.services_by_name["McpService"].full_name
UNSERVED: Final = (skill_service_pb2.DESCRIPTOR.services_by_name["SkillService"].full_name,)


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened."""
    clock = SystemClock()
    async with (
        open_database(settings.database, settings.service) as database,
        open_key_ring(settings.encryption, database) as ring,
        open_egress(settings.egress) as egress,
        open_mcp(settings.tool_exec.mcp, settings.egress, database, ring) as mcp,
    ):
        rag = RetrievalServiceStub(channels.open("rag"))
        tools = [
            calculator(),
            current_time(clock),
            knowledge_search(RetrievalClient(rag)),
        ]
        if settings.tool_exec.http_get:
            timeout_seconds = settings.tool_exec.fetch_timeout_seconds
            tools.append(http_get(GuardedWeb(egress, timeout_seconds=timeout_seconds)))
        registry = Registry(tools, mcp.catalogue)
        effects = PostgresEffects(database, ring)
        servicer = ToolServicer(registry, Execution(registry, effects, clock))

        def register(server: grpc.aio.Server) -> None:
            add_ToolServiceServicer_to_server(servicer, server)
            add_McpServiceServicer_to_server(mcp.servicer, server)
            for service in UNSERVED:
                add_unserved_service(service, server)

        yield App(
            name=settings.service,
            register=register,
            service_names=(TOOL_SERVICE, MCP_SERVICE, *UNSERVED),
            tasks=mcp.tasks,
            checks=(Check("database", database.probe), *mcp.checks),
            stores=stored_data(database),
        )
