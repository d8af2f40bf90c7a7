"""Everything that this service keeps of people, in the order in which it is erased.

A table, a family of keys or a folder of objects that is not here has to stand among the exceptions
of tests/contract/test_erasure_lists.py, with its reason.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from meshwright_common.erasure.objects import StoredObjects
from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.rows import AnonymousRows, StoredRows, count_rows, patiently
from meshwright_common.erasure.stored import BATCH, StoredData, Subject, in_batches
from meshwright_common.storage.objects import ObjectStore
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient, tenant_key
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.checkpoint_cells import PARTS
from meshwright_session.adapters.context_exports import export_key
from meshwright_session.domain.kept_copies import NOBODY

_OF_SESSION: Final = (
    "session_id IN (SELECT s.session_id FROM session.sessions AS s"
    " WHERE s.tenant_id = $1 AND s.user_id = $2"
    " UNION ALL SELECT e.session_id FROM session.erasure_sessions AS e"
    " WHERE e.tenant_id = $1 AND e.user_id = $2)"
)
"""Rows of a user's sessions, also of those that were erased before."""
_NAMED: Final = (
    "topic <> 'audit.log'"
    " AND (partition_key = $2 OR position(convert_to($2::text, 'UTF8') IN body) > 0)"
)
"""Events that name a user, by their key or in what they say."""


def stored_data(
    database: Database, redis: RedisClient, objects: ObjectStore, *, relayed: bool
) -> tuple[StoredData, ...]:
    """Return the stores. `relayed`: events leave the outbox for a broker."""
    return (
        SessionCaches(database, redis),
        ContextCopies(database, objects),
        StoredObjects(objects, "archives", by_user=True),
        StoredRows(database, "session.session_archives", "user_id = $2"),
        StoredRows(database, "session.messages", _OF_SESSION),
        StoredRows(database, "session.contexts", _OF_SESSION),
        StoredRows(database, "session.turn_commits", _OF_SESSION),
        StoredRows(database, "session.memories", "user_id = $2"),
        StoredRows(database, "session.memory_index_work", "user_id = $2"),
        StoredRows(database, "session.sessions", "user_id = $2"),
        StoredRows(database, "session.notification_reads", "reader_id = $2"),
        StoredRows(database, "session.notifications", "user_id = $2"),
        NotificationHead(database),
        StoredRows(database, "session.webhook_deliveries", "user_id = $2"),
        AnonymousRows(database, "session.webhooks", "created_by = $2", "created_by = ''"),
        StoredRows(database, "session.requests", "subject = $2"),
        AnonymousRows(
            database,
            "session.usage_ledger",
            "user_id = $2",
            f"user_id = '{NOBODY}', session_id = ''",
        ),
        StoredRows(database, "session.usage_calls"),
        DailySums(database, "session.usage_daily"),
        DailySums(database, "session.task_daily"),
        StoredRows(database, "session.session_counts"),
        StoredRows(database, "session.quota_alerts"),
        StoredRows(database, "session.erasure_sessions"),
        StoredRows(database, "session.api_keys", "user_id = $2"),
        StoredRows(database, "session.users", "user_id = $2"),
        Outbox(database, relayed=relayed),
        WaitingEvents(database, "events.parked", _NAMED),
        StoredRows(database, "events.dead_letters", _NAMED, of_tenant="topic <> 'audit.log'"),
        WorkQueue(database),
    )


class SessionCaches(StoredKeys):
    """What Redis has of sessions: found by their ids, which are noted before the sessions go."""

    def __init__(self, database: Database, redis: RedisClient) -> None:
        super().__init__(redis, "session", self._keys)
        self._database = database

    async def erase(self, subject: Subject) -> int:
        if subject.user_id:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                await patiently(connection)
                await connection.execute(_NOTE_SESSIONS, subject.tenant_id, subject.user_id)
        return await super().erase(subject)

    async def _keys(self, subject: Subject) -> AsyncGenerator[Sequence[str], None]:
        after: str | None = None
        while True:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                rows = await connection.fetch(
                    _NOTED_SESSIONS, subject.tenant_id, subject.user_id, after, BATCH
                )
            if not rows:
                return
            yield [
                tenant_key(subject.tenant_id, "session", row["session_id"], part)
                for row in rows
                for part in PARTS
            ]
            after = rows[-1]["session_id"]


class ContextCopies:
    """Copies of contexts as objects, with the rows by which they are found."""

    name = "objects:contexts"

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._rows = StoredRows(database, "session.context_exports", _OF_SESSION)
        self._folder = StoredObjects(objects, "contexts")
        self._database = database
        self._objects = objects

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            return await self._folder.erase(subject) + await self._rows.erase(subject)

        async def batch() -> int:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                rows = await connection.fetch(
                    _EXPORTS, subject.tenant_id, subject.user_id, OBJECTS_AT_ONCE
                )
            # Objects first: while a row is there, a crash forgets none of them.
            for row in rows:
                await self._objects.delete(
                    export_key(subject.tenant_id, row["session_id"], row["version"])
                )
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                await connection.execute(
                    _DROP_EXPORTS,
                    subject.tenant_id,
                    [row["session_id"] for row in rows],
                    [row["version"] for row in rows],
                )
            return len(rows)

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        return await self._folder.remaining(subject) + await self._rows.remaining(subject)


class DailySums(StoredRows):
    """Sums by day: a user's are added to those of nobody, for the bill."""

    def __init__(self, database: Database, table: str) -> None:
        super().__init__(database, table, "user_id = $2")
        self._sums = database

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            return await super().erase(subject)
        async with unit_of_work(self._sums, subject.tenant_id) as connection:
            return int(
                await connection.fetchval("SELECT anonymise_sums($1, $2)", subject.user_id, NOBODY)
            )


class NotificationHead:
    """The number of a tenant's last notification: it goes with the tenant."""

    name = "session.notification_heads"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, subject: Subject) -> int:
        if subject.user_id:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return int(await connection.fetchval("SELECT erase_notification_head()"))

    async def remaining(self, subject: Subject) -> int:
        if subject.user_id:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return await count_rows(
                connection, "session.notification_heads WHERE tenant_id = $1", subject
            )


class Outbox:
    """Events that everybody has read, or a broker has. Those for the audit stay for their time."""

    name = "events.outbox"

    def __init__(self, database: Database, *, relayed: bool) -> None:
        self._database = database
        self._relayed = relayed

    async def erase(self, subject: Subject) -> int:
        async def batch() -> int:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                return int(
                    await connection.fetchval(
                        "SELECT events.erase_events($1, $2, $3)",
                        subject.user_id,
                        self._relayed,
                        BATCH,
                    )
                )

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return int(
                await connection.fetchval(
                    "SELECT events.count_events($1, $2)", subject.user_id, BATCH
                )
            )


class WaitingEvents(StoredRows):
    """Events that failed and are tried again: a user's are waited for, for they may be billed."""

    def __init__(self, database: Database, table: str, of_user: str) -> None:
        super().__init__(database, table, of_user, of_tenant="topic <> 'audit.log'")

    async def erase(self, subject: Subject) -> int:
        return 0 if subject.user_id else await super().erase(subject)


class WorkQueue:
    """Work that waits for the tenant's tasks. Items name tasks, never users."""

    name = "events.work"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, subject: Subject) -> int:
        if subject.user_id:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return int(await connection.fetchval("SELECT events.erase_work()"))

    async def remaining(self, subject: Subject) -> int:
        if subject.user_id:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return int(await connection.fetchval("SELECT events.count_work()"))


OBJECTS_AT_ONCE: Final = 100

_NOTE_SESSIONS: Final = """
INSERT INTO erasure_sessions (tenant_id, user_id, session_id)
SELECT $1, $2, session_id FROM sessions WHERE tenant_id = $1 AND user_id = $2
ON CONFLICT DO NOTHING
"""

_NOTED_SESSIONS: Final = """
SELECT session_id FROM erasure_sessions
 WHERE tenant_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR session_id > $3)
 ORDER BY session_id LIMIT $4
"""

_EXPORTS: Final = f"""
SELECT session_id, version FROM context_exports
 WHERE tenant_id = $1 AND {_OF_SESSION} LIMIT $3
"""  # noqa: S608 - a constant of ours

_DROP_EXPORTS: Final = """
DELETE FROM context_exports AS x USING unnest($2::uuid[], $3::bigint[]) AS gone (id, version)
 WHERE x.tenant_id = $1 AND x.session_id = gone.id AND x.version = gone.version
"""
