"""A turn that runs in this process: its events in memory, on their way to the journal and readers.

Events get their sequence when they are flushed. While a flush is under way further text collects
and leaves as one event: a busy pipe merges, an idle one never waits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

import structlog

from meshwright_chat.domain.errors import EntriesForgotten
from meshwright_chat.domain.models import Entry, ReasoningDelta, TextDelta, Turn, TurnEvent
from meshwright_chat.domain.ports import Journal
from meshwright_common.errors import Unavailable

logger = structlog.get_logger(__name__)


class LiveTurn:
    """The journal's writing end. Readers see an event when the journal has it.

    With the journal away readers are served from memory and it gets the rest when it is back:
    losing the process at that moment loses the stream's positions, never the turn.

    `history` is what the session gave for the turn, once it did: all attempts begin with the same.
    """

    def __init__(
        self, turn: Turn, journal: Journal, now: Callable[[], datetime], *, first_sequence: int
    ) -> None:
        self.turn = turn
        self.task_id = turn.task_id
        self.history: Sequence[object] | None = None
        self._journal = journal
        self._now = now
        self._base = first_sequence - 1
        self._entries: list[Entry] = []
        self._pending: list[TurnEvent] = []
        self._journaled = 0
        self._visible = 0
        self._wake_writer = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False
        self._written = False

    @property
    def first_sequence(self) -> int:
        """Sequence of the first event held here; earlier ones are in the journal."""
        return self._base + 1

    @property
    def last_sequence(self) -> int:
        """Sequence of the last event, flushed or not."""
        return self._base + len(self._entries) + len(self._pending)

    def emit(self, event: TurnEvent) -> None:
        """Queue an event; text joins the text that still waits."""
        if self._pending:
            merged = _merge(self._pending[-1], event)
            if merged is not None:
                self._pending[-1] = merged
                return
        self._pending.append(event)
        self._wake_writer.set()

    @property
    def entries(self) -> Sequence[Entry]:
        """What was flushed here, in order."""
        return self._entries

    def close(self) -> None:
        """End the writing after what waits is flushed; without a last event another goes on."""
        self._closed = True
        self._wake_writer.set()

    async def write(self) -> None:
        """Flush until closed. Raises: LeaseLost when another process has written."""
        try:
            while not (self._closed and not self._pending):
                await self._wake_writer.wait()
                # One round of the loop: what is ready at this moment leaves together.
                await asyncio.sleep(0)
                self._wake_writer.clear()
                await self._flush()
        finally:
            # After a lost lease what still waits is the other process's to tell.
            self._written = True
            self._tell()

    async def _flush(self) -> None:
        while self._pending:
            time = self._now()
            for event in self._pending:
                sequence = self._base + len(self._entries) + 1
                self._entries.append(
                    Entry(self.turn.turn_id, sequence, self.turn.attempt, time, event)
                )
            self._pending.clear()
            try:
                await self._journal_rest()
            except Unavailable as error:
                logger.warning("journal_away", turn_id=self.turn.turn_id, reason=error.reason)
            self._visible = len(self._entries)
            self._tell()

    async def _journal_rest(self) -> None:
        rest, held_from = self._entries[self._journaled :], self.first_sequence
        try:
            await self._journal.append(self.turn, rest, held_from=held_from)
        except EntriesForgotten:
            # It was emptied meanwhile: a reader elsewhere must not go on behind a gap.
            logger.warning("journal_refilled", turn_id=self.turn.turn_id)
            await self._journal.append(self.turn, self._entries, held_from=held_from)
        self._journaled = len(self._entries)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after_sequence: int) -> AsyncIterator[Entry]:
        """Yield the events after `after_sequence` held here, as they become visible, to the end."""
        index = max(after_sequence - self._base, 0)
        while True:
            while index < self._visible:
                entry = self._entries[index]
                index += 1
                yield entry
            if self._written:
                return
            await self._news.wait()


def _merge(waiting: TurnEvent, event: TurnEvent) -> TurnEvent | None:
    match waiting, event:
        case TextDelta(text=first), TextDelta(text=second):
            return TextDelta(first + second)
        case ReasoningDelta(text=first), ReasoningDelta(text=second):
            return ReasoningDelta(first + second)
        case _:
            return None
