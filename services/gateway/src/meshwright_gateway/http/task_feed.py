"""The events of a task: its stream, and its stored end when the stream breaks before; or the
events of any task, from wherever a reader left off.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.errors import DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.http.sse import TASK_ENDS
from meshwright_gateway.http.turn_feed import PAUSES_SECONDS

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

_POLL_SECONDS: Final = 1.0
_MAX_FAILED_POLLS: Final = 20

_logger = get_logger(__name__)


class TaskFeed:
    """Runs one task and follows it to its end. `task_id` is empty until the task is known."""

    def __init__(
        self, agents: "AgentServiceAsyncStub", request: agent_service_pb2.ExecuteTaskRequest
    ) -> None:
        self._agents = agents
        self._request = request
        self.task_id = ""

    async def events(self) -> AsyncGenerator[task_pb2.TaskEvent, None]:
        """Yield the events to the last one, `final` or `error`.

        A stream that breaks (its deadline, a lost process) does not end the task: what follows is
        its end alone. Raises: whatever the orchestrator refuses; Unavailable when it stays away.
        """
        last = task_pb2.TaskEvent()
        try:
            async with open_stream(self._agents.ExecuteTask(self._request)) as responses:
                async for response in responses:
                    last = response.event
                    self.task_id = last.task_id
                    yield last
                    if last.WhichOneof("event") in TASK_ENDS:
                        return
        except (DeadlineExceeded, Unavailable) as error:
            if not self.task_id:
                raise
            _logger.info("task_polled", task_id=self.task_id, reason=error.reason)
        if self.task_id:
            yield await self._end(last)

    async def _end(self, last: task_pb2.TaskEvent) -> task_pb2.TaskEvent:
        failures = 0
        while True:
            try:
                answer = await self._agents.GetTask(
                    agent_service_pb2.GetTaskRequest(task_id=self.task_id)
                )
            except (DeadlineExceeded, Unavailable):
                failures += 1
                if failures == _MAX_FAILED_POLLS:
                    raise
            else:
                failures = 0
                end = _end_of(answer.task, last)
                if end is not None:
                    return end
            await asyncio.sleep(_POLL_SECONDS)


class WatchFeed:
    """Follows one task to its end, over as many calls as it takes."""

    def __init__(
        self,
        agents: "AgentServiceAsyncStub",
        task_id: str,
        after_sequence: int,
        *,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._agents = agents
        self._task_id = task_id
        self._sequence = after_sequence
        self._pauses_seconds = pauses_seconds

    async def events(self) -> AsyncGenerator[task_pb2.TaskEvent, None]:
        """Yield the events to the last one; none when the client has seen that.

        Raises: whatever the orchestrator refuses; Unavailable or DeadlineExceeded when the task
        cannot be followed any longer, which does not end the task.
        """
        failures = 0
        while True:
            before = self._sequence
            error: ServiceError
            try:
                async with open_stream(self._agents.WatchTask(self._request())) as responses:
                    async for response in responses:
                        self._sequence = response.event.sequence
                        yield response.event
                return
            except DeadlineExceeded as caught:
                # A call does not last for ever, a task may wait for long.
                failures, error = 0, caught
            except Unavailable as caught:
                failures, error = (0 if self._sequence != before else failures), caught
            if failures == len(self._pauses_seconds):
                raise error
            _logger.info("task_followed_again", task_id=self._task_id, reason=error.reason)
            await asyncio.sleep(self._pauses_seconds[failures])
            failures += 1

    def _request(self) -> agent_service_pb2.WatchTaskRequest:
        return agent_service_pb2.WatchTaskRequest(
            task_id=self._task_id, after_sequence=self._sequence
        )


def _end_of(task: task_pb2.Task, last: task_pb2.TaskEvent) -> task_pb2.TaskEvent | None:
    event = task_pb2.TaskEvent(
        task_id=task.task_id, sequence=last.sequence + 1, attempt=task.attempt
    )
    if task.HasField("result"):
        event.final.CopyFrom(task.result)
    elif task.HasField("error"):
        event.error.CopyFrom(task.error)
    elif task.state == task_pb2.TASK_STATE_CANCELLED:
        event.error.CopyFrom(
            task_pb2.TaskError(reason="TASK_CANCELLED", message="the task was cancelled")
        )
    else:
        return None
    return event
