"""What only the embedded log has to show: outages of its server, retention, restored dumps."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.events import outbox
from meshwright_common.events.consumer import Consumer, Policy
from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.envelope import Event
from meshwright_common.events.retention import prune
from meshwright_common.events.topics import TOPICS, Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import DATABASE, OWNER_SERVICE, bootstrap
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres
from meshwright_common.storage.migrations import migrate_events
from meshwright_common.storage.postgres import (
    Connection,
    Database,
    StorageUnavailable,
    open_database,
)
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

TOPIC = Topic.DOCUMENT_INDEX
RETENTION_DAYS = TOPICS[TOPIC].retention.days


def event(number: int, tenant: str) -> Event:
    return Event.new(
        event_type="document.index.requested",
        source="rag",
        tenant_id=tenant,
        partition_key="document",
        data={"number": number},
    )


async def publish(database: Database, tenant: str, *numbers: int) -> None:
    for number in numbers:
        async with unit_of_work(database, tenant) as connection:
            await outbox.append(connection, TOPIC, event(number, tenant))


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return await database_settings()


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "rag") as opened:
        yield opened


class Reader:
    """A consumer that remembers what it was handed, run for as long as a block lasts."""

    def __init__(self, database: Database, name: str = "indexer") -> None:
        self.seen: list[object] = []
        self._consumer = Consumer(
            name, [TOPIC], self._see, database, policy=Policy(poll_seconds=0.05)
        )
        self._running: asyncio.Task[None] | None = None

    async def _see(self, _connection: Connection, received: Event) -> None:
        self.seen.append(received.data["number"])

    async def __aenter__(self) -> Reader:
        self._running = asyncio.ensure_future(self._consumer.run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._consumer.stop()
        if self._running is not None:
            await self._running

    async def read_up_to(self, *numbers: int) -> None:
        await eventually(lambda: self.seen == [*numbers])


async def positions(database: Database, tenant: str) -> int:
    async with unit_of_work(database, tenant) as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM events.outbox WHERE tenant_id = $1", tenant
        )
        return count


@pytest.mark.timeout(170)
async def test_a_consumer_outlives_its_server(tmp_path: Path) -> None:
    """F-01: kill -9 of the postmaster under a running consumer, then start it again."""
    password = secrets.token_urlsafe(8)
    server = EmbeddedPostgres(tmp_path / "data", password=password, log=tmp_path / "log")
    server.start()
    try:
        await bootstrap(server.url(), password=password)
        settings = DatabaseSettings(
            url=f"postgresql://meshwright_{{service}}:{password}@127.0.0.1:{server.port}/{DATABASE}"
        )
        await migrate_events(settings.url_for(OWNER_SERVICE))
        tenant = new_id()
        async with open_database(settings, "rag") as database, Reader(database) as reader:
            await publish(database, tenant, 1)
            await reader.read_up_to(1)

            async def is_committed() -> bool:
                async with database.connection() as connection:
                    ahead = await connection.fetchval(
                        "SELECT events.log_lag('indexer', $1)", TOPIC.value
                    )
                return bool(ahead == 0)

            # What dies with the server after it was handed over is handed over again.
            await eventually(is_committed)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await eventually(lambda: not server.running)
            with pytest.raises(StorageUnavailable):
                await publish(database, tenant, 0)
            server.start(port=server.port)

            async def is_served() -> bool:
                # A connection of the pool may learn only now that its server is gone.
                try:
                    await publish(database, tenant, 2)
                except StorageUnavailable:
                    return False
                return True

            await eventually(is_served)
            await reader.read_up_to(1, 2)
    finally:
        server.stop()


async def age(settings: DatabaseSettings, *, days: float) -> None:
    await execute_as_owner(
        settings,
        f"SET my.age = '{days} days';"  # noqa: S608 - a number of ours
        "UPDATE events.outbox SET created_at = created_at - current_setting('my.age')::interval,"
        " day = ((created_at - current_setting('my.age')::interval) AT TIME ZONE 'UTC')::date;"
        "UPDATE events.offsets SET day = day - ceil(extract(epoch FROM"
        " current_setting('my.age')::interval) / 86400)::integer;"
        "UPDATE events.inbox SET handled_at = handled_at - current_setting('my.age')::interval;",
    )


async def test_events_are_kept_for_their_topics_retention_and_until_all_have_read_them(
    database: Database, settings: DatabaseSettings
) -> None:
    tenant = new_id()
    await publish(database, tenant, 1, 2)
    async with Reader(database, "fast") as fast, Reader(database, "slow") as slow:
        await fast.read_up_to(1, 2)
        await slow.read_up_to(1, 2)
    await publish(database, tenant, 3)
    async with Reader(database, "fast") as fast:
        await fast.read_up_to(3)
    await age(settings, days=RETENTION_DAYS - 0.1)
    assert await prune(database) == 0
    await age(settings, days=0.2)
    assert await prune(database) == 2
    async with Reader(database, "slow") as slow:
        await slow.read_up_to(3)
    assert await prune(database) == 1
    assert await positions(database, tenant) == 0


async def test_what_was_handled_is_remembered_longer_than_the_event_is_kept(
    database: Database, settings: DatabaseSettings
) -> None:
    async def remembered() -> int:
        async with unscoped(database) as connection:
            count: int = await connection.fetchval("SELECT count(*) FROM events.inbox")
            return count

    await publish(database, new_id(), 1)
    async with Reader(database) as reader:
        await reader.read_up_to(1)
    await age(settings, days=RETENTION_DAYS + 0.5)
    await prune(database)
    assert await remembered() == 1
    await age(settings, days=7)
    await prune(database)
    assert await remembered() == 0


async def test_a_log_restored_on_another_server_is_read_on_from_where_it_was(
    database: Database, settings: DatabaseSettings
) -> None:
    """Transaction numbers of the dump lie ahead of the new server's counter."""
    tenant = new_id()
    await publish(database, tenant, 1, 2)
    async with Reader(database) as reader:
        await reader.read_up_to(1, 2)
    await publish(database, tenant, 3, 4)
    for table in ("outbox", "offsets"):
        await execute_as_owner(
            settings,
            f"UPDATE events.{table}"  # noqa: S608 - a name of ours
            " SET transaction_id = (transaction_id::text::bigint + 1000000000)::text::xid8",
        )
    assert await migrate_events(settings.url_for(OWNER_SERVICE)) == []
    await publish(database, tenant, 5)
    async with Reader(database) as reader, Reader(database, "late") as late:
        await reader.read_up_to(3, 4, 5)
        await late.read_up_to(1, 2, 3, 4, 5)


async def test_rows_of_other_tenants_are_reached_only_through_the_doors(
    database: Database,
) -> None:
    """S-03, S-13."""
    mine, theirs = new_id(), new_id()
    await publish(database, theirs, 1)
    assert await positions(database, mine) == 0
    async with unscoped(database) as connection:
        assert await connection.fetch("SELECT tenant_id FROM events.outbox") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unit_of_work(database, mine) as connection:
            await outbox.append(connection, TOPIC, event(2, theirs))
    for forbidden in ("DELETE FROM events.outbox", "UPDATE events.outbox SET topic = 'x'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unit_of_work(database, mine) as connection:
                await connection.execute(forbidden)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unscoped(database) as connection:
            await connection.execute("SELECT events.rebase()")


async def test_one_batch_at_a_time_is_handed_out_per_consumer_and_topic(database: Database) -> None:
    await publish(database, new_id(), 1)
    log = EmbeddedLog(database)
    async with (
        log.subscribe("indexer", [TOPIC]) as first,
        log.subscribe("indexer", [TOPIC]) as second,
        first[TOPIC].batch(10) as taken,
        second[TOPIC].batch(10) as refused,
    ):
        assert taken is not None
        assert len(taken.deliveries) == 1
        assert refused is None
