"""Drives runs: reads one, works out what follows, writes it with all that begins and ends by it.

A pass over a run has no effect until it is written, in one transaction, and only if nobody else
wrote meanwhile. Whoever dies before has done nothing; whoever comes after finds everything.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

import structlog

from meshwright_common.context import CallContext, bind
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_orchestrator.domain.errors import failure_of
from meshwright_orchestrator.domain.models import Failure, TaskState
from meshwright_orchestrator.domain.workflows import attempts, planner
from meshwright_orchestrator.domain.workflows.definition import (
    MAX_ITEMS,
    WorkflowStep,
)
from meshwright_orchestrator.domain.workflows.expressions import (
    Expressions,
    ExpressionWrong,
    Variables,
)
from meshwright_orchestrator.domain.workflows.ports import (
    Change,
    Loaded,
    Runs,
    Starts,
)
from meshwright_orchestrator.domain.workflows.progress import (
    Item,
    ItemKey,
    ItemKind,
    ItemState,
    StepRun,
    StepState,
)
from meshwright_orchestrator.domain.workflows.starting import Pass, Starter, variables_of

logger = structlog.get_logger(__name__)

PASS_SECONDS: Final = 2.0
"""A pass that took so long is written, and the rest is done by the next one: what it has done must
be there before another process takes the run for abandoned.
"""
LOOK_AGAIN_SECONDS: Final = 30.0
"""A run whose children are all at work is looked at this often, in case nobody woke it."""


class Calls(Protocol):
    """The calls of tasks that run in this process."""

    async def cancel(self, task_id: str) -> None:
        """End those of a task that was cancelled, if it runs here."""
        ...


class RunDriver:
    """Moves runs on. `started` is called when tasks wait for workers, `begun` when runs began."""

    def __init__(
        self,
        *,
        runs: Runs,
        starter: Starter,
        calls: Calls,
        expressions: Expressions,
        started: Callable[[], None],
        begun: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = runs
        self._starter = starter
        self._calls = calls
        self._expressions = expressions
        self._started = started
        self._begun_runs = begun
        self._monotonic = monotonic

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
        going = Pass(loaded, observed, ends_at=self._monotonic() + PASS_SECONDS)
        while True:
            going.progress, moves = planner.settle(going.definition, going.progress, going.now)
            if not moves or going.started >= planner.MOST_STARTS:
                break
            if self._monotonic() >= going.ends_at:
                break
            for move in moves:
                if self._monotonic() < going.ends_at:
                    await self._do(move, going)
        due = going.now if moves else planner.next_due(going.progress)
        look_again = going.now + timedelta(seconds=LOOK_AGAIN_SECONDS)
        if going.progress.run.ended_at is None:
            due = min(due or look_again, look_again)
        return Change(before, going.progress, due, Starts(tuple(going.tasks), tuple(going.runs)))

    async def _do(self, move: planner.Move, going: Pass) -> None:
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

    async def _begin(self, step: WorkflowStep, going: Pass) -> None:
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

    async def _ask_again(self, key: ItemKey, going: Pass) -> None:
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

    async def _finish(self, going: Pass) -> None:
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

    async def _start(self, key: ItemKey, value: object, going: Pass) -> None:
        """Start the next attempt of an item, or let it fail."""
        going.started += 1
        known = going.progress.items.get(key)
        item = known or Item(key[0], key[1], key[2], ItemState.RETRYING, 0, value)
        step = going.definition.step(item.step)
        try:
            begun = await self._starter.begin(item, step, going)
        except Unavailable:
            # Nothing is written: the run is picked again.
            raise
        except ServiceError as error:
            failure = failure_of(error)
            counted = replace(item, attempt=item.attempt + 1)
            begun = attempts.after_attempt(counted, failure, step.retry, going.now)
        going.progress = going.progress.with_item(begun)
