"""An agent that joins from outside: pip install ./protos 'pyjwt[crypto]'

python docs/examples/remote_agent.py .meshwright/endpoint.json .meshwright/keys/trusted.json \
    echo 127.0.0.1:7001
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt

from meshwright.orchestrator.v1 import agent_pb2, agent_service_pb2, task_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as registry_pb2
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import (
    AgentServiceServicer,
    add_AgentServiceServicer_to_server,
)
from meshwright_credentials import loopback_channel_credentials


class Echo(AgentServiceServicer):
    """The agent itself: ten lines."""

    def __init__(self, mesh_key: str) -> None:
        self.mesh_key, self.running = mesh_key, 0

    async def ExecuteTask(
        self, request: agent_service_pb2.ExecuteTaskRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        await verify(context, self.mesh_key)
        self.running += 1
        try:
            answer = "You said: "
            yield event(request, chunk=task_pb2.TaskChunk(text=answer))
            answer += request.spec.messages[-1].parts[0].text
            yield event(request, final=task_pb2.TaskFinal(answer=answer))
        finally:
            self.running -= 1


def event(request: agent_service_pb2.ExecuteTaskRequest, **what: Any) -> Any:
    told = task_pb2.TaskEvent(task_id=request.request_id, **what)
    return agent_service_pb2.ExecuteTaskResponse(event=told)


async def verify(context: Any, mesh_key: str) -> None:
    """Nobody but the mesh may call."""
    token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
    try:
        jwt.decode(token, mesh_key, algorithms=["EdDSA"], audience="meshwright", leeway=30)
    except jwt.InvalidTokenError:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a token of the mesh")


async def main(endpoint: dict[str, Any], mesh_key: str, name: str, address: str) -> None:
    echo = Echo(mesh_key)
    server = grpc.aio.server()
    add_AgentServiceServicer_to_server(echo, server)
    server.add_insecure_port(address)
    await server.start()
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    credentials = loopback_channel_credentials(endpoint["url"], endpoint["api_key"])
    me = registry_pb2.RegisterAgentRequest(
        agent=name, address=address, description="Says what you said."
    )
    async with grpc.aio.secure_channel(endpoint["grpc"]["orchestrator"], credentials) as channel:
        registry = AgentRegistryServiceStub(channel)
        while not leaving.is_set():
            # Streams end now and then: registering again finds the same instance.
            try:
                joined = await registry.RegisterAgent(me)
                await registry.UpdateStatus(heartbeats(echo, joined, leaving))
            except grpc.RpcError as error:
                sys.stderr.write(f"{error.details()}\n")
                await asyncio.sleep(1)
    await server.stop(grace=30)


async def heartbeats(
    echo: Echo, joined: registry_pb2.RegisterAgentResponse, leaving: asyncio.Event
) -> AsyncIterator[registry_pb2.UpdateStatusRequest]:
    while True:
        draining = leaving.is_set()
        yield registry_pb2.UpdateStatusRequest(
            agent_instance_id=joined.instance.agent_instance_id,
            load=agent_pb2.AgentLoad(cpu_free=1, memory_free=1, pending_tasks=echo.running),
            draining=draining,
        )
        if draining and not echo.running:
            return
        if draining:
            await asyncio.sleep(0.2)
            continue
        with contextlib.suppress(TimeoutError):
            interval = joined.heartbeat_interval.ToTimedelta().total_seconds()
            await asyncio.wait_for(leaving.wait(), interval)


if __name__ == "__main__":
    endpoint_file, keys_file, its_name, its_address = sys.argv[1:]
    keys = json.loads(Path(keys_file).read_text())
    endpoint_of_mesh = json.loads(Path(endpoint_file).read_text())
    asyncio.run(main(endpoint_of_mesh, keys["orchestrator"], its_name, its_address))
