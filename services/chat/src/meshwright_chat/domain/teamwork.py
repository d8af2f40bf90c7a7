"""What a turn shows of an agent that plans, and of agents that work for another one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step of a plan. `state` is "pending", "running", "completed" or "failed"."""

    text: str
    state: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The whole plan as it stands; `revision` from 1. `note`: why there is none, or a new one."""

    steps: tuple[PlanStep, ...]
    revision: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Handed:
    """Another agent got a part of the work ("queued"), or ended in `state`."""

    task_id: str
    agent: str
    state: str
