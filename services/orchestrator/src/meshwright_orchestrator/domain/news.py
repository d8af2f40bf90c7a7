"""Hearing at once that a task changed, wherever that was: a hint, for those who look anyway."""

import asyncio
from contextlib import AbstractContextManager
from typing import Protocol


class News(Protocol):
    """What is told of tasks."""

    def hearing(self, task_id: str) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when something is told of the task."""
        ...
