"""Leaving a task that waits: what is stored when it does."""

from dataclasses import dataclass

from meshwright_orchestrator.domain.waiting import ChildSpec, Question


@dataclass(frozen=True, slots=True)
class Asking:
    """A question under its id."""

    interrupt_id: str
    question: Question


@dataclass(frozen=True, slots=True)
class Handed:
    """A child under its id."""

    task_id: str
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class Suspension:
    """What step `step` waits for: questions, or children, or that so many seconds pass."""

    step: int
    questions: tuple[Asking, ...] = ()
    children: tuple[Handed, ...] = ()
    seconds: float = 0.0


class Suspended(Exception):
    """Raised through an engine to leave a task that waits. Engines let it pass."""

    def __init__(self, suspension: Suspension) -> None:
        super().__init__("the task waits")
        self.suspension = suspension
