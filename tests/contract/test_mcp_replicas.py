"""Two replicas of tool-exec's MCP servers on one database, and each transport there is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from meshwright_common.app import BackgroundTask
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.egress import EgressSettings
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.waiting import eventually
from meshwright_tool_exec.domain.errors import OutcomeUnknown
from meshwright_tool_exec.domain.mcp_catalogue import OPERATOR
from meshwright_tool_exec.domain.mcp_ports import NewServer
from meshwright_tool_exec.domain.mcp_servers import McpServer, ServerKey, State, Transport
from meshwright_tool_exec.domain.models import CallScope, ToolOutput
from meshwright_tool_exec.mcp import Mcp, open_mcp
from meshwright_tool_exec.mcp_settings import McpSection
from tests.mcp_workshop import MODULE, Workshop, working

TENANT: Final = new_id()
CALLER: Final = Principal(TENANT, new_id(), "user", frozenset({"tool:execute"}))
DEAD: Final = new_id()
ROOT: Final = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return await database_settings("meshwright_tool_exec")


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "tool-exec") as opened:
        yield opened


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with working(free_port(), tmp_path) as running:
        yield running


@asynccontextmanager
async def replica(
    database: Database, *ports: int, section: McpSection | None = None
) -> AsyncIterator[Mcp]:
    """Run one, which may reach these ports of this machine."""
    egress = EgressSettings(allowed_hosts=tuple(f"127.0.0.1:{port}" for port in ports))
    async with open_mcp(section or McpSection(), egress, database, key_ring(database)) as mcp:
        await mcp.checks[0].probe()
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_alive(task)) for task in mcp.tasks]
                yield mcp
                for task in running:
                    task.cancel()


async def _alive(task: BackgroundTask) -> None:
    await task.run()


def is_ready(mcp: Mcp, name: str) -> bool:
    return mcp.catalogue.find("", name).state is State.READY


async def called(mcp: Mcp, owner: str, tool: str, **arguments: Any) -> ToolOutput:
    found = mcp.catalogue.tools_of(owner)[tool]
    return await found.run(arguments, CallScope(TENANT))


async def expire(settings: DatabaseSettings, keeper: str, interval: str) -> None:
    await execute_as_owner(
        settings,
        f"UPDATE tool_exec.mcp_servers SET keeper = '{keeper}',"  # noqa: S608 - of this test
        f" kept_until = now() + interval '{interval}'",
    )


@pytest.mark.promise("MCP-09")
async def test_what_one_replica_does_is_in_force_at_the_other_and_one_of_them_watches(
    settings: DatabaseSettings, database: Database, workshop: Workshop
) -> None:
    key = ServerKey(TENANT, "shop")
    server = McpServer(
        key=key,
        transport=Transport.STREAMABLE_HTTP,
        url=workshop.url,
        generation=new_id(),
        approves_first=True,
    )
    async with (
        replica(database, workshop.port) as one,
        replica(database, workshop.port) as other,
    ):
        with bind(CallContext(principal=CALLER, request_id=new_id())):
            added = await one.administration.add(NewServer(server, None, replaces=False))
            assert State.READY is added.state
            await eventually(lambda: "shop.add" in other.catalogue.tools_of(TENANT))
            output = await called(other, TENANT, "shop.add", a=1, b=2)
            assert {"result": 3} == output.result
            await eventually(lambda: 1 == [key in x.keeping.kept for x in (one, other)].count(True))

            # The one that watches dies: it is somebody else's, until its lease runs out.
            await expire(settings, DEAD, "1 hour")
            await eventually(lambda: not any(key in x.keeping.kept for x in (one, other)))
            await expire(settings, DEAD, "-1 second")
            await eventually(lambda: any(key in x.keeping.kept for x in (one, other)))

            await called(other, TENANT, "shop.grow")
            await eventually(lambda: len(one.catalogue.find(TENANT, "shop").tools) == 8)
            await other.administration.remove(TENANT, "shop")
            await eventually(lambda: not one.catalogue.tools_of(TENANT))


@pytest.mark.promise("MCP-11")
async def test_each_transport_serves_and_a_program_that_ended_is_started_again(
    database: Database, workshop: Workshop, tmp_path: Path
) -> None:
    old = Workshop(free_port(), tmp_path, "sse")
    old.start()
    try:
        program = {
            "name": "program",
            "transport": "stdio",
            "command": sys.executable,
            "arguments": ["-m", MODULE, "stdio", str(tmp_path)],
            "environment": {"PYTHONPATH": str(ROOT)},
        }
        section = McpSection.model_validate(
            {
                "servers": [
                    {"name": "new", "transport": "streamable_http", "url": workshop.url},
                    {"name": "old", "transport": "sse", "url": old.url},
                    program,
                ]
            }
        )
        async with replica(database, workshop.port, old.port, section=section) as mcp:
            for name in ("new", "old", "program"):
                await eventually(partial(is_ready, mcp, name))
                output = await called(mcp, OPERATOR, f"{name}.add", a=1, b=2)
                assert {"result": 3} == output.result
            versions = {one.key.name: one.protocol_version for one in mcp.catalogue.all()}
            assert versions["old"] < versions["new"]
            with pytest.raises(OutcomeUnknown):
                await called(mcp, OPERATOR, "program.die")
            await eventually(lambda: "dying" in workshop.log())
            output = await called(mcp, OPERATOR, "program.add", a=2, b=2)
            assert {"result": 4} == output.result
    finally:
        old.kill()
