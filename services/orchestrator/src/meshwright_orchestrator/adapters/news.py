"""What the processes tell each other about tasks at once: a hint, by NOTIFY behind the commit.

Whoever does not hear it finds out by looking: readers poll, queues are filled every second, and a
worker learns with its next lease that its task was cancelled.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Connection, Database
from meshwright_orchestrator.domain.models import Task

CHANNEL: Final = "meshwright_tasks"
CANCELLED: Final = "cancelled"
CHANGED: Final = "changed"


def tell(connection: Connection, what: str, task: Task) -> None:
    """Tell of a task when the transaction has committed, and its parent's readers too."""
    announce_after_commit(connection, Announcement(CHANNEL, f"{what} {task.task_id}"))
    tell_of_end(connection, task)


def tell_of_end(connection: Connection, task: Task) -> None:
    """Tell those that may wait for a task that it ended; of one alone nothing is told."""
    if task.parent_task_id:
        announce_after_commit(connection, Announcement(CHANNEL, f"{CHANGED} {task.parent_task_id}"))


def tell_of(connection: Connection, task_id: str) -> None:
    """Tell that a task changed, when the transaction has committed."""
    announce_after_commit(connection, Announcement(CHANNEL, f"{CHANGED} {task_id}"))


class TaskNews:
    """Hears what is told, while `run` runs. `began` is called whenever it begins to: what was told
    before was not heard.
    """

    def __init__(
        self,
        database: Database,
        *,
        began: Callable[[], None],
        changed: Callable[[], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._database = database
        self._began = began
        self._changed = changed
        self._cancelled = cancelled
        self._readers: dict[str, set[asyncio.Event]] = {}

    async def run(self) -> None:
        """Hold one connection that listens, and a new one when it breaks, for ever."""
        await listen(self._database, CHANNEL, self._hear, began=self._began)

    @contextlib.contextmanager
    def hearing(self, task_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when something is told of the task."""
        woken = asyncio.Event()
        readers = self._readers.setdefault(task_id, set())
        readers.add(woken)
        try:
            yield woken
        finally:
            readers.discard(woken)
            if not readers:
                self._readers.pop(task_id, None)

    def _hear(self, payload: str) -> None:
        what, _, task_id = payload.partition(" ")
        for reader in self._readers.get(task_id, ()):
            reader.set()
        if what == CANCELLED:
            self._cancelled(task_id)
        else:
            self._changed()
