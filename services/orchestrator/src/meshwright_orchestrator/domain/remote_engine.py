"""Tasks of agents that joined from outside: found an instance, asked it, told what it says.

A task goes to one instance at a time, under its own id as request_id: a repeated call, after a
crash here, follows what goes on there. When the instance dies, another one begins anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeAlias

import structlog

from meshwright_common.errors import Aborted, Cancelled, ResourceExhausted, Unavailable
from meshwright_orchestrator.domain.citations import cited
from meshwright_orchestrator.domain.conversation import Message, Role, Text, ToolCall
from meshwright_orchestrator.domain.errors import AnswerTruncated, JournalUnreadable
from meshwright_orchestrator.domain.events import Chunk, Started
from meshwright_orchestrator.domain.journal import ModelAnswered, ToolResult
from meshwright_orchestrator.domain.models import Failure, Result, Task, TaskState
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.remote import AgentAway, AgentBusy, Instances, Place
from meshwright_orchestrator.domain.workbench import Workbench

logger = structlog.get_logger(__name__)

PICK_AGAIN_SECONDS: Final = 0.25
"""Pause before an instance is looked for again when there was none."""
MAX_ANSWER_CHARACTERS: Final = 1024 * 1024
MAX_TOOL_EVENTS: Final = 1_000
"""Told of one task; later ones are left out."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The instance begins, or begins anew: its text after the last Kept is withdrawn."""


@dataclass(frozen=True, slots=True)
class Kept:
    """So many characters of its text are never withdrawn."""

    characters: int


@dataclass(frozen=True, slots=True)
class Named:
    """What the instance calls the task."""

    remote_task_id: str


class AnswerTooLong(ResourceExhausted):
    """The agent says more than a task keeps."""

    reason = "TOO_LARGE"
    text = "the agent's answer is longer than {limit} characters"


RemoteEvent: TypeAlias = Begun | Kept | Named | Chunk | ToolCall | ToolResult | Result | Failure


class RemotePrograms(Protocol):
    """The programs at the instances' addresses."""

    def execute(
        self, place: Place, task: Task
    ) -> AbstractAsyncContextManager[AsyncIterator[RemoteEvent]]:
        """Let the program work on a task, or follow it when it does already.

        Leaving the block ends the call. Raises, inside: the ServiceError that the call ended with.
        """
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How often another instance is asked, how long is waited for one, and when it is silent."""

    most_again: int
    wait_seconds: float
    silent_seconds: float


class RemoteEngine:
    """Engine of the agents that joined: see domain/runner.py. `stopped` is called when the work
    was broken off here: what goes on at an instance may have to be cancelled.
    """

    def __init__(
        self,
        instances: Instances,
        programs: RemotePrograms,
        patience: Patience,
        stopped: Callable[[], None],
    ) -> None:
        self._instances = instances
        self._programs = programs
        self._patience = patience
        self._stopped = stopped

    async def work(self, bench: Workbench) -> Ending:
        if bench.steps:
            # The only step is journaled with the end.
            raise JournalUnreadable(step="1")
        try:
            return await self._asked(bench)
        except asyncio.CancelledError:
            self._stopped()
            raise

    async def _asked(self, bench: Workbench) -> Ending:
        task = bench.task
        tried: list[str] = []
        while True:
            bench.lease.check()
            await bench.check_budget()
            place = await self._place(task, tried)
            telling = _Telling(bench)
            try:
                end = await self._followed(bench, place, telling)
            except AnswerTooLong:
                raise
            except (Unavailable, Cancelled, ResourceExhausted) as error:
                tried.append(place.instance_id)
                logger.warning(
                    "remote_agent_lost",
                    task_id=task.task_id,
                    agent_instance_id=place.instance_id,
                    reason=error.reason,
                )
                telling.withdraw()
                if len(tried) > self._patience.most_again:
                    raise
                continue
            await bench.written(lambda: self._instances.ended(task.tenant_id, task.task_id))
            return _ending(bench, telling, end)

    async def _place(self, task: Task, tried: list[str]) -> Place:
        until = time.monotonic() + self._patience.wait_seconds
        while True:
            try:
                return await self._instances.pick(
                    task.tenant_id, task.spec.agent, task.task_id, tried
                )
            except (Unavailable, AgentBusy, Aborted):
                # Nobody is there, or the database is away.
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(PICK_AGAIN_SECONDS)

    async def _followed(
        self, bench: Workbench, place: Place, telling: "_Telling"
    ) -> Result | Failure:
        """Return how the instance ended the task.

        Raises: Unavailable when it died or is silent; what the call ended with; LeaseLost.
        """
        task = bench.task
        async with self._programs.execute(place, task) as events:
            while True:
                event = await self._next(task, place, events)
                match event:
                    case None:
                        raise AnswerTruncated("the agent ended its stream without a result")
                    case Result() | Failure():
                        return event
                    case Named(remote_task_id):
                        await bench.written(
                            partial(
                                self._instances.named, task.tenant_id, task.task_id, remote_task_id
                            )
                        )
                    case _:
                        telling.tell(event)

    async def _next(
        self, task: Task, place: Place, events: AsyncIterator[RemoteEvent]
    ) -> RemoteEvent | None:
        """Return the next event; None: there are no more. Raises: AgentAway when the instance,
        which says nothing of the task, was not heard elsewhere either.
        """
        # house: naked-task: ended and awaited below
        waiting = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=self._patience.silent_seconds)
                if done:
                    return waiting.result()
                if not await self._is_alive(task, place):
                    raise AgentAway("the agent's instance fell silent")
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                # Looked at, also when nobody is left to raise it to.
                waiting.exception()

    async def _is_alive(self, task: Task, place: Place) -> bool:
        try:
            return await self._instances.is_alive(task.tenant_id, place.instance_id)
        except (Unavailable, Aborted):
            # Nobody can tell now: the call stands.
            return True


class _Telling:
    """What readers are told of one instance's work."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self.text = ""
        self.reasoning = ""
        self._kept = 0
        self._tools = 0

    def tell(self, event: Begun | Kept | Chunk | ToolCall | ToolResult) -> None:
        match event:
            case Begun():
                if len(self.text) > self._kept or self.reasoning:
                    kept = self.text[: self._kept]
                    self.withdraw()
                    self._say(kept, "")
            case Kept(characters):
                self._kept = min(max(characters, 0), len(self.text))
            case Chunk(text, reasoning):
                self._say(text, reasoning)
            case _:
                self._tools += 1
                if self._tools <= MAX_TOOL_EVENTS:
                    self._bench.tell(event)

    def withdraw(self) -> None:
        """Take back all that was told."""
        if self.text or self.reasoning:
            self.text = self.reasoning = ""
            bench = self._bench
            bench.tell(Started(bench.task.spec.agent, bench.step - 1))

    def end(self, answer: str) -> None:
        """Let what was told be this answer."""
        if answer == self.text:
            return
        if not answer.startswith(self.text):
            self.withdraw()
        self._say(answer[len(self.text) :], "")

    def _say(self, text: str, reasoning: str) -> None:
        self.text += text
        self.reasoning += reasoning
        if len(self.text) + len(self.reasoning) > MAX_ANSWER_CHARACTERS:
            raise AnswerTooLong(limit=str(MAX_ANSWER_CHARACTERS))
        if text or reasoning:
            self._bench.tell(Chunk(text, reasoning))


def _ending(bench: Workbench, telling: _Telling, end: Result | Failure) -> Ending:
    if isinstance(end, Failure):
        telling.withdraw()
        return Ending(TaskState.FAILED, failure=end, steps=bench.unwritten(), usage=bench.usage)
    answer = end.answer or telling.text
    telling.end(answer)
    outcome = ModelAnswered(text=answer, reasoning=telling.reasoning, usage=end.usage)
    said = (Message(Role.ASSISTANT, (Text(answer),)),) if answer else ()
    result = replace(end, answer=answer, citations=cited(answer, end.citations), messages=said)
    return Ending(
        TaskState.COMPLETED,
        result=result,
        steps=bench.unwritten(outcome),
        usage=bench.usage + end.usage,
    )
