"""Notifications in PostgreSQL: numbered within the tenant, the newest of each user kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.notification_models import NewNotification, Notification, Reader

CHANNEL: Final = "meshwright_notifications"
"""The NOTIFY channel that wakes watchers; `called` is the payload. A hint: they also poll."""
_LAST_SEQUENCE: Final = (1 << 63) - 1


class PostgresNotificationIntake:
    """`NotificationIntake` inside an open transaction of the notifications' tenant.

    `kept`: how many each user keeps.
    """

    def __init__(self, connection: Connection, *, kept: int) -> None:
        self._connection = connection
        self._kept = kept

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        if not notifications:
            return
        tenant_id = notifications[0].tenant_id
        columns = zip(
            *(
                (
                    one.notification_id,
                    one.user_id,
                    one.kind,
                    one.title,
                    one.resource,
                    dict(one.details),
                    one.time,
                )
                for one in notifications
            ),
            strict=True,
        )
        await self._connection.execute(_ADD, tenant_id, len(notifications), *map(list, columns))
        users = sorted({one.user_id for one in notifications})
        await self._connection.execute(_TRIM, tenant_id, users, self._kept)
        for user_id in users:
            announce_after_commit(
                self._connection, Announcement(CHANNEL, called(tenant_id, user_id))
            )


class PostgresNotifications:
    """`NotificationStore` on the tables `notifications` and `notification_reads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(
        self, reader: Reader, before: int | None, limit: int, *, unread_only: bool
    ) -> Sequence[Notification]:
        place = _LAST_SEQUENCE if before is None else before
        return await self._fetch(_NEWEST, reader, place, unread_only, limit)

    async def following(
        self, reader: Reader, after: int, limit: int, *, unread_only: bool
    ) -> Sequence[Notification]:
        return await self._fetch(_FOLLOWING, reader, after, unread_only, limit)

    async def head(self, reader: Reader) -> int:
        async with unit_of_work(self._database, reader.tenant_id) as connection:
            return int(await connection.fetchval(_HEAD, reader.tenant_id) or 0)

    async def sequence_of(self, reader: Reader, notification_id: str) -> int | None:
        async with unit_of_work(self._database, reader.tenant_id) as connection:
            found: int | None = await connection.fetchval(
                _SEQUENCE_OF, reader.tenant_id, list(reader.addressed_as), notification_id
            )
        return found

    async def mark(self, reader: Reader, notification_ids: Sequence[str]) -> int:
        return await self._mark(reader, list(notification_ids), None)

    async def mark_until(self, reader: Reader, time: datetime) -> int:
        return await self._mark(reader, [], time)

    async def _fetch(self, statement: str, reader: Reader, *place: object) -> list[Notification]:
        async with unit_of_work(self._database, reader.tenant_id) as connection:
            rows = await connection.fetch(
                statement, reader.tenant_id, reader.user_id, list(reader.addressed_as), *place
            )
        return [_notification(row) for row in rows]

    async def _mark(self, reader: Reader, ids: Sequence[str], until: datetime | None) -> int:
        async with unit_of_work(self._database, reader.tenant_id) as connection:
            marked = await connection.fetchval(
                _MARK, reader.tenant_id, reader.user_id, list(reader.addressed_as), ids, until
            )
        return int(marked)


def called(tenant_id: str, user_id: str) -> str:
    """Return how the watchers are called to whom a notification of `user_id` is addressed."""
    return f"{tenant_id}/{user_id}"


def _notification(row: Record) -> Notification:
    return Notification(
        sequence=row["sequence"],
        notification_id=row["notification_id"],
        user_id=row["user_id"],
        kind=row["kind"],
        title=row["title"],
        resource=row["resource"],
        details=row["details"],
        create_time=row["create_time"],
        read_time=row["read_time"],
    )


# Numbers of notifications that are there already stay unused.
_ADD: Final = """
WITH head AS (
    INSERT INTO notification_heads AS h (tenant_id, sequence) VALUES ($1, $2)
    ON CONFLICT (tenant_id) DO UPDATE SET sequence = h.sequence + excluded.sequence
    RETURNING sequence - $2 AS before
)
INSERT INTO notifications (tenant_id, sequence, notification_id, user_id, kind, title, resource,
                           details, create_time)
SELECT $1, head.before + told.number, told.notification_id, told.user_id, told.kind, told.title,
       told.resource, told.details, least(told.time, clock_timestamp())
  FROM head,
       unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
              $9::timestamptz[])
           WITH ORDINALITY AS told (notification_id, user_id, kind, title, resource, details, time,
                                    number)
ON CONFLICT (tenant_id, notification_id) DO NOTHING
"""

# Materialized: asked for each row of a user instead of once, it costs the square of what is kept.
_TRIM: Final = """
WITH surplus AS MATERIALIZED (
    SELECT kept.user_id, oldest.sequence
      FROM unnest($2::text[]) AS kept (user_id),
           LATERAL (SELECT k.sequence FROM notifications k
                     WHERE k.tenant_id = $1 AND k.user_id = kept.user_id
                     ORDER BY k.sequence DESC
                    OFFSET $3 LIMIT 1) AS oldest
)
DELETE FROM notifications n
 USING surplus
 WHERE n.tenant_id = $1 AND n.user_id = surplus.user_id AND n.sequence <= surplus.sequence
"""

_SEEN: Final = """
SELECT n.sequence, n.notification_id, n.user_id, n.kind, n.title, n.resource, n.details,
       n.create_time, r.read_time
  FROM notifications n
  LEFT JOIN notification_reads r
    ON r.tenant_id = $1 AND r.reader_id = $2 AND r.sequence = n.sequence
 WHERE n.tenant_id = $1 AND n.user_id = ANY ($3)
"""
_NEWEST: Final = f"""{_SEEN}
   AND n.sequence < $4 AND (NOT $5 OR r.read_time IS NULL)
 ORDER BY n.sequence DESC
 LIMIT $6
"""
_FOLLOWING: Final = f"""{_SEEN}
   AND n.sequence > $4 AND (NOT $5 OR r.read_time IS NULL)
 ORDER BY n.sequence
 LIMIT $6
"""

_HEAD: Final = "SELECT sequence FROM notification_heads WHERE tenant_id = $1"

_SEQUENCE_OF: Final = """
SELECT sequence FROM notifications
 WHERE tenant_id = $1 AND user_id = ANY ($2) AND notification_id = $3
"""

# Locked: one that is dropped meanwhile is passed over, not found missing by the foreign key.
_MARK: Final = """
WITH mine AS (
    SELECT sequence FROM notifications
     WHERE tenant_id = $1 AND user_id = ANY ($3)
       AND (notification_id = ANY ($4::uuid[]) OR create_time <= $5)
       FOR KEY SHARE
), marked AS (
    INSERT INTO notification_reads (tenant_id, reader_id, sequence)
    SELECT $1, $2, sequence FROM mine
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT count(*) FROM marked
"""
