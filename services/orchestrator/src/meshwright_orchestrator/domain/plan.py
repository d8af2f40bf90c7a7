"""A plan as it is told to readers and journaled with the model call that changed it."""

from dataclasses import dataclass
from enum import StrEnum


class PlanStepState(StrEnum):
    """How far a step of a plan is, as orchestrator/v1/task.proto names it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step, in the words of the model."""

    text: str
    state: PlanStepState = PlanStepState.PENDING


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, done ones included. `revision` counts the plans a task made, from 1.

    `note` says why there are no steps, or why those that are left changed; mostly empty.
    """

    steps: tuple[PlanStep, ...] = ()
    revision: int = 1
    note: str = ""
