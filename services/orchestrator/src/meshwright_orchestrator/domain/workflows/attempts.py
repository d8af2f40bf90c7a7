"""Attempts of items: how each begins, ends, and whether another one follows. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import orjson

from meshwright_orchestrator.domain.errors import failure_of
from meshwright_orchestrator.domain.models import Failure, TaskState
from meshwright_orchestrator.domain.workflows.definition import (
    MAX_OUTPUT_BYTES,
    ApprovalAction,
    Retry,
    WorkflowDefinition,
)
from meshwright_orchestrator.domain.workflows.errors import ApprovalRefused
from meshwright_orchestrator.domain.workflows.progress import (
    ChildEnd,
    Item,
    ItemKind,
    ItemState,
    Progress,
)

TOO_LARGE: Final = Failure(
    "TOO_LARGE", f"the output is larger than {MAX_OUTPUT_BYTES} bytes as JSON", False
)
REFUSED: Final = failure_of(ApprovalRefused())
CHILD_GONE: Final = Failure("TASK_NOT_FOUND", "what did the step's work is no longer stored", False)


def begun(item: Item, child_id: str, *, due_at: datetime, waits: bool) -> Item:
    """Return the item with its next attempt under way; `child_id` is empty for a delay."""
    children = (*item.child_ids, child_id) if child_id else item.child_ids
    return replace(
        item,
        state=ItemState.RUNNING,
        attempt=item.attempt + 1,
        child_ids=children,
        due_at=due_at,
        waits=waits,
    )


def over(
    item: Item, state: ItemState, *, output: object = None, failure: Failure | None = None
) -> Item:
    """Return the item at its end. Without a `failure` it keeps that of its last failed attempt."""
    return replace(
        item,
        state=state,
        output=output,
        failure=failure or item.failure,
        due_at=None,
        waits=False,
    )


def after_attempt(item: Item, failure: Failure, retry: Retry, now: datetime) -> Item:
    """Return the item after a failed attempt: it waits for the next one, or has failed."""
    if not failure.retryable or item.attempt >= retry.max_attempts:
        return over(item, ItemState.FAILED, failure=failure)
    wait = timedelta(seconds=retry.delay_seconds(item.attempt))
    return replace(item, state=ItemState.RETRYING, failure=failure, due_at=now + wait, waits=False)


def observed(
    definition: WorkflowDefinition,
    progress: Progress,
    children: Mapping[str, ChildEnd],
    now: datetime,
) -> Progress:
    """Return it with what is known of the children of the items under way.

    One that is not known is gone: its row was deleted.
    """
    for item in list(progress.items.values()):
        if item.state is not ItemState.RUNNING or not item.child_id:
            continue
        child = children.get(item.child_id, ChildEnd(TaskState.FAILED, failure=CHILD_GONE))
        if child.state is None:
            if child.waits != item.waits:
                progress = progress.with_item(replace(item, waits=child.waits))
            continue
        usage = progress.run.usage + child.usage
        progress = progress.with_run(usage=usage).with_item(_ended(definition, item, child, now))
    return progress


def _ended(definition: WorkflowDefinition, item: Item, child: ChildEnd, now: datetime) -> Item:
    step = definition.step(item.step)
    if child.state is TaskState.COMPLETED:
        action = step.action if item.kind is ItemKind.ACTION else step.compensation
        is_yes_or_no = isinstance(action, ApprovalAction) and action.answer_schema is None
        if is_yes_or_no and not _is_yes(child.output):
            return over(item, ItemState.FAILED, failure=REFUSED)
        if too_large(child.output):
            return over(item, ItemState.FAILED, failure=TOO_LARGE)
        return over(item, ItemState.COMPLETED, output=child.output)
    failure = child.failure or CHILD_GONE
    if child.state is TaskState.EXPIRED:
        # The time of this attempt is over; another attempt has its own.
        failure = replace(failure, retryable=True)
    return after_attempt(item, failure, step.retry, now)


def _is_yes(answer: object) -> bool:
    return isinstance(answer, Mapping) and answer.get("approved") is True


def too_large(output: object) -> bool:
    """Return whether an output may not be kept."""
    return len(orjson.dumps(output)) > MAX_OUTPUT_BYTES
