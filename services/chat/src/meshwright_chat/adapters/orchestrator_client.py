"""Agents over the orchestrator's stub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_chat.domain.models import (
    AgentEvent,
    AgentResult,
    Failed,
    Fenced,
    ReasoningDelta,
    Recalled,
    Restarted,
    TaskAccepted,
    TextDelta,
    ToolAnswered,
    ToolCalled,
    Turn,
)
from meshwright_chat.domain.waiting import Asked, Interrupt, Pause
from meshwright_chat.wire import interrupts, teamwork, turns
from meshwright_common.rpc.stream import open_stream

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

_Response: TypeAlias = agent_service_pb2.ExecuteTaskResponse | agent_service_pb2.WatchTaskResponse

TASK_SECONDS: Final = 300.0
"""Longest time a turn may take; the orchestrator's default deadline of a task."""

SUMMARY_AGENT: Final = "summary"
SUMMARISE: Final = "Summarise the turns that are due."
FINAL_STATES: Final = frozenset(
    {
        task_pb2.TASK_STATE_COMPLETED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
        task_pb2.TASK_STATE_EXPIRED,
    }
)


class OrchestratorClient:
    """Agents: see the port. The turn's id is the task's request_id."""

    def __init__(self, stub: AgentServiceAsyncStub) -> None:
        self._stub = stub

    @asynccontextmanager
    async def execute(
        self, turn: Turn, history: Sequence[object]
    ) -> AsyncIterator[AsyncIterator[AgentEvent]]:
        request = agent_service_pb2.ExecuteTaskRequest(
            spec=_spec(turn, history), request_id=turn.turn_id
        )
        call = self._stub.ExecuteTask(request, timeout=TASK_SECONDS)
        async with open_stream(call) as responses:
            yield agent_events(responses, turn.attempt)

    @asynccontextmanager
    async def go_on(self, turn: Turn) -> AsyncIterator[AsyncIterator[AgentEvent]]:
        pause = turn.pause
        request = agent_service_pb2.WatchTaskRequest(
            task_id=turn.task_id, after_sequence=0 if pause is None else pause.position
        )
        call = self._stub.WatchTask(request, timeout=TASK_SECONDS)
        async with open_stream(call) as responses:
            yield agent_events(responses, turn.attempt, pause)

    async def open_interrupts(self, task_id: str) -> tuple[Interrupt, ...]:
        response = await self._stub.GetTask(agent_service_pb2.GetTaskRequest(task_id=task_id))
        if response.task.state != task_pb2.TASK_STATE_WAITING:
            return ()
        return tuple(
            interrupts.interrupt_from(asked, task_id) for asked in response.task.interrupts
        )

    async def cancel(self, task_id: str) -> Fenced:
        response = await self._stub.CancelTask(agent_service_pb2.CancelTaskRequest(task_id=task_id))
        usage = turns.usage_from(response.task.usage)
        if response.task.state != task_pb2.TASK_STATE_COMPLETED:
            return Fenced(usage)
        result = _result(response.task.result)
        return Fenced(result.usage, result)

    async def claim(self, turn: Turn, history: Sequence[object]) -> str:
        # As ExecuteTask was, or would have been, asked: it is the same task whoever comes first.
        response = await self._stub.SubmitTask(
            agent_service_pb2.SubmitTaskRequest(spec=_spec(turn, history), request_id=turn.turn_id)
        )
        return response.task.task_id

    async def summarise(self, turn: Turn, batch: str) -> None:
        response = await self._stub.SubmitTask(_summary(turn, batch))
        if response.task.state in FINAL_STATES:
            await self._stub.SubmitTask(_summary(turn, f"{batch}-{turn.turn_id}"))


def _spec(turn: Turn, history: Sequence[object]) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(
        agent=turn.agent,
        messages=cast("Sequence[message_pb2.Message]", history),
        session_id=turn.session_id,
        model=turn.model,
        knowledge_base_ids=turn.knowledge_base_ids,
    )


def _summary(turn: Turn, request_id: str) -> agent_service_pb2.SubmitTaskRequest:
    # By the turn's model: what was said goes to nobody whom the user did not ask.
    asked = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=SUMMARISE)]
    )
    spec = task_pb2.TaskSpec(
        agent=SUMMARY_AGENT,
        messages=[asked],
        session_id=turn.session_id,
        model=turn.model,
        priority=task_pb2.TASK_PRIORITY_LOW,
    )
    # What may be kept is for the agent to say that answered.
    spec.input.update({"agent": turn.agent})
    return agent_service_pb2.SubmitTaskRequest(spec=spec, request_id=request_id)


class _SinceCheckpoint:
    """What a task told since its last checkpoint. `loose`: text that may be withdrawn."""

    def __init__(self) -> None:
        self.loose = False
        self._handed = False
        self._told = False

    def add(self, message: task_pb2.TaskEvent) -> None:
        """Take the next event."""
        if message.HasField("checkpoint"):
            self.loose = self._handed = self._told = False
        elif message.HasField("chunk"):
            self.loose = True
        elif message.HasField("child"):
            self._handed = True
        elif not message.HasField("started"):
            self._told = True

    @property
    def is_withdrawn(self) -> bool:
        """Whether an attempt that begins now takes something back: not one that goes on because
        the agents have ended that it waited for, nor one before which nothing was told.
        """
        return self.loose or (self._told and not self._handed)


async def agent_events(
    responses: AsyncIterator[_Response], turn_attempt: int, pause: Pause | None = None
) -> AsyncIterator[AgentEvent]:
    """Yield what the events of a task mean to a turn; after a pause those that follow it."""
    attempt, since = 0, _SinceCheckpoint()
    kept_characters = 0 if pause is None else pause.kept_characters
    known = frozenset(one.interrupt_id for one in pause.interrupts) if pause else frozenset()
    async for response in responses:
        message = response.event
        if attempt == 0:
            yield TaskAccepted(message.task_id)
            if pause is not None and pause.loose:
                yield Restarted(turn_attempt, kept_characters)
        elif message.attempt > attempt or message.HasField("started"):
            # Another worker goes on behind the last checkpoint, or the model begins anew there.
            if since.is_withdrawn:
                yield Restarted(turn_attempt, kept_characters)
            since = _SinceCheckpoint()
        attempt = message.attempt
        if message.HasField("checkpoint"):
            kept_characters = message.checkpoint.answer_characters
        since.add(message)
        if message.HasField("interrupt"):
            asked = interrupts.interrupt_from(message.interrupt, message.task_id)
            if asked.interrupt_id not in known:
                yield Asked(asked, message.sequence, kept_characters, since.loose)
            continue
        for event in _from_message(message):
            yield event


def _from_message(message: task_pb2.TaskEvent) -> Sequence[AgentEvent]:
    kind = message.WhichOneof("event")
    if kind == "chunk":
        return _chunk(message.chunk)
    translate = _TRANSLATIONS.get(kind or "")
    # Starts and checkpoints are looked at above; others mean nothing to a turn of this version.
    return () if translate is None else (translate(message),)


def _chunk(chunk: task_pb2.TaskChunk) -> Sequence[AgentEvent]:
    events: list[AgentEvent] = []
    if chunk.reasoning:
        events.append(ReasoningDelta(chunk.reasoning))
    if chunk.text:
        events.append(TextDelta(chunk.text))
    return events


def _result(final: task_pb2.TaskFinal) -> AgentResult:
    return AgentResult(
        answer=final.answer,
        citations=turns.citations_from(final.citations),
        added_messages=list(final.messages),
        usage=turns.usage_from(final.usage),
    )


def _recalled(message: task_pb2.TaskEvent) -> AgentEvent:
    recall = message.recall
    return Recalled(turns.citations_from(recall.passages), tuple(recall.degraded))


def _tool_called(message: task_pb2.TaskEvent) -> AgentEvent:
    call = message.tool_call
    return ToolCalled(call.id, call.name, call.arguments_json)


def _tool_answered(message: task_pb2.TaskEvent) -> AgentEvent:
    result = message.tool_result
    return ToolAnswered(
        result.tool_call_id, result.name, result.result_json, result.is_error, result.truncated
    )


def _failed(message: task_pb2.TaskEvent) -> AgentEvent:
    return Failed(message.error.reason, message.error.message, message.error.retryable)


_TRANSLATIONS: Final[Mapping[str, Callable[[task_pb2.TaskEvent], AgentEvent]]] = {
    "recall": _recalled,
    "tool_call": _tool_called,
    "tool_result": _tool_answered,
    "plan": lambda message: teamwork.plan_from(message.plan),
    "child": lambda message: teamwork.child_from(message.child),
    "final": lambda message: _result(message.final),
    "error": _failed,
}
