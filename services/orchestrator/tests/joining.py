"""Programs that work as agents, on ports of this machine, and how they join."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright.orchestrator.v1.agent_service_pb2_grpc import (
    AgentServiceServicer,
    add_AgentServiceServicer_to_server,
)
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_orchestrator.settings import RemoteAgentSection
from services.orchestrator.tests.mesh import FAST, Mesh, Stubs, acting

BEAT_SECONDS = 0.2
JOINING = FAST.model_copy(
    update={
        "remote_agents": RemoteAgentSection(
            networks=("127.0.0.0/8",), heartbeat_seconds=BEAT_SECONDS, wait_seconds=5
        )
    }
)
IDLE = agent_pb2.AgentLoad(cpu_free=1, memory_free=1)
BUSY = agent_pb2.AgentLoad(cpu_free=0, memory_free=0, pending_tasks=6)


@dataclass
class Program(AgentServiceServicer):
    """A program that answers with its name; while `held`, it begins and says no more."""

    name: str
    mesh: Mesh
    held: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)
    callers: list[Principal] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    address: str = ""
    server: Any = None

    async def ExecuteTask(self, request: Any, context: Any) -> AsyncIterator[Any]:
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        self.callers.append(TokenVerifier(self.mesh.keys.trusted).verify(token))
        self.asked.append(request.request_id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            question = request.spec.messages[-1].parts[0].text
            yield _event(request, started=task_pb2.TaskStarted(agent=request.spec.agent))
            yield _event(request, chunk=task_pb2.TaskChunk(text=f"{self.name}: "))
            if self.held is not None:
                await self.held.wait()
            yield _event(request, chunk=task_pb2.TaskChunk(text=question))
            final = task_pb2.TaskFinal(answer=f"{self.name}: {question}")
            final.usage.prompt_tokens = 7
            yield _event(request, final=final)
        finally:
            self.running -= 1

    async def CancelTask(self, request: Any, context: Any) -> Any:
        self.cancelled.append(request.task_id)
        return agent_service_pb2.CancelTaskResponse()

    async def die(self) -> None:
        """End at once, with all that is under way."""
        await self.server.stop(0)


def _event(request: Any, **event: Any) -> Any:
    return agent_service_pb2.ExecuteTaskResponse(
        event=task_pb2.TaskEvent(task_id=f"mine-{request.request_id}", **event)
    )


@asynccontextmanager
async def serving(mesh: Mesh, *names: str, held: bool = False) -> AsyncIterator[Sequence[Program]]:
    """Run programs on ports of this machine."""
    programs = []
    for name in names:
        program = Program(name, mesh, asyncio.Event() if held else None)
        program.server = grpc.aio.server()
        add_AgentServiceServicer_to_server(program, program.server)
        port = program.server.add_insecure_port("127.0.0.1:0")
        program.address = f"127.0.0.1:{port}"
        await program.server.start()
        programs.append(program)
    try:
        yield programs
    finally:
        for program in programs:
            await program.server.stop(0)


async def register(
    stubs: Stubs, caller: Principal, address: str, *, agent: str = "weather", **more: Any
) -> Any:
    """Let the program at an address work as an agent; return its instance."""
    request = agent_registry_service_pb2.RegisterAgentRequest(
        agent=agent, address=address, description="Knows the weather.", **more
    )
    with acting(caller):
        return (await stubs.registry.RegisterAgent(request)).instance


def beat(instance_id: str, load: Any = IDLE, *, draining: bool = False) -> Any:
    """Return a heartbeat."""
    return agent_registry_service_pb2.UpdateStatusRequest(
        agent_instance_id=instance_id, load=load, draining=draining
    )


async def said(stubs: Stubs, caller: Principal, *beats: Any) -> Any:
    """Send heartbeats as a stream of their own; return what the mesh answered."""

    async def stream() -> AsyncIterator[Any]:
        for one in beats:
            yield one

    with acting(caller):
        return (await stubs.registry.UpdateStatus(stream())).instance


@dataclass
class Beating:
    """Heartbeats of an instance, until told to stop. `ended` is the error they ended with."""

    instance_id: str
    load: Any
    draining: bool = False
    silent: bool = False
    ended: ServiceError | None = None

    async def stream(self) -> AsyncIterator[Any]:
        """Yield heartbeats until it falls silent."""
        while not self.silent:
            yield beat(self.instance_id, self.load, draining=self.draining)
            await asyncio.sleep(BEAT_SECONDS)


@asynccontextmanager
async def beating(
    stubs: Stubs, caller: Principal, instance_id: str, load: Any = IDLE
) -> AsyncIterator[Beating]:
    """Keep an instance alive."""
    pulse = Beating(instance_id, load)

    async def keep() -> None:
        try:
            with acting(caller):
                await stubs.registry.UpdateStatus(pulse.stream())
        except ServiceError as error:
            pulse.ended = error

    keeping = asyncio.create_task(keep())
    try:
        yield pulse
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


@asynccontextmanager
async def joined(
    stubs: Stubs, caller: Principal, programs: Sequence[Program], **more: Any
) -> AsyncIterator[list[Beating]]:
    """Let programs work as the agent "weather", alive."""
    async with AsyncExitStack() as stack:
        pulses = []
        for program in programs:
            instance = await register(stubs, caller, program.address, **more)
            one = await stack.enter_async_context(
                beating(stubs, caller, instance.agent_instance_id)
            )
            pulses.append(one)
        yield pulses


async def instances_of(stubs: Stubs, caller: Principal, agent: str = "weather") -> dict[str, Any]:
    """Return an agent's instances that are not offline, by address."""
    request = agent_registry_service_pb2.GetAgentRequest(name=agent)
    with acting(caller):
        found = await stubs.registry.GetAgent(request)
    return {one.address: one for one in found.instances}
