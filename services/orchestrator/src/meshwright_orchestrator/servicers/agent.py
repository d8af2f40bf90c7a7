"""AgentService: protobuf in, domain call, protobuf out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_common.clock import Clock
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.people import PeopleDesk
from meshwright_orchestrator.domain.replaying import ReplayDesk
from meshwright_orchestrator.domain.tasks import TaskDesk
from meshwright_orchestrator.wire import interrupts, pages, tasks
from meshwright_orchestrator.wire.events import event_message

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page of long results ends early: a message has 4 MiB at most."""


Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(AgentServiceServicer):
    """Serves AgentService."""

    def __init__(
        self, desk: TaskDesk, people: PeopleDesk, replays: ReplayDesk, clock: Clock
    ) -> None:
        self._desk = desk
        self._replays = replays
        self._people = people
        self._clock = clock

    async def ExecuteTask(
        self, request: agent_service_pb2.ExecuteTaskRequest, context: Context
    ) -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        """Start a task, or find the one of the request_id, and follow it."""
        request_id = tasks.request_id_from(request.request_id)
        spec = tasks.spec_from(request.spec, self._clock.now())
        if spec.start_time is not None:
            raise invalid("spec.start_time", "is for SubmitTask: ExecuteTask begins at once")
        task = await self._desk.start(principal(), spec, request_id)
        async with aclosing(self._desk.follow(task)) as events:
            async for told in events:
                yield agent_service_pb2.ExecuteTaskResponse(event=event_message(told))

    async def SubmitTask(
        self, request: agent_service_pb2.SubmitTaskRequest, context: Context
    ) -> agent_service_pb2.SubmitTaskResponse:
        """Store a task for the workers, or find the one of the request_id."""
        request_id = tasks.request_id_from(request.request_id)
        spec = tasks.spec_from(request.spec, self._clock.now())
        task = await self._desk.submit(principal(), spec, request_id)
        return agent_service_pb2.SubmitTaskResponse(task=tasks.task_message(task))

    async def WatchTask(
        self, request: agent_service_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[agent_service_pb2.WatchTaskResponse]:
        """Follow a task after a position."""
        task_id = parse_id(request.task_id, "task_id")
        if request.after_sequence < 0:
            raise invalid("after_sequence", "must not be negative")
        watched = self._desk.watch(principal(), task_id, request.after_sequence)
        async with aclosing(watched) as events:
            async for told in events:
                yield agent_service_pb2.WatchTaskResponse(event=event_message(told))

    async def GetTask(
        self, request: agent_service_pb2.GetTaskRequest, context: Context
    ) -> agent_service_pb2.GetTaskResponse:
        """Read one task."""
        task = await self._desk.get(principal(), parse_id(request.task_id, "task_id"))
        return agent_service_pb2.GetTaskResponse(task=await self._shown(task))

    async def _shown(self, task: Task) -> task_pb2.Task:
        message = tasks.task_message(task)
        asked = await self._people.open_of(task)
        message.interrupts.extend(map(interrupts.interrupt_message, asked))
        return message

    async def ListInterrupts(
        self, request: agent_service_pb2.ListInterruptsRequest, context: Context
    ) -> agent_service_pb2.ListInterruptsResponse:
        """List what tasks ask the caller; the page token is the last one seen."""
        caller = principal()
        task_id = parse_id(request.task_id, "task_id") if request.task_id else ""
        scope = (caller.tenant_id, caller.subject, "interrupts", task_id)
        size, last = pages.page_of(request.page, *scope)
        found = await self._people.list_open(
            caller, task_id=task_id, after=interrupts.position_from(last), limit=size + 1
        )
        shown: list[agent_service_pb2.OpenInterrupt] = []
        room = MAX_PAGE_BYTES
        for asked in found[:size]:
            message = interrupts.open_message(asked)
            room -= message.ByteSize()
            if shown and room < 0:
                break
            shown.append(message)
        more = len(found) > len(shown)
        end = interrupts.position_of(found[len(shown) - 1]) if more and shown else ""
        return agent_service_pb2.ListInterruptsResponse(
            interrupts=shown,
            page=page_pb2.PageInfo(next_page_token=pages.page_token(end, *scope) if end else ""),
        )

    async def ResumeTask(
        self, request: agent_service_pb2.ResumeTaskRequest, context: Context
    ) -> agent_service_pb2.ResumeTaskResponse:
        """Answer an interrupt."""
        task = await self._people.resume(
            principal(),
            parse_id(request.task_id, "task_id"),
            parse_id(request.interrupt_id, "interrupt_id"),
            interrupts.answer_from(request.payload),
            tasks.request_id_from(request.request_id),
        )
        return agent_service_pb2.ResumeTaskResponse(task=await self._shown(task))

    async def ListTasks(
        self, request: agent_service_pb2.ListTasksRequest, context: Context
    ) -> agent_service_pb2.ListTasksResponse:
        """List the tasks the caller may see; the page token is the last one seen."""
        caller = principal()
        states = tasks.states_from(request.states)
        session_id = parse_id(request.session_id, "session_id") if request.session_id else ""
        scope = (caller.tenant_id, caller.subject, session_id, *sorted(states))
        size, last = pages.page_of(request.page, *scope)
        found = await self._desk.list(
            caller,
            states=states,
            session_id=session_id,
            before=parse_id(last, "page.page_token") if last else "",
            limit=size + 1,
        )
        shown: list[task_pb2.Task] = []
        room = MAX_PAGE_BYTES
        for task in found[:size]:
            message = tasks.task_message(task)
            room -= message.ByteSize()
            if shown and room < 0:
                break
            shown.append(message)
        more = len(found) > len(shown)
        token = pages.page_token(shown[-1].task_id, *scope) if more and shown else ""
        return agent_service_pb2.ListTasksResponse(
            tasks=shown, page=page_pb2.PageInfo(next_page_token=token)
        )

    async def ReplayTask(
        self, request: agent_service_pb2.ReplayTaskRequest, context: Context
    ) -> agent_service_pb2.ReplayTaskResponse:
        """Run a task's journal through the decider."""
        task_id = parse_id(request.task_id, "task_id")
        replay = await self._replays.replay(principal(), task_id)
        return agent_service_pb2.ReplayTaskResponse(
            identical=replay.identical, first_difference=replay.first_difference
        )

    async def CancelTask(
        self, request: agent_service_pb2.CancelTaskRequest, context: Context
    ) -> agent_service_pb2.CancelTaskResponse:
        """Stop a task."""
        task = await self._desk.cancel(principal(), parse_id(request.task_id, "task_id"))
        return agent_service_pb2.CancelTaskResponse(task=tasks.task_message(task))
