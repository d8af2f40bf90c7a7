"""Starting attempts of items: their actions filled in, made tasks, runs or times to wait for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from meshwright_common.context import Principal
from meshwright_common.errors import InvalidArgument
from meshwright_orchestrator.domain.models import Failure, TaskSpec
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.schedules import timed_id
from meshwright_orchestrator.domain.workflows import attempts, planner, step_tasks
from meshwright_orchestrator.domain.workflows.definition import (
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
from meshwright_orchestrator.domain.workflows.expressions import Expressions, Variables, filled
from meshwright_orchestrator.domain.workflows.inputs import check_input
from meshwright_orchestrator.domain.workflows.ports import Loaded, NewRun, Workflows
from meshwright_orchestrator.domain.workflows.progress import Item, ItemKind, Progress


class Door(Protocol):
    """Where tasks are accepted."""

    async def prepare(
        self, caller: Principal, spec: TaskSpec, request_id: str, task_id: str
    ) -> tuple[NewTask, Queueing]:
        """Return what is stored for a task. Raises: AgentNotFound, Unavailable."""
        ...


@dataclass(slots=True)
class Pass:
    """One pass over a run. `starts` grow while its moves are worked out."""

    loaded: Loaded
    progress: Progress
    ends_at: float
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


class Starter:
    """Starts attempts."""

    def __init__(self, workflows: Workflows, door: Door, expressions: Expressions) -> None:
        self._workflows = workflows
        self._door = door
        self._expressions = expressions

    async def begin(self, item: Item, step: WorkflowStep, going: Pass) -> Item:
        """Return the item with its next attempt under way; what that is, is in the pass.

        Raises: ExpressionWrong, AgentNotFound, WorkflowNotFound, TooDeep, Unavailable.
        """
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
        going: Pass,
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


def _variables_of_item(going: Pass, step: WorkflowStep, item: Item) -> dict[str, object]:
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
