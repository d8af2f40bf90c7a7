"""Beginning a task again after a failure that may pass.

What it journaled is kept; only the step that failed is done again.

Two kinds of failures are told apart. A provider or a remote agent that fails says something about
the task's work: tasks that were handed to the workers, and children, try it three times more. A
service of the platform that is away, or its store, says nothing about it: the task waits for it,
with pauses that grow with the time it is away and have full jitter, so that tasks do not come back
all at once (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). Those of
the workers hold no worker meanwhile. Whoever waits for a task with ExecuteTask waits less long,
and is told any other failure at once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwright_common.errors import ServiceError, Unavailable
from meshwright_orchestrator.domain.errors import failure_of
from meshwright_orchestrator.domain.models import Task

LONGEST_SECONDS: Final = 60.0
"""A failure that asks for a longer pause than this, such as a used-up quota, is the end."""
_AWAY: Final = "UNAVAILABLE"
AWAY_REASONS: Final = frozenset({_AWAY, "LIMITS_UNAVAILABLE"})
"""What is said of a service of ours that cannot be reached, or that lacks its own store. What is
outside has reasons of its own, such as PROVIDER_UNAVAILABLE."""


class Postponed(Exception):
    """The task is begun again after `seconds`. `away`: a service of ours is away."""

    def __init__(self, seconds: float, *, away: bool = False) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.away = away


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step waits for a service of ours that is away, in seconds since it first was.

    The pauses lie between 0 and the time that it is away, at least `first_seconds` and at most
    `longest_seconds`.
    """

    seconds: float
    first_seconds: float
    longest_seconds: float

    def pause_seconds(self, away_seconds: float) -> float | None:
        """Return the next pause; None: it was long enough."""
        if away_seconds >= self.seconds:
            return None
        ceiling = min(max(away_seconds, self.first_seconds), self.longest_seconds)
        return random.uniform(0, ceiling)  # noqa: S311 -- jitter, not a secret


def is_handed_in(task: Task) -> bool:
    """Return whether no call waits for the task: it was submitted, or is a child."""
    return task.detached or bool(task.parent_task_id)


def is_away(error: ServiceError) -> bool:
    """Return whether a service of ours, or its store, is away, and nothing else is wrong."""
    return isinstance(error, Unavailable) and error.reason in AWAY_REASONS


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after how long: `pause_seconds` takes the number of the retry, from 1.

    `patient` is for tasks that were handed in, `awaited` for those that a call waits for.
    """

    most: int
    pause_seconds: Callable[[int], float]
    patient: Patience
    awaited: Patience

    def patience_left(self, task: Task, error: ServiceError) -> float | None:
        """Return how long the task shall wait for a service of ours; None: it is not that, or it
        took too long.
        """
        if not is_away(error):
            return None
        handed_in = is_handed_in(task)
        if not handed_in and error.reason != _AWAY:
            # A store that is away is no process that starts again within seconds.
            return None
        patience = self.patient if handed_in else self.awaited
        pause = patience.pause_seconds(task.away_seconds)
        return pause if pause is not None and pause < task.remaining_seconds else None

    def pause_after(self, task: Task, error: ServiceError) -> float | None:
        """Return how long the task shall wait before it is begun again; None: it has failed."""
        retry = task.attempt - task.waits
        if not is_handed_in(task) or retry > self.most or not failure_of(error).retryable:
            return None
        asked_for = error.retry_after_seconds or 0.0
        if asked_for > LONGEST_SECONDS:
            return None
        pause = max(self.pause_seconds(retry), asked_for)
        return pause if pause < task.remaining_seconds else None
