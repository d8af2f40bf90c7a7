"""Conversations of one owner: sessions and their messages."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from meshwright_common.ids import new_id
from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.live_windows import LiveWindows
from meshwright_session.domain.models import (
    MessageDraft,
    NewMessage,
    Owner,
    Request,
    Session,
    SessionChange,
    SessionDraft,
    StoredMessage,
)
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.ports import (
    MessagePosition,
    MessageStore,
    SessionPosition,
    SessionStore,
)
from meshwright_session.domain.windows import SessionKey

MAX_MESSAGES_PER_APPEND: Final = 100
MAX_MESSAGES_PER_TURN: Final = 500
"""25 steps, each a message with 16 tool calls and their answers, fit in."""


class Conversations:
    """The use cases. Ids are made here; everything that must not interleave is the stores'."""

    def __init__(
        self,
        sessions: SessionStore,
        messages: MessageStore,
        archive: Archive,
        windows: LiveWindows,
    ) -> None:
        self._sessions = sessions
        self._messages = messages
        self._archive = archive
        self._windows = windows

    async def create(self, owner: Owner, draft: SessionDraft, request: Request | None) -> Session:
        """Create a session; a known request returns the one it made."""
        return await self._sessions.create(owner, new_id(), draft, request)

    async def get(self, owner: Owner, session_id: str) -> Session:
        """Return a session. Raises: SessionNotFound."""
        return await self._sessions.get(owner, session_id)

    async def list(self, owner: Owner, page: PageRequest) -> Page[Session]:
        """Return a page of the owner's sessions, last used first."""
        scope = (owner.tenant_id, owner.user_id, "sessions")
        position = paging.decode(scope, page.token, (int, str))
        after = None
        if position is not None:
            after = SessionPosition(paging.moment(int(position[0])), paging.identifier(position[1]))
        rows = await self._sessions.list(owner, after, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows)
        place = (paging.microseconds(last.update_time), last.session_id)
        return Page(rows, paging.encode(scope, place))

    async def update(
        self, owner: Owner, session_id: str, change: SessionChange, revision: int | None
    ) -> Session:
        """Change fields. Raises: SessionNotFound; SessionChanged when `revision` is old."""
        return await self._sessions.update(owner, session_id, change, revision)

    async def delete(self, owner: Owner, session_id: str) -> None:
        """Remove a session and all below it; an absent one is no error."""
        removal = Act("session.deleted", f"session/{session_id}")
        await self._archive.remove(
            owner, session_id, partial(self._sessions.delete, owner, session_id, removal)
        )
        await self._windows.forget(SessionKey.of(owner, session_id))

    async def put_away(self, owner: Owner, session_id: str) -> Session:
        """Move a session to the archive. Raises: SessionNotFound, SessionBusy, ArchiveDamaged."""
        await self._archive.put_away(owner, session_id)
        return await self._sessions.get(owner, session_id)

    async def bring_back(self, owner: Owner, session_id: str) -> Session:
        """Bring a session back from the archive. Raises: SessionNotFound, ArchiveDamaged."""
        await self._archive.bring_back(owner, session_id)
        return await self._sessions.get(owner, session_id)

    async def append(
        self,
        owner: Owner,
        session_id: str,
        drafts: Sequence[MessageDraft],
        *,
        turn_id: str | None,
        request: Request | None,
    ) -> Sequence[StoredMessage]:
        """Append messages in one step. Raises: SessionNotFound, IdempotencyKeyReused."""
        named = _named(drafts)
        return await self._archive.awake(
            owner,
            session_id,
            lambda: self._messages.append(
                owner, session_id, named, turn_id=turn_id, request=request
            ),
        )

    async def messages(
        self, owner: Owner, session_id: str, page: PageRequest, *, newest_first: bool
    ) -> Page[StoredMessage]:
        """Return a page of messages in order. Raises: SessionNotFound."""
        order = "newest" if newest_first else "oldest"
        scope = (owner.tenant_id, owner.user_id, "messages", session_id, order)
        position = paging.decode(scope, page.token, (int, int))
        after = None
        if position is not None:
            after = MessagePosition(paging.moment(int(position[0])), int(position[1]))
        rows: Sequence[StoredMessage] | None = None
        if newest_first and after is None:
            rows = await self._newest(owner, session_id, page.size + 1)
        if not rows:
            rows = await self._archive.awake(
                owner,
                session_id,
                lambda: self._messages.list(
                    owner, session_id, after, page.size + 1, newest_first=newest_first
                ),
            )
        shown, last = paging.cut(rows, page.size)
        if last is None:
            return Page(shown)
        place = (paging.microseconds(last.create_time), last.sequence)
        return Page(shown, paging.encode(scope, place))

    async def _newest(
        self, owner: Owner, session_id: str, count: int
    ) -> Sequence[StoredMessage] | None:
        """Return the newest messages, newest first, if this process has them."""
        window = await self._windows.current(owner, session_id)
        if window is None:
            return None
        messages = window.up_to(window.stamp.message_count, count)
        return None if messages is None else messages[::-1]


def _named(drafts: Sequence[MessageDraft]) -> list[NewMessage]:
    return [NewMessage(new_id(), draft.role, draft.content, draft.text) for draft in drafts]
