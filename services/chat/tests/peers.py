"""Real servicers that stand for chat's peers: they keep what they are told, in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceServicer
from meshwright.session.v1 import session_history_pb2, session_pb2, session_service_pb2
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceServicer
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_common.errors import FailedPrecondition, NotFound, ServiceError, Unavailable
from meshwright_common.ids import new_id


class SessionNotFound(NotFound):
    """As session says it."""

    reason = "SESSION_NOT_FOUND"


class RememberingSessions(SessionServiceServicer):
    """Sessions and messages; turns are begun and committed once, as the real ones are."""

    def __init__(self) -> None:
        self.messages: dict[str, list[session_pb2.StoredMessage]] = {}
        self._done: set[str] = set()
        self.withdrawn: list[str] = []
        self.after_commit: Callable[[], Any] = _go_on
        self.summary_due = False
        self.summarised_sequence = 0

    def _store(
        self, session_id: str, turn_id: str, messages: Iterable[message_pb2.Message]
    ) -> None:
        self.messages[session_id].extend(
            session_pb2.StoredMessage(turn_id=turn_id, message=message) for message in messages
        )

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: Any
    ) -> session_service_pb2.CreateSessionResponse:
        session = session_pb2.Session(session_id=new_id(), title=request.session.title)
        self.messages[session.session_id] = []
        return session_service_pb2.CreateSessionResponse(session=session)

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        if request.session_id not in self.messages:
            raise SessionNotFound
        return session_service_pb2.GetSessionResponse(
            session=session_pb2.Session(
                session_id=request.session_id, summarised_sequence=self.summarised_sequence
            )
        )

    async def BeginTurn(
        self, request: session_service_pb2.BeginTurnRequest, context: Any
    ) -> session_service_pb2.BeginTurnResponse:
        messages = self._ask(request.session_id, request.turn_id, request.message)
        end = next(
            number
            for number, message in enumerate(messages, start=1)
            if message.turn_id == request.turn_id
        )
        start = max(end - request.max_messages, 0)
        return session_service_pb2.BeginTurnResponse(messages=messages[start:end])

    def _ask(
        self, session_id: str, turn_id: str, question: message_pb2.Message
    ) -> list[session_pb2.StoredMessage]:
        if turn_id in self.withdrawn:
            raise FailedPrecondition("the turn was withdrawn")
        if session_id not in self.messages:
            raise SessionNotFound
        messages = self.messages[session_id]
        if all(message.turn_id != turn_id for message in messages):
            self._store(session_id, turn_id, [question])
        return messages

    async def CommitTurn(
        self, request: session_service_pb2.CommitTurnRequest, context: Any
    ) -> session_service_pb2.CommitTurnResponse:
        if f"commit {request.turn_id}" not in self._done:
            self._done.add(f"commit {request.turn_id}")
            self._ask(request.session_id, request.turn_id, request.question)
            self._store(request.session_id, request.turn_id, request.messages)
            self.messages[request.session_id][-1].interrupted = request.interrupted
        await self.after_commit()
        return session_service_pb2.CommitTurnResponse(
            message_id=request.turn_id, context_version=1, summary_due=self.summary_due
        )

    async def WithdrawTurn(
        self, request: session_history_pb2.WithdrawTurnRequest, context: Any
    ) -> session_history_pb2.WithdrawTurnResponse:
        if request.session_id not in self.messages:
            raise SessionNotFound
        self.withdrawn.append(request.turn_id)
        self.messages[request.session_id] = [
            message
            for message in self.messages[request.session_id]
            if message.turn_id != request.turn_id
        ]
        return session_history_pb2.WithdrawTurnResponse()


class ScriptedAgents(AgentServiceServicer):
    """Answers word by word. `gate` is awaited before each word, so that a test can hold it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.executions: list[str] = []
        self.asked: list[bytes] = []
        self.cancelled: list[str] = []
        self.gate: Callable[[int], Any] = _open
        self.task_ids: dict[str, str] = {}
        self.submitted: list[agent_service_pb2.SubmitTaskRequest] = []
        self.submitted_state = task_pb2.TASK_STATE_QUEUED
        self.refusal: ServiceError | None = None
        self.stalls_after = 0
        self.asks: list[task_pb2.TaskInterrupt] = []
        self.answered = asyncio.Event()
        self.completed: dict[str, task_pb2.TaskFinal] = {}
        self.looks = 0
        self.before_cancel: Callable[[], Any] = _go_on
        self.says_nothing = False

    async def ExecuteTask(
        self, request: agent_service_pb2.ExecuteTaskRequest, context: Any
    ) -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        self.executions.append(request.request_id)
        self.asked.append(request.SerializeToString(deterministic=True))
        task_id = self.task_ids.setdefault(request.request_id, new_id())
        if self.says_nothing:
            raise Unavailable("the process died behind the commit")
        attempt = self.executions.count(request.request_id)
        started = task_pb2.TaskStarted(agent=request.spec.agent)
        yield _event(task_id, attempt, started=started)
        words = list(self.words)
        if self.stalls_after:
            # A worker journals one step, tells a part of the next, and another takes its place.
            done = "".join(words[: self.stalls_after])
            yield _event(task_id, attempt, chunk=task_pb2.TaskChunk(text=done))
            checkpoint = task_pb2.TaskCheckpoint(step=1, answer_characters=len(done))
            yield _event(task_id, attempt, checkpoint=checkpoint)
            yield _event(task_id, attempt, chunk=task_pb2.TaskChunk(text="never mind"))
            attempt += 1
            yield _event(task_id, attempt, started=started)
            words = words[self.stalls_after :]
        for number, word in enumerate(words):
            if self.asks and number == len(words) // 2 and not self.answered.is_set():
                told = "".join(words[:number])
                checkpoint = task_pb2.TaskCheckpoint(step=1, answer_characters=len(told))
                yield _event(task_id, attempt, sequence=1_000_000, checkpoint=checkpoint)
                for asked in self.asks:
                    yield _event(task_id, attempt, sequence=1_000_001, interrupt=asked)
                await asyncio.Event().wait()
            await self.gate(number)
            if task_id in self.cancelled:
                error = task_pb2.TaskError(reason="TASK_CANCELLED", message="it was cancelled")
                yield _event(task_id, attempt, error=error)
                return
            yield _event(task_id, attempt, chunk=task_pb2.TaskChunk(text=word))
        yield _event(task_id, attempt, final=self._final())

    async def WatchTask(
        self, request: agent_service_pb2.WatchTaskRequest, context: Any
    ) -> AsyncIterator[agent_service_pb2.WatchTaskResponse]:
        """What comes behind the questions, which are told once more."""
        assert request.after_sequence >= 1_000_000
        started = task_pb2.TaskStarted(agent="rag")
        events = [_event(request.task_id, 2, started=started)]
        events += [_event(request.task_id, 2, interrupt=asked) for asked in self.asks]
        events += [
            _event(request.task_id, 2, chunk=task_pb2.TaskChunk(text=word))
            for word in self.words[len(self.words) // 2 :]
        ]
        for one in [*events, _event(request.task_id, 2, final=self._final())]:
            yield agent_service_pb2.WatchTaskResponse(event=one.event)

    async def GetTask(
        self, request: agent_service_pb2.GetTaskRequest, context: Any
    ) -> agent_service_pb2.GetTaskResponse:
        self.looks += 1
        waits = bool(self.asks) and not self.answered.is_set()
        state = task_pb2.TASK_STATE_WAITING if waits else task_pb2.TASK_STATE_RUNNING
        task = task_pb2.Task(task_id=request.task_id, state=state)
        if waits:
            task.interrupts.extend(self.asks)
        return agent_service_pb2.GetTaskResponse(task=task)

    def _final(self) -> task_pb2.TaskFinal:
        answer = "".join(self.words)
        return task_pb2.TaskFinal(
            answer=answer,
            citations=[message_pb2.Citation(number=1, document_name="guide.pdf", page=7)],
            messages=[
                message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT,
                    parts=[message_pb2.ContentPart(text=answer)],
                )
            ],
            usage=usage_pb2.TokenUsage(prompt_tokens=3, completion_tokens=len(self.words)),
        )

    async def SubmitTask(
        self, request: agent_service_pb2.SubmitTaskRequest, context: Any
    ) -> agent_service_pb2.SubmitTaskResponse:
        self.submitted.append(request)
        if self.refusal is not None:
            raise self.refusal
        task_id = self.task_ids.setdefault(request.request_id, new_id())
        return agent_service_pb2.SubmitTaskResponse(
            task=task_pb2.Task(task_id=task_id, state=self.submitted_state)
        )

    async def CancelTask(
        self, request: agent_service_pb2.CancelTaskRequest, context: Any
    ) -> agent_service_pb2.CancelTaskResponse:
        await self.before_cancel()
        self.cancelled.append(request.task_id)
        task = task_pb2.Task(task_id=request.task_id, state=task_pb2.TASK_STATE_CANCELLED)
        if request.task_id in self.completed:
            task.state = task_pb2.TASK_STATE_COMPLETED
            task.result.CopyFrom(self.completed[request.task_id])
        return agent_service_pb2.CancelTaskResponse(task=task)


async def _open(number: int) -> None:
    await asyncio.sleep(0)


async def _go_on() -> None:
    await asyncio.sleep(0)


def _event(task_id: str, attempt: int, **event: Any) -> agent_service_pb2.ExecuteTaskResponse:
    return agent_service_pb2.ExecuteTaskResponse(
        event=task_pb2.TaskEvent(task_id=task_id, attempt=attempt, **event)
    )
