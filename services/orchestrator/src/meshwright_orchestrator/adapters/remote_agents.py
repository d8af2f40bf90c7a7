"""Programs of agents that joined, over their own AgentService."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright_common import context
from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.stream import open_stream
from meshwright_orchestrator.domain.errors import AnswerTruncated
from meshwright_orchestrator.domain.events import Chunk
from meshwright_orchestrator.domain.journal import ToolResult
from meshwright_orchestrator.domain.models import Failure, Result, Task
from meshwright_orchestrator.domain.remote import Addresses, Place
from meshwright_orchestrator.domain.remote_engine import Begun, Kept, Named, RemoteEvent
from meshwright_orchestrator.wire import values
from meshwright_orchestrator.wire.structs import check_struct, plain
from meshwright_orchestrator.wire.tasks import spec_message

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

logger = structlog.get_logger(__name__)

PEER: Final = "remote-agent"
"""Name in the certificates of agents, where the mesh speaks mutual TLS."""
CANCEL_SECONDS: Final = 3.0
MAX_ID_CHARACTERS: Final = 128
MAX_ERROR_CHARACTERS: Final = 2_000
MAX_TOKENS: Final = 2**31
_EXECUTE: Final = "/meshwright.orchestrator.v1.AgentService/ExecuteTask"
_DAY_SECONDS: Final = 86_400.0
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


class RemotePrograms:
    """RemotePrograms: see the port. The token that goes along names the task's owner and holds no
    right: whoever gets it can call nothing in the mesh with it.
    """

    def __init__(self, channels: Channels, addresses: Addresses, clock: Clock) -> None:
        self._channels = channels
        self._addresses = addresses
        self._clock = clock

    @asynccontextmanager
    async def execute(self, place: Place, task: Task) -> AsyncIterator[AsyncIterator[RemoteEvent]]:
        async with self._stub(place.address) as stub:
            with _acting_for(task.owner):
                call = stub.ExecuteTask(self._request(task))
            async with open_stream(call) as responses:
                yield _events(responses)

    async def cancel(self, address: str, tenant_id: str, remote_task_id: str) -> None:
        """Tell a program to stop. Raises: the ServiceError that the call ended with."""
        request = agent_service_pb2.CancelTaskRequest(task_id=remote_task_id)
        mesh = Principal(tenant_id, "orchestrator", "service", frozenset())
        async with self._stub(address) as stub:
            with _acting_for(mesh):
                await stub.CancelTask(request, timeout=CANCEL_SECONDS)

    @asynccontextmanager
    async def _stub(self, address: str) -> "AsyncIterator[AgentServiceAsyncStub]":
        try:
            target = await self._addresses.judged(address)
        except ServiceError as error:
            # It was good when the instance registered: another one may be.
            raise Unavailable(error.message) from error
        channel = self._channels.outside(PEER, target, {_EXECUTE: _DAY_SECONDS})
        try:
            yield AgentServiceStub(channel)
        finally:
            await channel.close()

    def _request(self, task: Task) -> agent_service_pb2.ExecuteTaskRequest:
        spec = spec_message(task.spec)
        spec.max_steps = task.limits.max_steps
        spec.ClearField("start_time")
        ends = self._clock.now() + timedelta(seconds=max(task.remaining_seconds, 0.0))
        spec.deadline.FromDatetime(ends)
        return agent_service_pb2.ExecuteTaskRequest(spec=spec, request_id=task.task_id)


def _acting_for(owner: Principal) -> AbstractContextManager[object]:
    """Make calls in the owner's name, without any of its rights."""
    nobody = replace(owner, permissions=frozenset(), roles=())
    return context.bind(replace(context.current(), principal=nobody))


async def _events(
    responses: AsyncIterator[agent_service_pb2.ExecuteTaskResponse],
) -> AsyncIterator[RemoteEvent]:
    named = ""
    async for response in responses:
        event = response.event
        if event.task_id and not named and len(event.task_id) <= MAX_ID_CHARACTERS:
            named = event.task_id
            yield Named(named)
        translated = _event(event)
        if translated is not None:
            yield translated


def _event(event: task_pb2.TaskEvent) -> RemoteEvent | None:  # noqa: PLR0911 - one case a kind
    match event.WhichOneof("event"):
        case "started":
            return Begun()
        case "chunk":
            return Chunk(event.chunk.text, event.chunk.reasoning)
        case "checkpoint":
            return Kept(event.checkpoint.answer_characters)
        case "tool_call":
            return values.calls_from((event.tool_call,))[0]
        case "tool_result":
            told = event.tool_result
            return ToolResult(
                told.tool_call_id, told.name, told.result_json, told.is_error, told.truncated
            )
        case "final":
            return _result(event.final)
        case "error":
            return _failure(event.error)
        case "interrupt":
            text = "the agent asks a person, which agents that joined cannot do"
            return Failure("PROVIDER_PROTOCOL", text, retryable=False)
        case _:
            return None


def _result(final: task_pb2.TaskFinal) -> Result:
    output = None
    if final.HasField("output"):
        try:
            check_struct(final.output, "output")
        except ServiceError as error:
            raise AnswerTruncated(f"the agent's output is no JSON: {error.message}") from error
        output = plain(final.output)
    used = final.usage
    bounded = (
        used.prompt_tokens,
        used.completion_tokens,
        used.cached_tokens,
        used.reasoning_tokens,
        used.cost_micro_usd,
    )
    if not all(0 <= number <= MAX_TOKENS for number in bounded):
        raise AnswerTruncated("the agent's usage is out of range")
    return Result(
        answer=final.answer,
        citations=tuple(map(values.citation_from, final.citations)),
        usage=values.usage_from(used),
        output=output,
    )


def _failure(error: task_pb2.TaskError) -> Failure:
    reason = error.reason if _REASON.fullmatch(error.reason) else "PROVIDER_PROTOCOL"
    return Failure(reason, error.message[:MAX_ERROR_CHARACTERS], error.retryable)
