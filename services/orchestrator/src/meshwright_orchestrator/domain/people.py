"""The desk where people see what tasks ask them, and answer."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from meshwright_common.context import Principal
from meshwright_orchestrator.domain import answers
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.errors import (
    InterruptClosed,
    InterruptNotFound,
    RequestIdReused,
)
from meshwright_orchestrator.domain.interrupts import (
    ANSWERED,
    OPEN,
    Interrupt,
    Interrupts,
    OpenFilter,
)
from meshwright_orchestrator.domain.models import Task, TaskState
from meshwright_orchestrator.domain.tasks import ADMIN, TaskDesk

MOST_OF_TASK: Final = 100
"""A task asks 16 questions at a time, so this is all of them."""


class PeopleDesk:
    """What callers may do with interrupts: their own tasks', or the tenant's with tenant:admin.

    `woke` is called when a task may have been queued again here.
    """

    def __init__(
        self, tasks: TaskDesk, interrupts: Interrupts, woke: Callable[[], None] = lambda: None
    ) -> None:
        self._tasks = tasks
        self._interrupts = interrupts
        self._woke = woke

    async def list_open(
        self, caller: Principal, *, task_id: str, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Interrupt]:
        """Return open interrupts that the caller may answer, oldest first. Raises: TaskNotFound."""
        if task_id:
            await self._tasks.get(caller, task_id)
        subject = "" if caller.has(ADMIN) else caller.subject
        wanted = OpenFilter(subject, task_id, after, limit)
        return await self._interrupts.open_of(caller.tenant_id, wanted)

    async def open_of(self, task: Task) -> Sequence[Interrupt]:
        """Return what a task waits for from people; nothing of one that does not wait."""
        if task.state is not TaskState.WAITING:
            return ()
        wanted = OpenFilter(task_id=task.task_id, limit=MOST_OF_TASK)
        return await self._interrupts.open_of(task.tenant_id, wanted)

    async def resume(
        self,
        caller: Principal,
        task_id: str,
        interrupt_id: str,
        value: JsonObject,
        request_id: str,
    ) -> Task:
        """Answer an interrupt. The first answer counts; the same request again changes nothing.

        Raises: TaskNotFound; InterruptNotFound; InvalidArgument naming the field that does not fit;
        InterruptClosed; RequestIdReused.
        """
        await self._tasks.get(caller, task_id)
        asked = await self._interrupts.find(caller.tenant_id, task_id, interrupt_id)
        if asked is None:
            raise InterruptNotFound
        if asked.state == OPEN:
            answers.check(asked.question, value)
            if await self._interrupts.answer(caller.tenant_id, asked, value, request_id):
                self._woke()
                return await self._tasks.get(caller, task_id)
            # Somebody was faster, or its time has just run out.
            asked = await self._interrupts.find(caller.tenant_id, task_id, interrupt_id) or asked
        if asked.state == ANSWERED and asked.answer and request_id == asked.request_id != "":
            if asked.answer.value != value:
                raise RequestIdReused
            return await self._tasks.get(caller, task_id)
        raise InterruptClosed(state="expired" if asked.state == OPEN else asked.state)
