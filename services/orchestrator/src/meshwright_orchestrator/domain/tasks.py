"""The desk where tasks are accepted, looked up, followed and cancelled."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from meshwright_common.context import Principal, current
from meshwright_common.errors import QuotaExceeded, Unavailable
from meshwright_common.ids import new_id
from meshwright_orchestrator.domain.acceptance import limits_of, seconds_of
from meshwright_orchestrator.domain.agent_directory import AgentDirectory, Choice
from meshwright_orchestrator.domain.backlog import Backlog
from meshwright_orchestrator.domain.decider import ENGINE_VERSION
from meshwright_orchestrator.domain.errors import CursorExpired, TaskNotFound, TooManyTasks
from meshwright_orchestrator.domain.events import Child, Interrupted, TaskEvent, Told
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.live_task import LiveTask
from meshwright_orchestrator.domain.models import (
    Failure,
    Limits,
    Result,
    Task,
    TaskSpec,
    TaskState,
)
from meshwright_orchestrator.domain.news import News
from meshwright_orchestrator.domain.ports import NewTask, Queueing, Quotas, TaskFilter, Tasks
from meshwright_orchestrator.domain.telling import Teller, step_of
from meshwright_orchestrator.domain.waiting import MAX_CHILDREN, child_id
from meshwright_orchestrator.domain.waits import Waits
from meshwright_orchestrator.domain.workshop import Workshop

ADMIN: Final = "tenant:admin"
"""Whoever holds it sees and cancels the tasks of the whole tenant; others their own."""

WAITING_POLL_SECONDS: Final = 2.0
"""How often the reader of a task that waits looks, when it is not told that something changed."""


@dataclass(frozen=True, slots=True)
class Watching:
    """How readers of tasks that do not run here find out: they look every `poll_seconds`, and at
    once when they hear news.
    """

    waits: Waits
    news: News
    poll_seconds: float


class TaskDesk:
    """What callers may do with tasks."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        workshop: Workshop,
        agents: AgentDirectory,
        backlog: Backlog,
        quotas: Quotas,
        limits: Limits,
        watching: Watching,
    ) -> None:
        self._tasks = tasks
        self._watching = watching
        self._workshop = workshop
        self._agents = agents
        self._backlog = backlog
        self._quotas = quotas
        self._limits = limits

    async def start(self, caller: Principal, spec: TaskSpec, request_id: str) -> Task:
        """Store a task and begin it; a known `request_id` returns its task.

        Raises: AgentNotFound, RequestIdReused, TooManyTasks, Unavailable, QuotaExceeded;
        FailedPrecondition (TENANT_SUSPENDED).
        """
        if self._workshop.draining:
            raise Unavailable("this process is shutting down", retry_after_seconds=1.0)
        if self._workshop.is_full:
            raise TooManyTasks(retry_after_seconds=1.0)
        task_id = new_id()
        choice = await self._pick(caller, spec, task_id)
        asked_at = self._workshop.now()
        new = self._new_task(caller, spec, request_id, task_id, choice)
        if (known := await self._known_or_admitted(new)) is not None:
            return known
        accepted = await self._tasks.accept(new)
        if not accepted.existed:
            self._workshop.begin(accepted.task, (), asked_at)
        return accepted.task

    async def submit(self, caller: Principal, spec: TaskSpec, request_id: str) -> Task:
        """Store a task for the workers; a known `request_id` returns its task.

        Raises: AgentNotFound, RequestIdReused, Backlogged, QuotaExceeded; FailedPrecondition
        (TENANT_SUSPENDED).
        """
        new, queueing = await self.prepare(caller, spec, request_id, new_id())
        self._backlog.admit(spec.priority)
        if (known := await self._known_or_admitted(new)) is not None:
            return known
        accepted = await self._tasks.enqueue(new, queueing)
        if not accepted.existed and spec.start_time is None:
            self._backlog.grew()
        return accepted.task

    async def prepare(
        self, caller: Principal, spec: TaskSpec, request_id: str, task_id: str
    ) -> tuple[NewTask, Queueing]:
        """Return what is stored when a task of this id is handed to the workers.

        Neither quotas nor the backlog are asked. Raises: AgentNotFound, Unavailable.
        """
        choice = await self._pick(caller, spec, task_id)
        queueing = Queueing(kind=choice.kind, priority=spec.priority, trace=current().trace)
        return self._new_task(caller, spec, request_id, task_id, choice), queueing

    async def _known_or_admitted(self, new: NewTask) -> Task | None:
        """Return nothing when the tenant may begin a task, else the one that it began before."""
        try:
            await self._quotas.admit(new.owner.tenant_id)
        except QuotaExceeded:
            known = await self._tasks.known(new) if new.request_id else None
            if known is None:
                raise
            return known
        return None

    async def _pick(self, caller: Principal, spec: TaskSpec, task_id: str) -> Choice:
        # By the session, so that a conversation stays with one version of an agent.
        return await self._agents.pick(caller.tenant_id, spec.agent, spec.session_id or task_id)

    def _new_task(
        self, caller: Principal, spec: TaskSpec, request_id: str, task_id: str, choice: Choice
    ) -> NewTask:
        return NewTask(
            task_id=task_id,
            owner=caller,
            correlation_id=current().correlation_id or task_id,
            spec=spec,
            limits=limits_of(spec, choice, self._limits),
            engine_version=ENGINE_VERSION,
            request_id=request_id,
            max_seconds=seconds_of(spec, choice),
        )

    async def get(self, caller: Principal, task_id: str) -> Task:
        """Return a task that the caller may see. Raises: TaskNotFound."""
        task = await self._tasks.find(caller.tenant_id, task_id)
        if task.owner.subject != caller.subject and not caller.has(ADMIN):
            raise TaskNotFound
        return task

    async def list(
        self,
        caller: Principal,
        *,
        states: tuple[TaskState, ...],
        session_id: str,
        before: str,
        limit: int,
    ) -> Sequence[Task]:
        """Return tasks that the caller may see, newest first, older than task `before`."""
        subject = "" if caller.has(ADMIN) else caller.subject
        wanted = TaskFilter(subject, states, session_id, before, limit)
        return await self._tasks.list(caller.tenant_id, wanted)

    async def cancel(self, caller: Principal, task_id: str) -> Task:
        """Stop a task; returns when nothing more can start for it. Raises: TaskNotFound."""
        found = await self.get(caller, task_id)
        if found.state.is_final:
            return found
        task = await self._tasks.cancel(caller.tenant_id, task_id)
        if task.state is TaskState.CANCELLED:
            await self._workshop.cancel(task_id)
        return task

    async def watch(
        self, caller: Principal, task_id: str, after_sequence: int
    ) -> AsyncGenerator[Told, None]:
        """Yield the events of a task that the caller may see, after the last checkpoint up to the
        position; nothing when that is the end. Raises: TaskNotFound, CursorExpired, Unavailable.
        """
        task = await self.get(caller, task_id)
        step, saw_end = step_of(after_sequence)
        if step > task.step_count:
            raise CursorExpired
        if saw_end and task.state.is_final:
            return
        _, steps = await self._tasks.read(task.tenant_id, task_id, after_step=0)
        async with aclosing(self.follow(task, steps[:step])) as events:
            async for told in events:
                yield told

    async def follow(self, task: Task, told: Sequence[Step] = ()) -> AsyncGenerator[Told, None]:
        """Yield the events of a task after the steps already `told`, to its end, wherever it runs.

        A task whose process died is taken over here. Raises: Unavailable.
        """
        teller = Teller(task.task_id, task.spec.agent, told)
        given_up: LiveTask | None = None
        while True:
            live = self._workshop.live(task.task_id)
            if live is None or live is given_up:
                async with aclosing(self._poll(teller, task)) as events:
                    async for one in events:
                        yield one
                        if isinstance(one.event, Result | Failure):
                            return
                continue
            for one in teller.began(live.attempt, live.resumed_steps):
                yield one
            async with aclosing(live.follow(teller.step)) as live_events:
                async for _, event in live_events:
                    yield teller.tell(event)
                    if isinstance(event, Result | Failure):
                        return
            given_up = live

    async def _poll(self, teller: Teller, task: Task) -> AsyncGenerator[Told, None]:
        """Take a lost task over, else yield what another process journaled, and wait a little."""
        if self._workshop.draining:
            raise Unavailable("this process is shutting down", retry_after_seconds=1.0)
        # Heard from before the look on: nothing comes between the two unnoticed.
        with self._watching.news.hearing(task.task_id) as woken:
            now, steps = await self._tasks.read(
                task.tenant_id, task.task_id, after_step=teller.step
            )
            if not now.state.is_final and now.lease_expired and await self._workshop.take_over(now):
                return
            older = sum(1 for step in steps if step.attempt < now.attempt)
            for told in teller.began(now.attempt, teller.step + older):
                yield told
            for told in teller.journaled(steps):
                yield told
            event = now.result or now.failure
            if now.state.is_final and event is not None:
                yield teller.tell(event)
                return
            seconds = self._watching.poll_seconds
            if now.state is TaskState.WAITING:
                seconds = max(seconds, WAITING_POLL_SECONDS)
                for pending in await self._pending(now):
                    for told in teller.tell_once(pending):
                        yield told
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken.wait()

    async def _pending(self, task: Task) -> Sequence[TaskEvent]:
        """Return what readers of a waiting task are told of what it waits for."""
        asked, children = await self._watching.waits.pending(task.tenant_id, task.task_id)
        # Those of earlier steps were told with them.
        step = task.step_count + 1
        current_ids = {child_id(task.task_id, step, index) for index in range(MAX_CHILDREN)}
        return [
            *(Interrupted(asking.interrupt_id, asking.question) for asking in asked),
            *(
                Child(child.task_id, child.agent, state)
                for child in children
                if child.task_id in current_ids
                for state in (TaskState.QUEUED, child.state)
                if state is TaskState.QUEUED or state.is_final
            ),
        ]
