"""The planner of workflows: a pure function, driven here by a world that answers at random."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright_common.context import Principal
from meshwright_orchestrator.domain.models import Failure, TaskState
from meshwright_orchestrator.domain.workflows import attempts, planner
from meshwright_orchestrator.domain.workflows.definition import (
    Join,
    Retry,
    ToolAction,
    WorkflowDefinition,
    WorkflowStep,
)
from meshwright_orchestrator.domain.workflows.progress import (
    ChildEnd,
    Item,
    ItemKind,
    ItemState,
    Progress,
    Run,
    StepRun,
    StepState,
)

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
TOOL: Final = ToolAction("add", {})
BROKEN: Final = Failure("UNAVAILABLE", "away", True)
LASTING: Final = Failure("INVALID_ARGUMENT", "wrong", False)


def begun(definition: WorkflowDefinition) -> Progress:
    """Return a run that nothing has happened to."""
    owner = Principal("t", "u", "user", frozenset())
    run = Run(
        *("r", "w", 1, owner, "c", {}, TaskState.QUEUED),
        start_at=NOW,
        deadline_at=NOW + timedelta(days=1),
        created_at=NOW,
    )
    return Progress(run, {step.name: StepRun(step.name) for step in definition.steps})


@dataclass
class World:
    """Works out moves as the driver does, with an answer for each attempt; keeps what it saw."""

    definition: WorkflowDefinition
    failures: dict[str, list[Failure | None]]
    skipped: frozenset[str] = frozenset()
    progress: Progress = field(init=False)
    now: datetime = NOW
    log: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = begun(self.definition)

    def settle(self) -> None:
        """Do all that can be done now."""
        while True:
            self.progress, moves = planner.settle(self.definition, self.progress, self.now)
            if not moves:
                return
            for move in moves:
                self._do(move)

    def _do(self, move: planner.Move) -> None:
        match move:
            case planner.BeginStep(name):
                step = self.definition.step(name)
                self.log.append(("begin", name))
                started = StepRun(name, StepState.RUNNING, started_at=self.now)
                self.progress = self.progress.with_step(started)
                if name in self.skipped:
                    self.progress = planner.skip_step(step, self.progress, self.now)
            case planner.StartItem(key, value):
                known = self.progress.items.get(key)
                item = known or Item(*key, ItemState.RETRYING, 0, value)
                child = f"{key[0]}/{key[1].value}/{key[2]}/{item.attempt + 1}"
                due = self.now + timedelta(minutes=5)
                self.log.append((f"start {key[1].value}", key[0]))
                self.progress = self.progress.with_item(
                    attempts.begun(item, child, due_at=due, waits=False)
                )
            case planner.AskAgain(_):
                raise AssertionError("no loops here")
            case planner.FinishRun():
                self.progress = self.progress.with_run(state=TaskState.COMPLETED, ended_at=self.now)

    def answer(self, choose: int) -> bool:
        """Let one child end, or the clock go on to what is due; return whether there was one."""
        running = [one for one in self.progress.items.values() if one.state is ItemState.RUNNING]
        if not running:
            due = planner.next_due(self.progress)
            if due is None or self.progress.run.ended_at is not None:
                return False
            self.now = max(self.now, due)
            return True
        item = running[choose % len(running)]
        script = self.failures.get(f"{item.step}/{item.kind.value}", [])
        failure = script.pop(0) if script else None
        if failure is None:
            end = ChildEnd(TaskState.COMPLETED, output={"of": item.step})
            self.log.append((f"done {item.kind.value}", item.step))
        else:
            end = ChildEnd(TaskState.FAILED, failure=failure)
        others = {one.child_id: ChildEnd(None) for one in running}
        children = {**others, item.child_id: end}
        self.progress = attempts.observed(self.definition, self.progress, children, self.now)
        return True


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a graph without circles, and what each attempt comes to."""
    count = draw(st.integers(1, 7))
    steps = []
    failures: dict[str, list[Failure | None]] = {}
    for number in range(count):
        before = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        attempts_most = draw(st.integers(1, 3))
        steps.append(
            WorkflowStep(
                f"s{number}",
                TOOL,
                after=tuple(f"s{one}" for one in sorted(before)),
                join=draw(st.sampled_from(Join)),
                retry=Retry(max_attempts=attempts_most),
                may_fail=draw(st.booleans()),
                compensation=draw(st.sampled_from([None, TOOL])),
            )
        )
        outcomes = st.lists(st.sampled_from([None, None, BROKEN, LASTING]), max_size=3)
        failures[f"s{number}/action"] = draw(outcomes)
        failures[f"s{number}/compensation"] = draw(outcomes)
    names = [step.name for step in steps]
    skipped = frozenset(draw(st.sets(st.sampled_from(names), max_size=2)))
    shuffled = tuple(draw(st.permutations(steps)))
    return World(WorkflowDefinition(shuffled), failures, skipped)


@pytest.mark.promise("FLOW-01")
@pytest.mark.promise("FLOW-03")
@settings(max_examples=250, deadline=None)
@given(world=worlds(), choices=st.lists(st.integers(0, 50), min_size=80, max_size=80))
def test_any_graph_ends_with_each_step_over_and_undone_in_reverse(
    world: World, choices: list[int]
) -> None:
    """Promise FLOW-01 and FLOW-03: order, exactly one end, compensations."""
    definition = world.definition
    world.settle()
    for choice in choices:
        if not world.answer(choice):
            break
        world.settle()
    run, steps = world.progress.run, world.progress.steps

    assert run.ended_at is not None
    assert all(step.state.is_over for step in steps.values())
    assert all(item.state.is_over for item in world.progress.items.values())
    begins = [name for what, name in world.log if what == "begin"]
    assert len(begins) == len(set(begins))
    _assert_order(definition, world)

    completed = [run.name for run in sorted(steps.values(), key=lambda one: one.order) if run.order]
    assert completed == [name for what, name in world.log if what == "done action"]
    undone = [name for what, name in world.log if what == "start compensation"]
    if run.state is TaskState.COMPLETED:
        assert undone == []
        assert all(planner.ended_well(definition.step(name), one) for name, one in steps.items())
        return
    to_undo = [name for name in reversed(completed) if definition.step(name).compensation]
    assert list(dict.fromkeys(undone)) == to_undo
    for name in to_undo:
        item = world.progress.items[name, ItemKind.COMPENSATION, 0]
        is_undone = item.state is ItemState.COMPLETED
        expected = StepState.COMPENSATED if is_undone else StepState.COMPLETED
        assert steps[name].state is expected
    assert any(one.state is StepState.FAILED for one in steps.values())


def _assert_order(definition: WorkflowDefinition, world: World) -> None:
    """No step began before those before it had ended well: all of them, or one of them for ANY."""
    well: set[str] = set()
    ended = {
        name
        for name, one in world.progress.steps.items()
        if planner.ended_well(definition.step(name), one)
    }
    for what, name in world.log:
        if what == "begin":
            step = definition.step(name)
            # A step that failed and may is not in the log as done.
            failed = {one for one in step.after if one in ended and definition.step(one).may_fail}
            there = {one for one in step.after if one in well or one in failed}
            assert not step.after or (
                there if step.join is Join.ANY else there == set(step.after)
            ), (name, world.log)
            if name in world.skipped:
                well.add(name)
        elif what == "done action":
            well.add(name)


def test_waits_double_up_to_the_longest() -> None:
    retry = Retry(max_attempts=10, first_delay_seconds=1, max_delay_seconds=5)
    assert [1, 2, 4, 5, 5] == [retry.delay_seconds(failed) for failed in range(1, 6)]


def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again() -> None:
    world = World(WorkflowDefinition((WorkflowStep("a", TOOL, timeout_seconds=300),)), {})
    world.settle()
    world.now += timedelta(minutes=6)
    world.settle()
    item = world.progress.items["a", ItemKind.ACTION, 0]
    assert world.progress.stopped == ("a/action/0/1",)
    assert (item.state, item.attempt) == (ItemState.RETRYING, 1)
    assert item.failure == planner.TIMED_OUT


def test_a_run_that_takes_too_long_expires_and_is_undone() -> None:
    steps = (
        WorkflowStep("a", TOOL, compensation=TOOL),
        WorkflowStep("b", TOOL, after=("a",), timeout_seconds=10**6),
    )
    world = World(WorkflowDefinition(steps), {})
    world.settle()
    world.answer(0)
    world.settle()
    world.progress = world.progress.with_item(
        replace(world.progress.items["b", ItemKind.ACTION, 0], due_at=NOW + timedelta(days=9))
    )
    world.now += timedelta(days=2)
    world.settle()
    assert world.progress.run.state is TaskState.EXPIRED
    assert world.progress.run.ended_at is None
    assert world.progress.steps["b"].state is StepState.CANCELLED
    world.answer(0)
    world.settle()
    assert world.progress.steps["a"].state is StepState.COMPENSATED
    assert world.progress.run.ended_at == world.now


def test_children_that_are_gone_fail_their_items() -> None:
    """A row that was deleted is no reason to wait for ever."""
    world = World(WorkflowDefinition((WorkflowStep("a", TOOL),)), {})
    world.settle()
    world.progress = attempts.observed(world.definition, world.progress, {}, NOW)
    world.settle()
    assert world.progress.run.failure is not None
    assert world.progress.run.failure.reason == "TASK_NOT_FOUND"
