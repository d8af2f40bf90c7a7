"""Somebody who is asked by tasks: sees the questions, and answers."""

from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf import json_format

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright_common.context import Principal
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import Mesh, Stubs, acting, user


async def define(stubs: Stubs, mesh: Mesh, name: str = "clerk", **definition: Any) -> None:
    """Define an agent of the caller's tenant; it chats when no type is given."""
    asked = agent_registry_service_pb2.DefineAgentRequest(
        name=name,
        definition=agent_pb2.AgentDefinition(**({"type": agent_pb2.AGENT_TYPE_CHAT} | definition)),
    )
    with acting(mesh.colleague("agent:write")):
        await stubs.registry.DefineAgent(asked)


async def submit(
    stubs: Stubs,
    mesh: Mesh,
    agent: str,
    question: str = "Go",
    *,
    input: Mapping[str, Any] | None = None,
    max_steps: int = 0,
) -> str:
    """Hand a task to the workers; return its id."""
    asked = agent_service_pb2.SubmitTaskRequest()
    asked.spec.agent = agent
    asked.spec.messages.append(user(question))
    asked.spec.max_steps = max_steps
    asked.spec.input.update(dict(input or {}))
    with acting(mesh.caller):
        task_id: str = (await stubs.agents.SubmitTask(asked)).task.task_id
    return task_id


async def task_of(stubs: Stubs, caller: Principal, task_id: str) -> task_pb2.Task:
    """Return a task as it is now."""
    with acting(caller):
        asked = agent_service_pb2.GetTaskRequest(task_id=task_id)
        task: task_pb2.Task = (await stubs.agents.GetTask(asked)).task
    return task


async def reached(
    stubs: Stubs, mesh: Mesh, task_id: str, state: task_pb2.TaskState.ValueType
) -> task_pb2.Task:
    """Wait until a task is in a state, and return it."""
    seen = task_pb2.Task()

    async def is_there() -> bool:
        seen.CopyFrom(await task_of(stubs, mesh.caller, task_id))
        return seen.state == state

    await eventually(is_there, timeout_seconds=40)
    return seen


async def asked_of(
    stubs: Stubs, mesh: Mesh, task_id: str, *, after: Collection[str] = ()
) -> list[task_pb2.TaskInterrupt]:
    """Wait until a task waits for people; return what it asks, all of it after the ids `after`."""
    found: list[task_pb2.TaskInterrupt] = []

    async def asks() -> bool:
        task = await task_of(stubs, mesh.caller, task_id)
        found[:] = task.interrupts
        return bool(found) and not {one.interrupt_id for one in found} & set(after)

    await eventually(asks, timeout_seconds=40)
    return found


async def answer(
    stubs: Stubs,
    caller: Principal,
    task_id: str,
    interrupt_id: str,
    value: Mapping[str, Any],
    request_id: str = "",
) -> task_pb2.Task:
    """Answer an interrupt as `caller`."""
    request = agent_service_pb2.ResumeTaskRequest(
        task_id=task_id, interrupt_id=interrupt_id, request_id=request_id
    )
    json_format.ParseDict(dict(value), request.payload)
    with acting(caller):
        task: task_pb2.Task = (await stubs.agents.ResumeTask(request)).task
    return task


async def open_for(
    stubs: Stubs, caller: Principal, **fields: Any
) -> agent_service_pb2.ListInterruptsResponse:
    """List what `caller` may answer."""
    with acting(caller):
        listed: agent_service_pb2.ListInterruptsResponse = await stubs.agents.ListInterrupts(
            agent_service_pb2.ListInterruptsRequest(**fields)
        )
    return listed
