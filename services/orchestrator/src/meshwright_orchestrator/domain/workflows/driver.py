"""Drives runs: reads one, works out what follows, writes it with all that begins and ends by it.

A pass over a run has no effect until it is written, in one transaction, and only if nobody else
wrote meanwhile. Whoever dies before has done nothing; whoever comes after finds everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import InvalidArgument, ServiceError, Unavailable
from meshwright_orchestrator.domain.errors import failure_of
from meshwright_orchestrator.domain.models import Failure, TaskSpec, TaskState
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.schedules import timed_id
from meshwright_orchestrator.domain.workflows import attempts, planner, step_tasks
from meshwright_orchestrator.domain.workflows.definition import (
    MAX_ITEMS,
    MAX_LEVELS,
    AgentAction,
    ApprovalAction,
    DelayAction,
    SubworkflowAction,
    ToolAction,
    WorkflowDefinition,
    WorkflowStep,
)
from meshwright_orchestrator.domain.workflows.errors import TooDeep
from meshwright_orchestrator.domain.workflows.expressions import (
    Expressions,
    ExpressionWrong,
    Variables,
    filled,
)
from meshwright_orchestrator.domain.workflows.inputs import check_input
from meshwright_orchestrator.domain.workflows.ports import (
    Change,
    Loaded,
    NewRun,
    Runs,
    Starts,
    Workflows,
)
from meshwright_orchestrator.domain.workflows.progress import (
    Item,
    ItemKey,
    ItemKind,
    ItemState,
    Progress,
    StepRun,
    StepState,
)

logger = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS: Final = 30.0
"""A run whose children are all at work is looked at this often, in case nobody woke it."""


class Door(Protocol):
    """Where tasks are accepted."""

    async def prepare(
        self, caller: Principal, spec: TaskSpec, request_id: str, task_id: str
    ) -> tuple[NewTask, Queueing]:
        """Return what is stored for a task. Raises: AgentNotFound, Unavailable."""
        ...


class Calls(Protocol):
    """The calls of tasks that run in this process."""

    async def cancel(self, task_id: str) -> None:
        """End those of a task that was cancelled, if it runs here."""
        ...


@dataclass(slots=True)
class _Pass:
    """One pass over a run. `starts` grow while its moves are worked out."""

    loaded: Loaded
    progress: Progress
    tasks: list[tuple[NewTask, Queueing]] = field(default_factory=list)
    runs: list[NewRun] = field(default_factory=list)
    started: int = 0

    @property
    def definition(self) -> WorkflowDefinition:
        return self.loaded.definition

    @property
    def now(self) -> datetime:
        return self.loaded.now

    def fail(self, step: WorkflowStep, failure: Failure) -> None:
        self.progress = planner.fail_step(step, self.progress, failure, self.now)


class RunDriver:
    """Moves runs on. `started` is called when tasks wait for workers, `begun` when runs began."""

    def __init__(
        self,
        *,
        runs: Runs,
        workflows: Workflows,
        door: Door,
        calls: Calls,
        expressions: Expressions,
        started: Callable[[], None],
        begun: Callable[[], None],
    ) -> None:
        self._runs = runs
        self._workflows = workflows
        self._door = door
        self._calls = calls
        self._expressions = expressions
        self._started = started
        self._begun_runs = begun

    async def advance(self, tenant_id: str, run_id: str) -> bool:
        """Do all that can be done for a run now; return whether it was written.

        Not when somebody else wrote first: whoever that was has seen what there was to see, or
        the run is picked again. Raises: Unavailable; as the ports.
        """
        loaded = await self._runs.load(tenant_id, run_id)
        if loaded is None:
            return True
        run = loaded.progress.run
        with bind(CallContext(run.owner, request_id=run.run_id, correlation_id=run.correlation_id)):
            change = await self._next(loaded)
            stopped = await self._runs.change(change)
        if stopped is None:
            logger.info("run_changed_meanwhile", run_id=run_id)
            return False
        for task_id in stopped:
            await self._calls.cancel(task_id)
        if change.starts.tasks:
            self._started()
        if change.starts.runs:
            self._begun_runs()
        after = change.after.run
        if after.ended_at is not None:
            logger.info("run_ended", run_id=run_id, state=after.state.value)
        return True

    async def _next(self, loaded: Loaded) -> Change:
        before = loaded.progress
        if before.run.start_at > loaded.now:
            return Change(before, before, before.run.start_at)
        observed = attempts.observed(loaded.definition, before, loaded.children, loaded.now)
        going = _Pass(loaded, observed)
        while True:
            going.progress, moves = planner.settle(going.definition, going.progress, going.now)
            if not moves or going.started >= planner.MOST_STARTS:
                break
            for move in moves:
                await self._do(move, going)
        due = going.now if moves else planner.next_due(going.progress)
        look_again = going.now + timedelta(seconds=LOOK_AGAIN_SECONDS)
        if going.progress.run.ended_at is None:
            due = min(due or look_again, look_again)
        return Change(before, going.progress, due, Starts(tuple(going.tasks), tuple(going.runs)))

    async def _do(self, move: planner.Move, going: _Pass) -> None:
        match move:
            case planner.BeginStep(name):
                await self._begin(going.definition.step(name), going)
            case planner.StartItem(key, value):
                await self._start(key, value, going)
            case planner.AskAgain(key):
                await self._ask_again(key, going)
            case planner.FinishRun():
                await self._finish(going)

    # --- steps -----------------------------------------------------------------------------------

    async def _begin(self, step: WorkflowStep, going: _Pass) -> None:
        """Work out whether the step is done, and for which items."""
        going.started += 1
        variables = variables_of(going.definition, going.progress, step)
        going.progress = going.progress.with_step(
            StepRun(step.name, StepState.RUNNING, started_at=going.now)
        )
        try:
            if step.condition and not await self._holds(step.condition, variables):
                going.progress = planner.skip_step(step, going.progress, going.now)
                return
            if step.for_each:
                values = await self._items(step.for_each, variables)
                run = replace(going.progress.steps[step.name], values=values)
                going.progress = going.progress.with_step(run)
        except ExpressionWrong as error:
            going.fail(step, failure_of(error))

    async def _holds(self, expression: str, variables: Variables) -> bool:
        value = await self._expressions.evaluate(expression, variables)
        if not isinstance(value, bool):
            raise ExpressionWrong(f"{expression[:200]} is neither true nor false")
        return value

    async def _items(self, expression: str, variables: Variables) -> tuple[object, ...]:
        value = await self._expressions.evaluate(expression, variables)
        if not isinstance(value, list):
            raise ExpressionWrong(f"{expression[:200]} is no list")
        if len(value) > MAX_ITEMS:
            raise ExpressionWrong(f"a list of {len(value)} items is longer than {MAX_ITEMS}")
        return tuple(value)

    async def _ask_again(self, key: ItemKey, going: _Pass) -> None:
        """Work out whether a loop goes round once more."""
        step, item = going.definition.step(key[0]), going.progress.items[key]
        variables = {
            **variables_of(going.definition, going.progress, step),
            "item": item.value,
            "index": item.number,
            "output": item.output,
        }
        try:
            again = item.number < step.max_repeats and await self._holds(
                step.repeat_while, variables
            )
        except ExpressionWrong as error:
            going.fail(step, failure_of(error))
            return
        if again:
            await self._start((step.name, ItemKind.ACTION, item.number + 1), item.output, going)
        else:
            going.progress = planner.complete_step(step, going.progress, item.output, going.now)

    async def _finish(self, going: _Pass) -> None:
        """Work out the output of the run, and end it."""
        definition = going.definition
        output: object = going.progress.steps[definition.steps[-1].name].output
        try:
            if definition.output:
                variables = variables_of(definition, going.progress, None)
                output = await self._expressions.evaluate(definition.output, variables)
            if attempts.too_large(output):
                raise ExpressionWrong(attempts.TOO_LARGE.message)
        except ExpressionWrong as error:
            failure = Failure(error.reason, f"output: {error.message}"[:2_000], False)
            going.progress = planner.end_run(going.progress, TaskState.FAILED, failure, going.now)
            return
        going.progress = going.progress.with_run(
            state=TaskState.COMPLETED, output=output, ended_at=going.now
        )

    # --- items -----------------------------------------------------------------------------------

    async def _start(self, key: ItemKey, value: object, going: _Pass) -> None:
        """Start the next attempt of an item, or let it fail."""
        going.started += 1
        known = going.progress.items.get(key)
        item = known or Item(key[0], key[1], key[2], ItemState.RETRYING, 0, value)
        step = going.definition.step(item.step)
        try:
            begun = await self._begun(item, step, going)
        except Unavailable:
            # Nothing is written: the run is picked again.
            raise
        except ServiceError as error:
            failure = failure_of(error)
            counted = replace(item, attempt=item.attempt + 1)
            begun = attempts.after_attempt(counted, failure, step.retry, going.now)
        going.progress = going.progress.with_item(begun)

    async def _begun(self, item: Item, step: WorkflowStep, going: _Pass) -> Item:
        run, now = going.progress.run, going.now
        action = step.action if item.kind is ItemKind.ACTION else step.compensation
        seconds = step.timeout_seconds
        child_id = timed_id(
            run.created_at, run.run_id, item.step, item.kind.value,
            str(item.number), str(item.attempt + 1),
        )  # fmt: skip
        due_at = now + timedelta(seconds=seconds)
        if isinstance(action, DelayAction):
            due_at = now + timedelta(seconds=action.seconds)
            return attempts.begun(item, "", due_at=due_at, waits=True)
        variables = _variables_of_item(going, step, item)
        if isinstance(action, SubworkflowAction):
            going.runs.append(await self._subrun(action, child_id, seconds, variables, going))
            return attempts.begun(item, child_id, due_at=due_at, waits=False)
        spec = await self._task(action, seconds, variables)
        if not isinstance(action, ApprovalAction):
            spec = replace(spec, deadline=due_at)
        going.tasks.append(await self._door.prepare(run.owner, spec, "", child_id))
        return attempts.begun(item, child_id, due_at=due_at, waits=False)

    async def _task(self, action: object, seconds: float, variables: Variables) -> TaskSpec:
        async def text(template: str) -> str:
            value = await filled(template, self._expressions, variables)
            return value if isinstance(value, str) else step_tasks.text_of(value)

        async def struct(template: Mapping[str, object]) -> Mapping[str, object]:
            value = await filled(template, self._expressions, variables)
            assert isinstance(value, Mapping)  # noqa: S101 - of a mapping it makes one
            return value

        match action:
            case AgentAction(agent, message, given):
                filled_in = None if given is None else await struct(given)
                return step_tasks.agent_task(agent, await text(message), filled_in)
            case ToolAction(tool, arguments):
                return step_tasks.tool_task(tool, await struct(arguments))
            case ApprovalAction(question, schema):
                return step_tasks.approval_task(await text(question), schema, seconds)
            case _:
                raise InvalidArgument("the step has no such action")

    async def _subrun(
        self,
        action: SubworkflowAction,
        run_id: str,
        seconds: float,
        variables: Variables,
        going: _Pass,
    ) -> NewRun:
        run = going.progress.run
        if run.level >= MAX_LEVELS:
            raise TooDeep(levels=str(MAX_LEVELS))
        workflow = await self._workflows.named(run.tenant_id, action.workflow)
        given = await filled(action.input, self._expressions, variables)
        assert isinstance(given, Mapping)  # noqa: S101 - of a mapping it makes one
        check_input(given, workflow.definition.input_schema)
        return NewRun(
            run_id=run_id,
            owner=run.owner,
            workflow_id=workflow.workflow_id,
            workflow_version=workflow.version,
            input=given,
            max_seconds=min(workflow.definition.max_seconds, seconds),
            correlation_id=run.correlation_id,
            parent_run_id=run.run_id,
            level=run.level + 1,
        )


def variables_of(
    definition: WorkflowDefinition, progress: Progress, step: WorkflowStep | None
) -> dict[str, object]:
    """Return what the expressions of a step may read: the input, and the outputs of those steps
    before it that have ended. Without a step: of all.
    """
    readable = frozenset(progress.steps) if step is None else definition.before(step.name)
    return {
        "input": dict(progress.run.input),
        "steps": {
            run.name: {"output": run.output}
            for run in progress.steps.values()
            if run.name in readable and run.state.is_over
        },
    }


def _variables_of_item(going: _Pass, step: WorkflowStep, item: Item) -> dict[str, object]:
    variables = variables_of(going.definition, going.progress, step)
    run = going.progress.steps[step.name]
    if item.kind is ItemKind.COMPENSATION:
        steps = dict(variables["steps"])  # type: ignore[call-overload] # made above
        return {
            **variables,
            "steps": {**steps, step.name: {"output": run.output}},
            "output": run.output,
        }
    return {**variables, "item": item.value, "index": item.number}
