"""What comes next in a run: a pure function of the definition, the progress and the time.

`settle` makes every change that needs nothing but these three, and names what has to be worked out
with expressions (`Move`). Whoever works the moves out settles again, until there are none; then
nothing is left to do before a child ends or `next_due` comes. No I/O, no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from meshwright_orchestrator.domain.errors import EXPIRED
from meshwright_orchestrator.domain.models import Failure, TaskState
from meshwright_orchestrator.domain.workflows.attempts import after_attempt, over
from meshwright_orchestrator.domain.workflows.definition import (
    DelayAction,
    Join,
    WorkflowDefinition,
    WorkflowStep,
)
from meshwright_orchestrator.domain.workflows.progress import (
    ItemKey,
    ItemKind,
    ItemState,
    Progress,
    StepRun,
    StepState,
)

TIMED_OUT: Final = Failure("TASK_EXPIRED", "the step's attempt took longer than its timeout", True)
MOST_STARTS: Final = 100
"""Items started between two commits: what a crash before the second one throws away."""


@dataclass(frozen=True, slots=True)
class BeginStep:
    """Work out the step's condition and its items."""

    step: str


@dataclass(frozen=True, slots=True)
class StartItem:
    """Fill in the item's action and start its next attempt."""

    key: ItemKey
    value: object = None


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Work out whether the loop goes round once more after this item."""

    key: ItemKey


@dataclass(frozen=True, slots=True)
class FinishRun:
    """Work out the output of the run: all steps have ended well."""


Move: TypeAlias = BeginStep | StartItem | AskAgain | FinishRun


def ended_well(step: WorkflowStep, run: StepRun) -> bool:
    """Return whether steps that come after it may start."""
    if run.state is StepState.FAILED:
        return step.may_fail
    return run.state in (StepState.COMPLETED, StepState.SKIPPED)


def settle(
    definition: WorkflowDefinition, progress: Progress, now: datetime
) -> tuple[Progress, Sequence[Move]]:
    """Return the progress after all that follows from it, and what to work out next."""
    progress = _timed(definition, progress, now)
    if not progress.run.state.is_final:
        for step in definition.steps:
            progress = _judged(step, progress, now)
        progress = _failed_or_late(definition, progress, now)
    if progress.run.state.is_final:
        progress, moves = _undoing(definition, progress, now)
    else:
        moves = _onwards(definition, progress)
    return _shown(progress), moves


def next_due(progress: Progress) -> datetime | None:
    """Return when to settle again although no child ended; None: never."""
    run = progress.run
    if run.ended_at is not None:
        return None
    times = [item.due_at for item in progress.items.values() if not item.state.is_over]
    if not run.state.is_final:
        times.append(run.deadline_at)
    return min((time for time in times if time is not None), default=None)


def end_run(progress: Progress, state: TaskState, failure: Failure, now: datetime) -> Progress:
    """Return it with the outcome known: everything under way stops, compensations may begin.

    A run with an outcome keeps it.
    """
    if progress.run.state.is_final:
        return progress
    for item in progress.items.values():
        if not item.state.is_over:
            progress = progress.stop(item).with_item(over(item, ItemState.CANCELLED))
    for step in progress.steps.values():
        if not step.state.is_over:
            progress = progress.with_step(replace(step, state=StepState.CANCELLED, ended_at=now))
    return progress.with_run(state=state, failure=failure)


# --- time ------------------------------------------------------------------------------------


def _timed(definition: WorkflowDefinition, progress: Progress, now: datetime) -> Progress:
    """End the attempts whose time is over (a delay has come to its end by that), and the waits
    before the next ones.
    """
    for item in list(progress.items.values()):
        if item.state.is_over or item.due_at is None or item.due_at > now:
            continue
        step = definition.step(item.step)
        if item.state is ItemState.RETRYING:
            progress = progress.with_item(replace(item, due_at=None))
            continue
        if isinstance(action_of(step, item.kind), DelayAction):
            progress = progress.with_item(over(item, ItemState.COMPLETED, output={}))
        else:
            progress = progress.stop(item).with_item(
                after_attempt(item, TIMED_OUT, step.retry, now)
            )
    return progress


def action_of(step: WorkflowStep, kind: ItemKind) -> object:
    """Return what an item of the step does."""
    return step.action if kind is ItemKind.ACTION else step.compensation


# --- one step ----------------------------------------------------------------------------------


def _judged(step: WorkflowStep, progress: Progress, now: datetime) -> Progress:
    """Return it with the step ended, if its items say so."""
    run = progress.steps[step.name]
    if run.state not in (StepState.RUNNING, StepState.WAITING):
        return progress
    items = progress.items_of(step.name)
    failed = next((item for item in items if item.state is ItemState.FAILED), None)
    if failed is not None and failed.failure is not None:
        return fail_step(step, progress, failed.failure, now)
    if step.repeat_while or any(item.state is not ItemState.COMPLETED for item in items):
        # Whether a loop goes on is worked out: complete_step is called by whoever does that.
        return progress
    if run.values is not None:
        if len(items) < len(run.values):
            return progress
        return complete_step(step, progress, [item.output for item in items], now)
    return complete_step(step, progress, items[0].output, now) if items else progress


def complete_step(
    step: WorkflowStep, progress: Progress, output: object, now: datetime
) -> Progress:
    """Return it with the step ended well."""
    order = 1 + max((run.order for run in progress.steps.values()), default=0)
    run = progress.steps[step.name]
    return progress.with_step(
        replace(run, state=StepState.COMPLETED, output=output, order=order, ended_at=now)
    )


def skip_step(step: WorkflowStep, progress: Progress, now: datetime) -> Progress:
    """Return it with the step left out."""
    run = progress.steps[step.name]
    return progress.with_step(replace(run, state=StepState.SKIPPED, started_at=now, ended_at=now))


def fail_step(step: WorkflowStep, progress: Progress, failure: Failure, now: datetime) -> Progress:
    """Return it with the step failed and its other items stopped."""
    for item in progress.items_of(step.name):
        if not item.state.is_over:
            progress = progress.stop(item).with_item(over(item, ItemState.CANCELLED))
    output: object = None
    if step.may_fail:
        output = {"error": {"reason": failure.reason, "message": failure.message}}
    run = progress.steps[step.name]
    return progress.with_step(
        replace(run, state=StepState.FAILED, failure=failure, output=output, ended_at=now)
    )


# --- the run -----------------------------------------------------------------------------------


def _failed_or_late(definition: WorkflowDefinition, progress: Progress, now: datetime) -> Progress:
    for step in definition.steps:
        run = progress.steps[step.name]
        if run.state is StepState.FAILED and not step.may_fail and run.failure is not None:
            text = f"step {step.name}: {run.failure.message}"
            failure = replace(run.failure, message=text[:2_000])
            return end_run(progress, TaskState.FAILED, failure, now)
    if progress.run.deadline_at <= now:
        return end_run(progress, TaskState.EXPIRED, EXPIRED, now)
    return progress


def _onwards(definition: WorkflowDefinition, progress: Progress) -> Sequence[Move]:
    moves: list[Move] = []
    for step in definition.steps:
        match progress.steps[step.name].state:
            case StepState.PENDING:
                if _may_start(definition, step, progress):
                    moves.append(BeginStep(step.name))
            case StepState.RUNNING | StepState.WAITING:
                moves.extend(_within(step, progress))
            case _:
                pass
    if all(run.state.is_over for run in progress.steps.values()):
        return (FinishRun(),)
    return moves[:MOST_STARTS]


def _may_start(definition: WorkflowDefinition, step: WorkflowStep, progress: Progress) -> bool:
    before = [ended_well(definition.step(name), progress.steps[name]) for name in step.after]
    return not before or (any(before) if step.join is Join.ANY else all(before))


def _within(step: WorkflowStep, progress: Progress) -> list[Move]:
    """Return what to start in a step that is under way."""
    run = progress.steps[step.name]
    items = progress.items_of(step.name)
    moves: list[Move] = [
        StartItem(item.key, item.value)
        for item in items
        if item.state is ItemState.RETRYING and item.due_at is None
    ]
    if step.repeat_while:
        if not items:
            moves.append(StartItem((step.name, ItemKind.ACTION, 0)))
        elif items[-1].state is ItemState.COMPLETED:
            moves.append(AskAgain(items[-1].key))
        return moves
    values: Sequence[object] = (None,) if run.values is None else run.values
    at_once = step.max_parallel if run.values is not None else 1
    room = at_once - sum(not item.state.is_over for item in items)
    moves.extend(
        StartItem((step.name, ItemKind.ACTION, number), values[number])
        for number in range(len(items), min(len(values), len(items) + max(room, 0)))
    )
    return moves


# --- the way back --------------------------------------------------------------------------------


def _undoing(
    definition: WorkflowDefinition, progress: Progress, now: datetime
) -> tuple[Progress, Sequence[Move]]:
    """Return what to undo next, one step at a time, the last one that completed first."""
    if progress.run.ended_at is not None:
        return progress, ()
    if progress.run.state is not TaskState.COMPLETED:
        done = sorted(progress.steps.values(), key=lambda run: -run.order)
        for run in done:
            step = definition.step(run.name)
            if run.state is not StepState.COMPLETED or step.compensation is None:
                continue
            key = (run.name, ItemKind.COMPENSATION, 0)
            item = progress.items.get(key)
            if item is None or (item.state is ItemState.RETRYING and item.due_at is None):
                return progress, (StartItem(key),)
            if not item.state.is_over:
                return progress, ()
            if item.state is ItemState.COMPLETED:
                progress = progress.with_step(replace(run, state=StepState.COMPENSATED))
            elif run.failure is None:
                # What cannot be undone is said; the others are undone all the same.
                progress = progress.with_step(replace(run, failure=item.failure))
    return progress.with_run(ended_at=now), ()


# --- what is shown -------------------------------------------------------------------------------


def _shown(progress: Progress) -> Progress:
    """Return it with WAITING and RUNNING as the items under way say."""
    waits: dict[str, bool] = {}
    for item in progress.items.values():
        if not item.state.is_over and item.kind is ItemKind.ACTION:
            waits[item.step] = waits.get(item.step, True) and item.waits
    for run in list(progress.steps.values()):
        if run.state in (StepState.RUNNING, StepState.WAITING):
            state = StepState.WAITING if waits.get(run.name, False) else StepState.RUNNING
            if state is not run.state:
                progress = progress.with_step(replace(run, state=state))
    if not progress.run.state.is_final:
        busy = [run.state for run in progress.steps.values() if not run.state.is_over]
        is_waiting = StepState.WAITING in busy and StepState.RUNNING not in busy
        state_now = TaskState.WAITING if is_waiting else TaskState.RUNNING
        if state_now is not progress.run.state:
            progress = progress.with_run(state=state_now)
    return progress
