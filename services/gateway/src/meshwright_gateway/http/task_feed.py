"""The events of a task: its stream, and its stored end when the stream breaks before."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.http.sse import TASK_ENDS

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
