"""Contexts of sessions: read, compared and set, brought back, compared with what they were."""

from __future__ import annotations

from meshwright_session.domain import paging
from meshwright_session.domain.context_ports import ContextStore, KeptVersion
from meshwright_session.domain.live_windows import LiveWindows
from meshwright_session.domain.models import Context, JsonObject, Owner, Request
from meshwright_session.domain.paging import Page, PageRequest


class Contexts:
    """The use cases."""

    def __init__(self, store: ContextStore, windows: LiveWindows) -> None:
        self._store = store
        self._windows = windows

    async def get(self, owner: Owner, session_id: str) -> Context:
        """Return the context. Raises: SessionNotFound, ContextSchemaUnknown."""
        window = await self._windows.current(owner, session_id)
        if window is not None:
            return window.context
        return await self._store.get(owner, session_id)

    async def compare_and_set(
        self, owner: Owner, session_id: str, expected_version: int, data: JsonObject
    ) -> Context:
        """Write the next version.

        Raises: SessionNotFound, ContextVersionConflict, ContextTooLarge, ContextSchemaUnknown.
        """
        return await self._store.compare_and_set(owner, session_id, expected_version, data)

    async def kept(self, owner: Owner, session_id: str, page: PageRequest) -> Page[KeptVersion]:
        """Return a page of the versions that are kept, newest first. Raises: SessionNotFound."""
        scope = (owner.tenant_id, owner.user_id, "contexts", session_id)
        position = paging.decode(scope, page.token, (int,))
        before = None if position is None else int(position[0])
        rows = await self._store.kept(owner, session_id, before, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows)
        return Page(rows, paging.encode(scope, (last.version,)))

    async def restore(
        self, owner: Owner, session_id: str, version: int, request: Request | None
    ) -> Context:
        """Write an old version's data as the newest version; once per request.

        Raises: SessionNotFound, VersionNotKept, ContextSchemaUnknown, IdempotencyKeyReused.
        """
        return await self._store.restore(owner, session_id, version, request)

    async def two(
        self, owner: Owner, session_id: str, from_version: int, to_version: int
    ) -> tuple[JsonObject, JsonObject]:
        """Return the data of two versions. Raises: SessionNotFound, VersionNotKept."""
        before = await self._store.at(owner, session_id, from_version)
        if from_version == to_version:
            return before, before
        return before, await self._store.at(owner, session_id, to_version)
