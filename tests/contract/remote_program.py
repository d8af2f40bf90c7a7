"""A program that works as an agent: says who it is, and ends tasks when it is let.

`python -m tests.contract.remote_program NAME LOG GATE` prints its port; it writes the request_id of
each task into LOG, and ends none before GATE is there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import (
    AgentServiceServicer,
    add_AgentServiceServicer_to_server,
)

LOOK_SECONDS = 0.02


class Program(AgentServiceServicer):
    """The agent."""

    def __init__(self, name: str, log: Path, gate: Path) -> None:
        self._name = name
        self._log = log
        self._gate = gate

    async def ExecuteTask(
        self, request: agent_service_pb2.ExecuteTaskRequest, context: Any
    ) -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        """Tell a first word, wait for the gate, and end."""
        with self._log.open("a") as log:
            log.write(f"{request.request_id}\n")
        yield _response(request, chunk=task_pb2.TaskChunk(text=f"{self._name} "))
        while not self._gate.exists():  # noqa: ASYNC110 -- another process makes it
            await asyncio.sleep(LOOK_SECONDS)
        yield _response(request, final=task_pb2.TaskFinal(answer=f"{self._name} did it"))


def _response(
    request: agent_service_pb2.ExecuteTaskRequest, **what: Any
) -> agent_service_pb2.ExecuteTaskResponse:
    event = task_pb2.TaskEvent(task_id=request.request_id, **what)
    return agent_service_pb2.ExecuteTaskResponse(event=event)


async def _main(name: str, log: str, gate: str) -> None:
    server = grpc.aio.server()
    add_AgentServiceServicer_to_server(Program(name, Path(log), Path(gate)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
