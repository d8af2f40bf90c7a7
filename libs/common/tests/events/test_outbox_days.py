"""The outbox in daily partitions: made ahead, never missed, dropped when nobody needs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.ports import OutgoingEvent
from meshwright_common.events.relay import Relay
from meshwright_common.events.retention import make_days, prune
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE, bootstrap
from meshwright_common.storage.migrations import load, migrate_events
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import security_violations, unit_of_work, unscoped
from meshwright_common.testing.engines import (
    DatabaseSettingsFor,
    PostgresServer,
    execute_as_owner,
)
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

TODAY = "(now() AT TIME ZONE 'UTC')::date"


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return await database_settings()


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session") as opened:
        yield opened


async def publish(database: Database, count: int = 1, *, key: str = "user") -> None:
    tenant = new_id()
    async with unit_of_work(database, tenant) as connection:
        await outbox.append_all(
            connection,
            Topic.USAGE_STATS,
            [
                Event.new(
                    event_type="model.usage.recorded",
                    source="model-router",
                    tenant_id=tenant,
                    partition_key=key,
                    data={"number": number},
                )
                for number in range(count)
            ],
        )


async def days(database: Database) -> list[str]:
    async with unscoped(database) as connection:
        rows = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'events.outbox'::regclass AND c.relname <> 'outbox_default'"
            " ORDER BY 1"
        )
    return [row["relname"] for row in rows]


async def waiting(database: Database) -> int:
    async with unscoped(database) as connection:
        count: int = await connection.fetchval("SELECT waiting FROM events.relay_backlog()")
    return count


class Sink:
    """A broker that takes everything."""

    def __init__(self) -> None:
        self.taken: list[OutgoingEvent] = []

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        self.taken += events


async def relay_all(database: Database) -> list[OutgoingEvent]:
    sink = Sink()
    relay = Relay(database, sink)

    async def nothing_waits() -> bool:
        return await waiting(database) == 0

    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run())
        await eventually(nothing_waits)
        relay.stop()
    return sink.taken


async def test_days_are_made_ahead_each_as_protected_as_the_table(
    database: Database, settings: DatabaseSettings
) -> None:
    """S-03: a partition is a table with tenants of its own."""
    assert len(await days(database)) == 4
    assert await make_days(database) == 0
    await execute_as_owner(settings, f"SELECT events.make_day({TODAY} + 9)")
    assert len(await days(database)) == 5
    async with unscoped(database) as connection:
        assert await security_violations(connection, ["events"]) == []
    newest = (await days(database))[-1]
    with pytest.raises(Exception, match="permission denied"):
        async with unscoped(database) as connection:
            await connection.execute(f"SELECT FROM events.{newest}")


async def test_an_append_on_a_day_that_nobody_prepared_is_kept_and_moved_later(
    database: Database, settings: DatabaseSettings
) -> None:
    for name in await days(database):
        await execute_as_owner(settings, f"DROP TABLE events.{name}")
    await publish(database, 3)
    assert await make_days(database) == 4
    await execute_as_owner(
        settings, "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM events.outbox_default); END $$"
    )
    assert len(await relay_all(database)) == 3


async def test_a_day_is_dropped_a_day_after_all_of_it_was_relayed(
    database: Database, settings: DatabaseSettings
) -> None:
    async def age(past: int) -> None:
        await execute_as_owner(
            settings,
            f"SELECT events.make_day({TODAY} - {past});"  # noqa: S608 - a number of ours
            f"UPDATE events.outbox SET day = {TODAY} - {past},"
            f" created_at = created_at - interval '{past} days'",
        )

    await publish(database, 5)
    await age(2)
    before = await days(database)
    await prune(database, relayed=True)
    assert await days(database) == before
    assert len(await relay_all(database)) == 5
    await prune(database, relayed=True)
    assert await days(database) == before[1:]


async def test_a_cursor_does_not_look_into_older_days(
    database: Database, settings: DatabaseSettings
) -> None:
    """What is behind a cursor costs nothing: of 200 days, the reader plans with those at hand."""
    await publish(database, 50)
    assert len(await relay_all(database)) == 50
    await execute_as_owner(
        settings,
        f"SELECT events.make_day({TODAY} - n) FROM generate_series(1, 196) AS n",  # noqa: S608 - an expression of ours
    )
    assert len(await days(database)) == 200
    async with unscoped(database) as connection:
        await connection.fetch("SELECT * FROM events.claim_shards(0, 16, 250, 1000000)")
        begun = time.perf_counter()
        for _ in range(20):
            await connection.fetch("SELECT * FROM events.claim_shards(0, 16, 250, 1000000)")
        per_pass = (time.perf_counter() - begun) / 20
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", new_id())
        locked = await connection.fetchval(
            "SELECT count(DISTINCT relation) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE l.pid = pg_backend_pid() AND c.relname LIKE 'outbox_2%' AND c.relkind = 'r'"
        )
    print(f"a pass over nothing with 200 days: {per_pass * 1000:.2f} ms, {locked} days")
    assert locked < 10


async def test_a_log_of_the_time_before_days_is_carried_over_in_order(
    postgres_server: PostgresServer,
) -> None:
    """Also positions in it, and numbers given later are higher."""
    name = f"test_{new_id().replace('-', '')}"
    await bootstrap(postgres_server.superuser_url, password=postgres_server.password, database=name)
    settings = postgres_server.settings_of(name)
    owner_url = settings.url_for(OWNER_SERVICE)
    connection = await asyncpg.connect(owner_url)
    try:
        await connection.execute(
            "SET search_path = events, public;"
            "CREATE TABLE events.schema_migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for early in load("meshwright_common", folder="sql")[:3]:
            await connection.execute(early.sql)
            await connection.execute(
                "INSERT INTO events.schema_migrations (name, sha256) VALUES ($1, $2)",
                early.name,
                early.sha256,
            )
        tenant = new_id()
        await connection.execute(
            "INSERT INTO events.outbox (tenant_id, event_id, topic, partition_key, headers, body,"
            " created_at) SELECT $1, gen_random_uuid(), 'usage.stats', 'user ' || n % 3, '{}',"
            " convert_to(n::text, 'UTF8'), now() - n % 4 * interval '1 day'"
            " FROM generate_series(1, 40) AS n",
            tenant,
        )
        await migrate_events(owner_url)
        bodies = await connection.fetch(
            "SELECT body, day = (created_at AT TIME ZONE 'UTC')::date AS in_its_day"
            " FROM events.outbox ORDER BY transaction_id, position"
        )
    finally:
        await connection.close()
    assert [int(row["body"]) for row in bodies] == [*range(1, 41)]
    assert all(row["in_its_day"] for row in bodies)
    async with open_database(settings, "session") as database:
        await publish(database)
        taken = await relay_all(database)
        assert len(taken) == 41
        by_key: dict[str, list[int]] = {}
        for one in taken:
            if one.delivery.tenant_id == tenant:
                by_key.setdefault(one.delivery.partition_key, []).append(int(one.delivery.body))
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
    await postgres_server.drop(name)
