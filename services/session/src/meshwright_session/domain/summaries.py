"""Summaries of sessions: which turns are due, and storing what was made of them, once."""

import re
from collections.abc import Sequence
from typing import Final, Protocol

from meshwright_common.errors import invalid
from meshwright_session.domain.memory import Memories
from meshwright_session.domain.memory_indexing import Indexing
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    MemoryKind,
    MemoryOrigin,
    RecallQuery,
    SummaryBatch,
)
from meshwright_session.domain.memory_ports import SummaryStore
from meshwright_session.domain.models import Owner, StoredMessage

MAX_KNOWN: Final = 20
MAX_QUERY_CHARACTERS: Final = 4_000
_FACTS: Final = MemoryFilter(kinds=(MemoryKind.FACT, MemoryKind.PREFERENCE))
_BATCH_ID: Final = re.compile(r"([0-9a-f-]{36}):(\d{1,18})-(\d{1,18})")


class MessageReading(Protocol):
    """Looks inside messages."""

    def said_by_user(self, messages: Sequence[StoredMessage]) -> str:
        """Return what the user said in them, a line each."""
        ...

    def rest_on_sources(self, messages: Sequence[StoredMessage]) -> bool:
        """Return whether documents or tools had a say in any of them."""
        ...


class Summaries:
    """The use cases of whoever summarises. A batch is named by its session and its sequences."""

    def __init__(
        self,
        store: SummaryStore,
        memories: Memories,
        indexing: Indexing,
        reading: MessageReading,
    ) -> None:
        self._store = store
        self._memories = memories
        self._indexing = indexing
        self._reading = reading

    async def next_batch(self, owner: Owner, session_id: str) -> SummaryBatch:
        """Return the oldest turns that are due with what is known about them; else an empty one.

        Raises: SessionNotFound.
        """
        turns = await self._store.next_batch(owner, session_id)
        if turns is None:
            return SummaryBatch()
        # The end of what was said: a question to memory has a limit.
        asked = self._reading.said_by_user(turns.messages)[-MAX_QUERY_CHARACTERS:].strip()
        known: Sequence[Memory] = ()
        if asked:
            query = RecallQuery(asked, MAX_KNOWN, _FACTS)
            recalled = await self._memories.recall(owner, query)
            known = [one.memory for one in recalled.memories]
        return SummaryBatch(f"{session_id}:{turns.after + 1}-{turns.last}", turns.messages, known)

    async def store(
        self,
        owner: Owner,
        session_id: str,
        batch_id: str,
        summary: str,
        learned: Sequence[MemoryDraft],
    ) -> Sequence[Memory]:
        """Store a batch's summary and what was learned; empty when it was stored before, or is not
        the session's next batch. Raises: SessionNotFound, InvalidArgument.

        A summary of turns in which documents or tools had a say is not trusted.
        """
        first, last = sequences_of(session_id, batch_id)
        turns = await self._store.next_batch(owner, session_id)
        if turns is None or (turns.after + 1, turns.last) != (first, last):
            return ()
        untrusted = self._reading.rest_on_sources(turns.messages)
        origin = MemoryOrigin.UNTRUSTED if untrusted else MemoryOrigin.MODEL
        drafts = [MemoryDraft(MemoryKind.SUMMARY, summary, origin), *learned]
        # The store looks once more, with the session locked: of two that come at once one stores.
        remembered = await self._store.store(owner, session_id, (first, last), drafts)
        await self._indexing.do(remembered.work)
        return remembered.memories


def sequences_of(session_id: str, batch_id: str) -> tuple[int, int]:
    """Return the first and the last sequence of a batch. Raises: InvalidArgument."""
    found = _BATCH_ID.fullmatch(batch_id)
    if found is None or found[1] != session_id:
        raise invalid("batch_id", "must be as ReadSummaryBatch gave it for this session")
    return int(found[2]), int(found[3])
