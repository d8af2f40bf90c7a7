"""A task that runs in this process: its events in memory, for any number of readers.

A reader that is behind gets the texts that wait as one: a slow pipe merges, an idle one gets each
piece at once. Nothing here waits for a database.
"""

import asyncio
from collections.abc import AsyncGenerator

from meshwright_orchestrator.domain.events import Chunk, TaskEvent
from meshwright_orchestrator.domain.models import Failure, Result


class LiveTask:
    """The events of one attempt, each with the step it belongs to.

    `resumed_steps` were found in the journal when it began.
    """

    def __init__(self, task_id: str, attempt: int, resumed_steps: int) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.resumed_steps = resumed_steps
        self._entries: list[tuple[int, TaskEvent]] = []
        self._readers: set[asyncio.Event] = set()
        self._closed = False

    def tell(self, step: int, event: TaskEvent) -> None:
        """Add an event of `step`. Ignored after the end: another process goes on."""
        if self._closed:
            return
        self._entries.append((step, event))
        for reader in self._readers:
            reader.set()

    def close(self) -> None:
        """End the telling; readers get what waits. Without a result or failure the stream is
        not over: the attempt was lost and readers look for the next one.
        """
        self._closed = True
        for reader in self._readers:
            reader.set()

    async def follow(self, after_step: int) -> AsyncGenerator[tuple[int, TaskEvent], None]:
        """Yield the events of later steps than `after_step`, as they come, to the end."""
        entries = self._entries
        wake = asyncio.Event()
        self._readers.add(wake)
        index = 0
        try:
            while True:
                while index < len(entries):
                    step, event = entries[index]
                    index += 1
                    if step <= after_step and not isinstance(event, Result | Failure):
                        continue
                    if type(event) is Chunk and index < len(entries):
                        event, index = self._merged(event, step, index)
                    yield step, event
                if self._closed:
                    return
                wake.clear()
                await wake.wait()
        finally:
            self._readers.discard(wake)

    def _merged(self, first: Chunk, step: int, index: int) -> tuple[Chunk, int]:
        texts, reasonings, has_text = [first.text], [first.reasoning], bool(first.text)
        entries = self._entries
        while index < len(entries):
            next_step, event = entries[index]
            if type(event) is not Chunk or next_step != step:
                break
            # Reasoning that came after text may not move before it.
            if event.reasoning and has_text:
                break
            texts.append(event.text)
            reasonings.append(event.reasoning)
            has_text = has_text or bool(event.text)
            index += 1
        return Chunk("".join(texts), "".join(reasonings)), index
