"""Reading notifications, marking them as read, and waiting for new ones."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, Protocol

from meshwright_common.context import Principal
from meshwright_session.domain import paging
from meshwright_session.domain.errors import CursorExpired
from meshwright_session.domain.notification_models import NewNotification, Notification, Reader
from meshwright_session.domain.paging import Page, PageRequest

WATCH_BATCH_ROWS: Final = 100
"""Rows read at a time for a watcher: no transaction stays open while it is slow."""


class NotificationIntake(Protocol):
    """Stores notifications inside the transaction in which their events are handled."""

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        """Add notifications of one tenant, in order, and drop the oldest beyond a user's share.

        Those that are there already are passed over.
        """
        ...


class NotificationStore(Protocol):
    """What a reader can do; notifications of others do not exist for it."""

    async def newest(
        self, reader: Reader, before: int | None, limit: int, *, unread_only: bool
    ) -> Sequence[Notification]:
        """Return up to `limit` notifications before a sequence, newest first."""
        ...

    async def following(
        self, reader: Reader, after: int, limit: int, *, unread_only: bool
    ) -> Sequence[Notification]:
        """Return up to `limit` notifications after a sequence, oldest first."""
        ...

    async def head(self, reader: Reader) -> int:
        """Return the tenant's last sequence: whatever is added later comes after it."""
        ...

    async def sequence_of(self, reader: Reader, notification_id: str) -> int | None:
        """Return the place of a notification; None when there is no such one."""
        ...

    async def mark(self, reader: Reader, notification_ids: Sequence[str]) -> int:
        """Mark these as read; return how many were unread before."""
        ...

    async def mark_until(self, reader: Reader, time: datetime) -> int:
        """Mark all that happened up to `time`, inclusive; return how many were unread before."""
        ...


class WakeUps(Protocol):
    """Says when there may be something new. A hint: whoever waits also looks now and then."""

    def hearing(self, reader: Reader) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when the reader has new notifications."""
        ...


class Notifications:
    """The use cases. `look_seconds`: how long a watcher waits at most between two looks."""

    def __init__(self, store: NotificationStore, wake_ups: WakeUps, *, look_seconds: float) -> None:
        self._store = store
        self._wake_ups = wake_ups
        self._look_seconds = look_seconds

    async def list(
        self, caller: Principal, page: PageRequest, *, unread_only: bool
    ) -> Page[Notification]:
        """Return a page of the caller's notifications, newest first."""
        reader = Reader.of(caller)
        scope = (*_scope(reader), "unread" if unread_only else "all")
        position = paging.decode(scope, page.token, (int,))
        before = None if position is None else int(position[0])
        rows = await self._store.newest(reader, before, page.size + 1, unread_only=unread_only)
        shown, last = paging.cut(rows, page.size)
        return Page(shown, "" if last is None else paging.encode(scope, (last.sequence,)))

    async def mark(self, caller: Principal, notification_ids: Sequence[str]) -> int:
        """Mark notifications as read by the caller; return how many were unread before."""
        return await self._store.mark(Reader.of(caller), notification_ids)

    async def mark_until(self, caller: Principal, time: datetime) -> int:
        """Mark all up to a moment as read by the caller; return how many were unread before."""
        return await self._store.mark_until(Reader.of(caller), time)

    async def watch(self, caller: Principal, after_id: str) -> AsyncGenerator[Notification, None]:
        """Yield what comes after a notification, for ever; without one, first all unread ones.

        Raises: CursorExpired when the caller has no such notification.
        """
        reader = Reader.of(caller)
        if after_id:
            known = await self._store.sequence_of(reader, after_id)
            if known is None:
                raise CursorExpired(notification_id=after_id)
            last = known
        else:
            # What is added from here on is new, whether it is read by then or not.
            last = await self._store.head(reader)
            async for notification in self._unread(reader, until=last):
                yield notification
        with self._wake_ups.hearing(reader) as woken:
            while True:
                # Cleared first: what commits while we look sets it again.
                woken.clear()
                batch = await self._store.following(
                    reader, last, WATCH_BATCH_ROWS, unread_only=False
                )
                for notification in batch:
                    yield notification
                    last = notification.sequence
                if len(batch) < WATCH_BATCH_ROWS:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._look_seconds):
                            await woken.wait()

    async def _unread(self, reader: Reader, *, until: int) -> AsyncGenerator[Notification, None]:
        last = 0
        while True:
            batch = await self._store.following(reader, last, WATCH_BATCH_ROWS, unread_only=True)
            for notification in batch:
                if notification.sequence > until:
                    return
                yield notification
                last = notification.sequence
            if len(batch) < WATCH_BATCH_ROWS:
                return


def _scope(reader: Reader) -> paging.Scope:
    return (reader.tenant_id, reader.user_id, "notifications", *reader.addressed_as)
