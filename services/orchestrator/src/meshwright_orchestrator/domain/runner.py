"""Running one attempt of a task to its end, and telling the truth about how it ended."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from meshwright_common.errors import Internal, ServiceError, Unavailable
from meshwright_orchestrator.domain import decider, deciding, supervisor
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.conversation import ToolOffer
from meshwright_orchestrator.domain.decider import (
    CallModel,
    CallTools,
    Command,
    Decision,
    Fail,
    Finish,
    Recall,
    Say,
)
from meshwright_orchestrator.domain.errors import (
    EXPIRED,
    BudgetExceeded,
    JournalUnreadable,
    LeaseLost,
    failure_of,
)
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Outcome,
    Recalled,
    Step,
    ToolsAnswered,
    usage_of,
)
from meshwright_orchestrator.domain.models import NO_USAGE, Failure, Result, Task, TaskState
from meshwright_orchestrator.domain.ports import Ending, Tasks
from meshwright_orchestrator.domain.retries import Postponed, Retries, is_handed_in
from meshwright_orchestrator.domain.suspension import Suspended, Suspension
from meshwright_orchestrator.domain.waiting import (
    Ask,
    Asked,
    ChildResult,
    ChildSpec,
    Delegate,
    Delegated,
    Sleep,
    Slept,
)
from meshwright_orchestrator.domain.waiting_room import WaitingRoom
from meshwright_orchestrator.domain.workbench import Workbench

logger = structlog.get_logger(__name__)

INTERNAL_TEXT: Final = "internal error; the log has the details under this task's id"


class Engine(Protocol):
    """What works on tasks of some agents."""

    async def work(self, bench: Workbench) -> Ending:
        """Work until the task can end, going on after the journaled steps.

        Raises: LeaseLost; Suspended when it waits; the ServiceError that the task fails with.
        """
        ...


class BuiltinEngine:
    """Agents that are data, built in or defined: does what the decider says and journals what came
    of it. A task keeps the version that it was accepted for.
    """

    def __init__(self, agents: AgentDirectory) -> None:
        self._agents = agents

    async def work(self, bench: Workbench) -> Ending:
        task = bench.task
        if task.engine_version not in decider.KNOWN_VERSIONS:
            raise JournalUnreadable(engine_version=str(task.engine_version))
        version = task.limits.agent_version
        agent = await self._agents.find(task.tenant_id, task.spec.agent, version)
        bench.works_as(agent)
        decision = replayed(deciding.begin(agent, task.spec, task.limits), bench.steps)
        outcome: Outcome | None = None
        while not isinstance(decision.command, Finish | Fail):
            if isinstance(decision.command, Say) and outcome is not None:
                # Telling costs nothing: it is journaled with what it tells, and the end.
                bench.hold(outcome)
            elif isinstance(outcome, Recalled) and not bench.recall_was_slow:
                bench.hold(outcome)
            elif outcome is not None:
                await bench.commit(outcome)
            outcome = await self._done(bench, decision.command)
            decision = decider.step(decision.state, outcome)
            if decision.plan is not None and isinstance(outcome, ModelAnswered):
                outcome = replace(outcome, plan=decision.plan)
                bench.tell(decision.plan)
        # The last step is not journaled on its own but with the ending: one transaction less.
        steps = bench.unwritten(outcome)
        usage = bench.usage + (NO_USAGE if outcome is None else usage_of(outcome))
        if isinstance(decision.command, Fail):
            failure = decision.command.failure
            return Ending(TaskState.FAILED, failure=failure, steps=steps, usage=usage)
        result = decision.command.result
        return Ending(TaskState.COMPLETED, result=result, steps=steps, usage=usage)

    async def _done(  # noqa: PLR0911 - one case a command
        self,
        bench: Workbench,
        command: Recall | CallModel | CallTools | Ask | Delegate | Sleep | Say,
    ) -> Outcome:
        match command:
            case Recall():
                return await bench.recall(command)
            case CallModel():
                more = await self._team(bench.task, command.agents) if command.agents else ()
                return await bench.generate(
                    command.messages,
                    command.tool_use,
                    more=more,
                    hidden=command.hidden,
                    silent=command.silent,
                    output_schema=command.output_schema,
                )
            case CallTools(planned):
                return await bench.use_tools(planned)
            case Ask(questions):
                return await bench.ask(questions)
            case Delegate(children):
                return await _delegated(bench, children)
            case Sleep(seconds):
                return await bench.sleep(seconds)
            case Say(text, output):
                return bench.say(text, output)

    async def _team(self, task: Task, names: Sequence[str]) -> tuple[ToolOffer, ...]:
        """Return the tool that hands work to these agents; none when there are none any more."""
        team = await self._agents.descriptions(task.tenant_id, names)
        return (supervisor.offer(team),) if team else ()


async def _delegated(bench: Workbench, children: Sequence[ChildSpec]) -> Delegated:
    """Let the children work. Below the deepest level of a tree each is refused, for the model to
    read: so a circle of agents comes to an end, and the work above it goes on.
    """
    try:
        return await bench.delegate(children)
    except BudgetExceeded as error:
        refusal = failure_of(error)
        return Delegated(
            tuple(
                ChildResult("", child.agent, TaskState.FAILED, failure=refusal)
                for child in children
            )
        )


def replayed(decision: Decision, steps: tuple[Step, ...]) -> Decision:
    """Return the decision after the journaled steps. Raises: JournalUnreadable."""
    for entry in steps:
        if not fits(decision.command, entry.outcome):
            raise JournalUnreadable(step=str(entry.number))
        decision = decider.step(decision.state, entry.outcome)
    return decision


def fits(command: Command, outcome: Outcome) -> bool:  # noqa: PLR0911 - one case a command
    """Return whether a journaled outcome is one of the command."""
    match command, outcome:
        case (Recall(), Recalled()) | (CallModel(), ModelAnswered()):
            return True
        case CallTools(planned), ToolsAnswered(calls):
            return tuple(plan.call for plan in planned) == calls
        case Say(text, output), GraphAnswered():
            return outcome == GraphAnswered(text, output)
        case Ask(questions), Asked(asked):
            return questions == asked
        case Delegate(children), Delegated(results):
            return [child.agent for child in children] == [child.agent for child in results]
        case Sleep(seconds), Slept(slept):
            return seconds == slept
        case _:
            return False


class NoopEngine:
    """Ends every task at once, with an empty answer: what is left is what the platform costs."""

    async def work(self, bench: Workbench) -> Ending:
        return Ending(TaskState.COMPLETED, result=Result(""))


@dataclass(frozen=True, slots=True)
class Others:
    """Engines of agents that decide for themselves: installed graphs, and those that joined."""

    graphs: Engine
    joined: Engine


class TaskRunner:
    """Runs attempts. `unlisted` are engines by the names of their agents; `others` work for those
    that are neither among them nor data.
    """

    def __init__(
        self,
        *,
        tasks: Tasks,
        room: WaitingRoom,
        agents: AgentDirectory,
        others: Others,
        max_attempts: int,
        retries: Retries,
        unlisted: Mapping[str, Engine] = MappingProxyType({}),
    ) -> None:
        self._tasks = tasks
        self._room = room
        self._agents = agents
        self._builtin = BuiltinEngine(agents)
        self._others = others
        self._unlisted = unlisted
        self._max_attempts = max_attempts
        self._retries = retries

    async def run(self, bench: Workbench) -> TaskState | None:
        """Work until the task has ended or is no longer ours. Raises nothing but cancellation.

        Returns the final state, or WAITING, or when it is to be begun again QUEUED, or RUNNING for
        whoever reads it to take over; None when none of them was written here.
        """
        try:
            ending = await self._ending(bench)
            if isinstance(ending, TaskState):
                return ending
            await bench.written(lambda: self._tasks.end(bench.task, ending))
        except LeaseLost:
            logger.info("task_given_up", task_id=bench.task.task_id, attempt=bench.task.attempt)
        except Exception:
            # The end could not be written. The lease runs out and another attempt tries; after
            # the last one the task fails without what this one wanted to store.
            logger.exception("task_not_ended", task_id=bench.task.task_id)
        else:
            bench.checkpoint(ending.steps)
            event = ending.result or ending.failure
            if event is not None:
                bench.tell(event)
            return ending.state
        finally:
            bench.live.close()
        return None

    async def _ending(self, bench: Workbench) -> Ending | TaskState:
        """Return how the task ends, or the state in which it was left."""
        task = bench.task
        # An attempt that ended by waiting was no crash.
        if task.attempt - task.waits > self._max_attempts:
            text = f"the task was begun {self._max_attempts} times and never came to an end"
            return _failed(bench, failure_of(Unavailable(text)))
        if task.remaining_seconds <= 0:
            return _expired(bench)
        try:
            async with asyncio.timeout(task.remaining_seconds):
                return await self._work(bench)
        except Suspended as left:
            return await self._leave(bench, left.suspension)
        except Postponed as again:
            return await self._left_for_later(bench, again)
        except TimeoutError:
            return _expired(bench)

    async def _left_for_later(self, bench: Workbench, again: Postponed) -> TaskState:
        task = bench.task
        if is_handed_in(task):
            await bench.written(lambda: self._tasks.postpone(task, again.seconds, away=again.away))
            return TaskState.QUEUED
        # The call that waits for it takes it over as it does when a process died: a new attempt,
        # whose first event withdraws what was told of the broken step.
        await asyncio.sleep(again.seconds)
        await bench.written(lambda: self._tasks.let_go(task))
        return TaskState.RUNNING

    async def _leave(self, bench: Workbench, suspension: Suspension) -> Ending | TaskState:
        try:
            await self._room.leave(bench, suspension)
        except LeaseLost:
            raise
        except ServiceError as error:
            return _failed(bench, failure_of(error))
        return TaskState.WAITING

    async def _work(self, bench: Workbench) -> Ending:
        engine: Engine | None = None
        try:
            engine = await self._engine_of(bench.task)
            return await engine.work(bench)
        except (LeaseLost, Suspended):
            raise
        except ServiceError as error:
            again = self._again(bench.task, error, engine)
            if again is not None:
                logger.info(
                    "task_postponed",
                    task_id=bench.task.task_id,
                    reason=error.reason,
                    seconds=round(again.seconds, 2),
                    away=again.away,
                )
                raise again from error
            return _failed(bench, failure_of(error))
        except Exception:
            logger.exception("task_broke", task_id=bench.task.task_id)
            return _failed(bench, failure_of(Internal(INTERNAL_TEXT)))

    def _again(self, task: Task, error: ServiceError, engine: Engine | None) -> Postponed | None:
        # Of an agent that joined it is its own program that is away.
        if engine is not self._others.joined:
            pause = self._retries.patience_left(task, error)
            if pause is not None:
                return Postponed(pause, away=True)
        pause = self._retries.pause_after(task, error)
        return None if pause is None else Postponed(pause)

    async def _engine_of(self, task: Task) -> Engine:
        agent = task.spec.agent
        if agent in self._unlisted:
            return self._unlisted[agent]
        if task.limits.agent_version > 0 or agent in self._agents.builtin:
            return self._builtin
        others = self._others
        return others.graphs if await self._agents.is_graph(agent) else others.joined


def _failed(bench: Workbench, failure: Failure) -> Ending:
    return Ending(TaskState.FAILED, failure=failure, steps=bench.unwritten(), usage=bench.usage)


def _expired(bench: Workbench) -> Ending:
    return Ending(TaskState.EXPIRED, failure=EXPIRED, steps=bench.unwritten(), usage=bench.usage)
