"""The orchestrator beside scripted peers, in this process; it can be stopped like a process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from meshwright.model_router.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from meshwright.rag.v1.retrieval_service_pb2_grpc import add_RetrievalServiceServicer_to_server
from meshwright.session.v1.memory_service_pb2_grpc import add_MemoryServiceServicer_to_server
from meshwright.tool_exec.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from meshwright.types.v1 import message_pb2
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.identity.keys import KeyRing, ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.stream import open_stream
from meshwright_common.settings import DatabaseSettings, DispatchSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.patience import PATIENT_DEADLINES
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_orchestrator.app import build
from meshwright_orchestrator.settings import OrchestratorSection, Settings
from services.orchestrator.tests.peers import Documents, Memory, ScriptedModels, ToolShed

PERMISSIONS = frozenset(
    {
        *("agent:execute", "agent:read", "task:read"),
        *("kb:read", "model:invoke", "tool:read", "tool:execute"),
        *("memory:read", "memory:write"),
    }
)
FAST = OrchestratorSection(
    task_lease_seconds=2,
    lease_renew_seconds=0.5,
    sweep_seconds=60,
    poll_seconds=0.05,
    drain_seconds=0,
)
"""Short leases; lost tasks are taken over when somebody asks for them, not by the sweep."""
SWEEPING = FAST.model_copy(update={"sweep_seconds": 0.1})


@dataclass(frozen=True)
class Stubs:
    """What callers outside get."""

    agents: Any
    registry: Any
    workflows: Any


class Mesh:
    """A database and the peers, which outlive the processes of the orchestrator."""

    def __init__(self, database: DatabaseSettings) -> None:
        self.database = database
        self.models = ScriptedModels()
        self.documents = Documents()
        self.tools = ToolShed()
        self.memory = Memory()
        self.directory = QuotaDirectory()
        self.dispatch = DispatchSettings()
        self.keys: KeyRing = ephemeral_keys(["orchestrator", "chat"])
        self.caller = Principal(new_id(), new_id(), "user", PERMISSIONS)

    def colleague(self, *more: str) -> Principal:
        """Return another user of the same tenant, with more permissions."""
        return replace(self.caller, subject=new_id(), permissions=PERMISSIONS | set(more))

    def serve_peers(self, server: Any) -> None:
        """Register the peers."""
        add_ModelServiceServicer_to_server(self.models, server)
        add_RetrievalServiceServicer_to_server(self.documents, server)
        add_ToolServiceServicer_to_server(self.tools, server)
        add_MemoryServiceServicer_to_server(self.memory, server)
        self.directory.register(server)

    @asynccontextmanager
    async def process(self, section: OrchestratorSection = FAST) -> AsyncIterator[Stubs]:
        """Run the orchestrator; leaving the block ends it as a drain of zero seconds does."""
        server = LocalServer(server_interceptors("test", TokenVerifier(self.keys.trusted)))
        self.serve_peers(server)
        peers = dict.fromkeys(
            ("model-router", "rag", "tool-exec", "orchestrator", "session"), "local:"
        )

        def channels(service: str) -> Channels:
            minter = TokenMinter(service, self.keys.private_key(service))
            return Channels(minter, peers, local_server=server, deadlines=PATIENT_DEADLINES)

        settings = Settings(
            database=self.database,
            dispatch=self.dispatch,
            encryption=encryption_settings(),
            orchestrator=section,
        )
        async with AsyncExitStack() as stack:
            own = await stack.enter_async_context(channels("orchestrator"))
            app = await stack.enter_async_context(build(settings, own))
            app.register(server)
            tasks = [asyncio.ensure_future(task.run()) for task in app.tasks]
            outside = await stack.enter_async_context(channels("chat"))
            channel = outside.open("orchestrator")
            try:
                yield Stubs(
                    AgentServiceStub(channel),
                    AgentRegistryServiceStub(channel),
                    WorkflowServiceStub(channel),
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert app.drain is not None
                await app.drain()

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """Return rows of the caller's tenant, which is $1."""
        async with (
            open_database(self.database, "orchestrator") as database,
            unit_of_work(database, self.caller.tenant_id) as connection,
        ):
            return await connection.fetch(statement, self.caller.tenant_id, *values)

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """Return the data of events about tasks, in the order they were written."""
        rows = await self.rows(
            "SELECT convert_from(body, 'UTF8')::json AS body FROM events.outbox"
            " WHERE tenant_id = $1 ORDER BY position"
        )
        bodies = [row["body"] for row in rows]
        return [body["data"] for body in bodies if not types or body["event_type"] in types]


def request(
    question: str = "What is it?", *, agent: str = "chat", request_id: str = "", **spec: Any
) -> agent_service_pb2.ExecuteTaskRequest:
    """Return a request that asks `agent` one question."""
    return agent_service_pb2.ExecuteTaskRequest(
        spec=task_pb2.TaskSpec(agent=agent, messages=[user(question)], **spec),
        request_id=request_id,
    )


def user(text: str) -> message_pb2.Message:
    """Return a user's message."""
    return message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=text)]
    )


def acting(caller: Principal) -> Any:
    """Make calls as `caller` inside the block."""
    return bind(CallContext(principal=caller))


async def run(
    stubs: Stubs, caller: Principal, asked: agent_service_pb2.ExecuteTaskRequest
) -> list[task_pb2.TaskEvent]:
    """Execute a task and return all its events."""
    with acting(caller):
        async with open_stream(stubs.agents.ExecuteTask(asked)) as responses:
            return [response.event async for response in responses]


def kinds(events: Sequence[task_pb2.TaskEvent]) -> list[str]:
    """Return what kind each event is, runs of chunks as one."""
    found: list[str] = []
    for event in events:
        kind = event.WhichOneof("event") or ""
        if kind != "chunk" or found[-1:] != ["chunk"]:
            found.append(kind)
    return found


def text_of(events: Sequence[task_pb2.TaskEvent]) -> str:
    """Return the answer that the chunks add up to, withdrawn ones left out."""
    text, kept, attempt = "", 0, 0
    for event in events:
        if event.attempt > attempt or event.HasField("started"):
            attempt, text = event.attempt, text[:kept]
        if event.HasField("checkpoint"):
            kept = event.checkpoint.answer_characters
        text += event.chunk.text
    return text
