"""How much waits for a worker, and what is refused when it is too much."""

import asyncio
from typing import Final

from meshwright_orchestrator.domain.errors import Backlogged
from meshwright_orchestrator.domain.models import Priority

RETRY_AFTER_SECONDS: Final = 10.0


class Backlog:
    """The number of tasks that wait: counted now and then, and what was submitted here since."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.size = 0
        self.submitted = 0
        self.grown = asyncio.Event()

    def counted(self, size: int, submitted_before: int) -> None:
        """So many waited; `submitted` was that before they were counted. What came during the count
        may be in it or not, and is taken as not: better refused for a second than forgotten.
        """
        self.size = size + self.submitted - submitted_before

    def grew(self) -> None:
        """One more was submitted here: wakes whoever waits for `grown`, and clears it."""
        self.size += 1
        self.submitted += 1
        self.grown.set()

    def stirred(self) -> None:
        """Something may wait that was not submitted here: wakes whoever waits for `grown`."""
        self.grown.set()

    def admit(self, priority: Priority) -> None:
        """Do nothing while there is room for work of this priority. Raises: Backlogged."""
        if priority is Priority.LOW and self.size > self._limit:
            raise Backlogged(retry_after_seconds=RETRY_AFTER_SECONDS, limit=str(self._limit))
