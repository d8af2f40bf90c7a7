"""Turns of a conversation: begun with the question, committed with the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from meshwright_common.ids import new_id
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.context_ports import TurnStore, TurnStored
from meshwright_session.domain.live_windows import LiveWindows
from meshwright_session.domain.models import (
    Context,
    ContextChanges,
    MessageDraft,
    NewMessage,
    Owner,
    StoredMessage,
    TurnCommitted,
)
from meshwright_session.domain.windows import SessionKey, Window

MESSAGES_BY_DEFAULT: Final = 40
"""Messages a turn's agent reads unless more or fewer are asked for."""


@dataclass(frozen=True, slots=True)
class TurnOpening:
    """What a turn's agent reads: messages up to the question, oldest first, and the context."""

    messages: Sequence[StoredMessage]
    context: Context


class Turns:
    """The use cases. A turn costs one transaction at each end, and reads nothing that this process
    has seen already."""

    def __init__(self, store: TurnStore, windows: LiveWindows, archive: Archive) -> None:
        self._store = store
        self._windows = windows
        self._archive = archive

    async def begin(
        self, owner: Owner, session_id: str, turn_id: str, draft: MessageDraft, most: int
    ) -> TurnOpening:
        """Store the question, once; return what its agent reads.

        Raises: SessionNotFound, ContextSchemaUnknown.
        """
        key = SessionKey.of(owner, session_id)
        known, level = await self._windows.find(key)
        question = _named(draft)
        begun = await self._archive.awake(
            owner,
            session_id,
            lambda: self._store.begin(owner, session_id, turn_id, question, most=most, known=known),
        )
        self._windows.loaded(key, begun.window, level, begun.read)
        return TurnOpening(begun.messages, begun.window.context)

    async def commit(
        self,
        owner: Owner,
        session_id: str,
        turn_id: str,
        drafts: Sequence[MessageDraft],
        changes: ContextChanges,
        question: MessageDraft | None,
    ) -> TurnCommitted:
        """Store what a turn produced, once.

        Raises: SessionNotFound, ContextTooLarge, ContextSchemaUnknown.
        """
        key = SessionKey.of(owner, session_id)
        known = self._windows.here(key)
        asked = None if question is None else _named(question)
        added = [_named(draft) for draft in drafts]
        stored = await self._archive.awake(
            owner,
            session_id,
            lambda: self._store.commit(
                owner, session_id, turn_id, added, changes, question=asked, known=known
            ),
        )
        window = _moved_on(known, stored)
        if window is not None:
            self._windows.committed(key, window)
        return TurnCommitted(stored.message_id, stored.context_version, stored.summary_due)


def _moved_on(known: Window | None, stored: TurnStored) -> Window | None:
    """Return the window after the commit; None when what was known is not what it began with."""
    if known is None or stored.after is None or known.stamp != stored.before:
        return None
    memory = stored.memory
    if memory is None:
        moment = stored.after.update_time
        context = replace(known.context, version=stored.context_version, update_time=moment)
        memory = replace(known.memory, context=context)
    return known.moved_on(stored.after, stored.messages).with_context(memory)


def _named(draft: MessageDraft) -> NewMessage:
    return NewMessage(new_id(), draft.role, draft.content, draft.text)
