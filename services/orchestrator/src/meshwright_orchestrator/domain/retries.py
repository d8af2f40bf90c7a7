"""Beginning a task that was handed to the workers, or is a child, again after a failure that may
pass.

What it journaled is kept; only the step that failed is done again. Whoever waits for a task with
ExecuteTask is told the failure at once instead, and decides for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.errors import failure_of
from meshwright_orchestrator.domain.models import Task

LONGEST_SECONDS: Final = 60.0
"""A failure that asks for a longer pause than this, such as a used-up quota, is the end."""


class Postponed(Exception):
    """The task is begun again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after how long: `pause_seconds` takes the number of the retry, from 1."""

    most: int
    pause_seconds: Callable[[int], float]

    def pause_after(self, task: Task, error: ServiceError) -> float | None:
        """Return how long the task shall wait before it is begun again; None: it has failed."""
        retry = task.attempt - task.waits
        handed_in = task.detached or bool(task.parent_task_id)
        if not handed_in or retry > self.most or not failure_of(error).retryable:
            return None
        asked_for = error.retry_after_seconds or 0.0
        if asked_for > LONGEST_SECONDS:
            return None
        pause = max(self.pause_seconds(retry), asked_for)
        return pause if pause < task.remaining_seconds else None
