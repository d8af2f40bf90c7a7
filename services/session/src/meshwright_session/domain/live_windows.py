"""The first two levels of memory, in front of PostgreSQL."""

from __future__ import annotations

from typing import Protocol

from meshwright_session.domain.context_ports import Checkpoints, TurnStore, WindowCache
from meshwright_session.domain.errors import SessionArchived
from meshwright_session.domain.models import Owner
from meshwright_session.domain.windows import Level, Read, SessionKey, Window


class LoadCounter(Protocol):
    """Counts where windows came from."""

    def __call__(self, level: Level, read: Read) -> None:
        """Count one load."""
        ...


class LiveWindows:
    """Windows that this process or Redis still has. What they find is only ever a candidate:
    whoever uses it compares its stamp with the session's row, in the transaction at hand."""

    def __init__(
        self,
        store: TurnStore,
        cache: WindowCache,
        checkpoints: Checkpoints,
        count: LoadCounter,
    ) -> None:
        self._store = store
        self._cache = cache
        self._checkpoints = checkpoints
        self._count = count

    def here(self, key: SessionKey) -> Window | None:
        """Return what this process has of a session."""
        return self._cache.get(key)

    async def find(self, key: SessionKey) -> tuple[Window | None, Level]:
        """Return what is nearest, and where it was."""
        window = self._cache.get(key)
        if window is not None:
            return window, Level.L1
        window = await self._checkpoints.find(key)
        return window, Level.COLD if window is None else Level.L2

    def loaded(self, key: SessionKey, window: Window, level: Level, read: Read) -> None:
        """Keep a window as of a committed transaction; count how it was had."""
        self._count(Level.COLD if read is Read.ALL else level, read)
        self._cache.put(key, window)

    def committed(self, key: SessionKey, window: Window) -> None:
        """Keep a window as of a commit that waited for the disk, here and outside."""
        self._cache.put(key, window)
        self._checkpoints.save(key, window)

    async def current(self, owner: Owner, session_id: str) -> Window | None:
        """Return the window as of now of a session that this process knows; None of another.

        Costs one row when nothing has changed. Raises: SessionNotFound, ContextSchemaUnknown.
        """
        key = SessionKey.of(owner, session_id)
        known = self._cache.get(key)
        if known is None:
            return None
        try:
            window, read = await self._store.current(owner, session_id, known)
        except SessionArchived:
            self._cache.drop(key)
            return None
        self.loaded(key, window, Level.L1, read)
        return window

    async def forget(self, key: SessionKey) -> None:
        """Drop a session that is gone from both levels."""
        self._cache.drop(key)
        await self._checkpoints.drop(key)
