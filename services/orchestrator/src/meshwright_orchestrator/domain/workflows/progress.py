"""How far a run has come: its steps, and the items of work that each of them is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from meshwright_common.context import Principal
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.models import NO_USAGE, Failure, TaskState, Usage


class StepState(StrEnum):
    """State of a step."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done for the step itself."""
        return self not in (StepState.PENDING, StepState.RUNNING, StepState.WAITING)


class ItemKind(StrEnum):
    """Whether an item does what the step is for, or undoes it."""

    ACTION = "action"
    COMPENSATION = "compensation"


class ItemState(StrEnum):
    """State of an item. RETRYING waits for the time of its next attempt."""

    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done for it."""
        return self not in (ItemState.RUNNING, ItemState.RETRYING)


ItemKey: TypeAlias = tuple[str, ItemKind, int]
"""Step, kind and number, from 0."""


@dataclass(frozen=True, slots=True)
class Item:
    """One action of a step: the only one, that of one member of for_each, one round of a loop.

    `value` is what expressions see as `item`. `child_ids` are the tasks or runs of its attempts,
    the last one of the current attempt. `due_at`: while RUNNING its time is over then (a delay has
    come), while RETRYING the next attempt begins. `waits`: its child waits for a person or a time.
    """

    step: str
    kind: ItemKind
    number: int
    state: ItemState
    attempt: int
    value: object = None
    child_ids: tuple[str, ...] = ()
    due_at: datetime | None = None
    waits: bool = False
    output: object = None
    failure: Failure | None = None

    @property
    def key(self) -> ItemKey:
        """What names it within its run."""
        return (self.step, self.kind, self.number)

    @property
    def child_id(self) -> str:
        """Child of the current attempt; empty when it has none."""
        return self.child_ids[-1] if self.child_ids else ""


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of a run. `values` are the items of for_each, None before it began or without it.

    `order` numbers the completed steps of the run as they ended, from 1; 0: it has not completed.
    """

    name: str
    state: StepState = StepState.PENDING
    values: tuple[object, ...] | None = None
    order: int = 0
    output: object = None
    failure: Failure | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a workflow. `owner` is whom it acts for.

    `state` is final as soon as the outcome is known; `ended_at` is set when the compensations are
    done as well. `revision` counts its changes: a writer that read an older one writes nothing.
    `parent_*` name the step and item of another run that this one is part of; `level` from 1.
    """

    run_id: str
    workflow_id: str
    workflow_version: int
    owner: Principal
    correlation_id: str
    input: JsonObject
    state: TaskState
    start_at: datetime
    deadline_at: datetime
    created_at: datetime
    revision: int = 0
    level: int = 1
    output: object = None
    failure: Failure | None = None
    usage: Usage = NO_USAGE
    schedule_id: str = ""
    parent_run_id: str = ""
    ended_at: datetime | None = None

    @property
    def tenant_id(self) -> str:
        """Tenant of the run."""
        return self.owner.tenant_id


@dataclass(frozen=True, slots=True)
class Progress:
    """A run with its steps, by name, and their items. Never changed: each change makes a new one.

    `stopped` are children that must not go on, of items that ended before them.
    """

    run: Run
    steps: Mapping[str, StepRun]
    items: Mapping[ItemKey, Item] = field(default_factory=dict)
    stopped: tuple[str, ...] = ()

    def with_run(self, **changes: object) -> "Progress":
        """Return it with a changed run."""
        return replace(self, run=replace(self.run, **changes))  # type: ignore[arg-type]

    def with_step(self, step: StepRun) -> "Progress":
        """Return it with a changed step."""
        return replace(self, steps={**self.steps, step.name: step})

    def with_item(self, item: Item) -> "Progress":
        """Return it with a changed or a new item."""
        return replace(self, items={**self.items, item.key: item})

    def stop(self, item: Item) -> "Progress":
        """Return it with the item's child, if it has one, told to stop."""
        if not item.child_id or item.state is not ItemState.RUNNING:
            return self
        return replace(self, stopped=(*self.stopped, item.child_id))

    def items_of(self, step: str, kind: ItemKind = ItemKind.ACTION) -> list[Item]:
        """Return the items of a step by number."""
        found = [item for item in self.items.values() if item.step == step and item.kind is kind]
        return sorted(found, key=lambda item: item.number)


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """What became of a child: `state` when it ended, else whether it `waits`."""

    state: TaskState | None
    waits: bool = False
    output: object = None
    failure: Failure | None = None
    usage: Usage = NO_USAGE
