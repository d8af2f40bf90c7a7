"""What PostgreSQL itself holds to, whatever a query forgets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from meshwright.session.v1 import notification_service_pb2 as pb_notification
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.events import outbox
from meshwright_common.events.notification import Notice, tell
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import security_violations, unit_of_work, unscoped
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_messages import NEWEST_PAGE, OLDEST_PAGE
from meshwright_session.adapters.postgres_sessions import END_OF_TIME
from meshwright_session.wire import values
from services.session.tests.servicers.test_task_statistics import ended
from services.session.tests.world import Member, World, answered, consume_all, said

pytestmark = pytest.mark.asyncio

TABLES = (
    "tenants",
    "users",
    "api_keys",
    "requests",
    "sessions",
    "contexts",
    "turn_commits",
    "messages",
    "audit_heads",
    "audit_records",
    "notification_heads",
    "notifications",
    "notification_reads",
    "task_daily",
)


async def fill(world: World) -> Member:
    """Leave a row in every table of TABLES; return the tenant's owner."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("x")], request_id="r")
        )
        await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id,
                turn_id=new_id(),
                messages=[answered("y")],
                context_changes=values.struct({"a": 1}),
            )
        )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        notice = Notice(owner.user_id, "a.b", "title", "", {})
        await tell(connection, notice, source="rag", tenant_id=owner.tenant_id)
        await outbox.append(connection, Topic.TASK_RESULT, ended(owner))
    await consume_all(world)
    until = pb_notification.MarkNotificationsReadRequest()
    until.until_time.GetCurrentTime()
    with calling_as(owner.principal):
        await world.notifications.MarkNotificationsRead(until)
    return owner


async def test_query_that_forgets_its_tenant_sees_its_own_rows_only(world: World) -> None:
    """S-03: with another tenant set only that one's rows; with none set, nothing."""
    owner, other = await fill(world), await fill(world)
    for table in TABLES:
        statement = f"SELECT tenant_id FROM {table}"  # noqa: S608 - a name of ours
        async with unit_of_work(world.database, owner.tenant_id) as connection:
            seen = {row["tenant_id"] for row in await connection.fetch(statement)}
        assert seen == {owner.tenant_id}, table
        async with unscoped(world.database) as connection:
            assert await connection.fetch(statement) == [], table
    async with world.as_superuser() as connection:
        rows = await connection.fetch("SELECT tenant_id FROM messages")
    assert {str(row["tenant_id"]) for row in rows} == {owner.tenant_id, other.tenant_id}


async def test_row_cannot_be_written_for_another_tenant(world: World) -> None:
    """S-07: neither by its tenant_id nor by a parent of another tenant."""
    owner, other = await fill(world), await fill(world)
    session_id = await world.session(other)
    insert = (
        "INSERT INTO turn_commits (tenant_id, session_id, turn_id, create_time)"
        " VALUES ($1, $2, $3, now())"
    )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(insert, other.tenant_id, session_id, new_id())
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with unit_of_work(world.database, owner.tenant_id) as connection:
            await connection.execute(insert, owner.tenant_id, session_id, new_id())


async def test_no_table_and_no_function_weakens_isolation(world: World) -> None:
    """S-05, partitions included."""
    await PostgresHousekeeping(world.database).make_partitions(6)
    async with world.as_superuser() as connection:
        assert await security_violations(connection, ["session"]) == []


async def test_partition_cannot_be_read_around_its_parent(world: World) -> None:
    await fill(world)
    name = f"messages_{datetime.now(UTC):%Y_%m}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unscoped(world.database) as connection:
            await connection.execute(f"SELECT FROM {name}")


async def test_partitions_are_made_ahead_without_a_gap_by_any_number_at_once(world: World) -> None:
    housekeeping = PostgresHousekeeping(world.database)
    async with world.as_superuser() as connection:
        before = await _months(connection, "messages_shared")
        made = await asyncio.gather(*(housekeeping.make_partitions(5) for _ in range(4)))
        after = await _months(connection, "messages_shared")
        # As after a pause of the service: the newest months are missing.
        for month in after[-3:]:
            await connection.execute(f"DROP TABLE messages_{month}")
        again = await housekeeping.make_partitions(5)
        assert await _months(connection, "messages_shared") == after
        ledger = await _months(connection, "usage_ledger")
    assert len(before) == 4
    assert sorted(made) == [0, 0, 0, 4]
    assert again == 3
    assert after == ledger == _following(before[0], 6)


async def test_requests_are_forgotten_after_their_time(world: World) -> None:
    await fill(world)
    housekeeping = PostgresHousekeeping(world.database)
    assert await housekeeping.prune_requests(24) == 0
    async with world.as_superuser() as connection:
        await connection.execute("UPDATE requests SET create_time = now() - interval '25 hours'")
        assert await housekeeping.prune_requests(24) == 1
        assert await connection.fetchval("SELECT count(*) FROM requests") == 0


@pytest.mark.parametrize("statement", [NEWEST_PAGE, OLDEST_PAGE], ids=["newest", "oldest"])
async def test_page_of_messages_reads_only_months_that_can_hold_them(
    world: World, statement: str
) -> None:
    owner = await fill(world)
    await PostgresHousekeeping(world.database).make_partitions(24)
    first = datetime(1970, 1, 1, tzinfo=UTC) if statement is OLDEST_PAGE else END_OF_TIME
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        session_id = await connection.fetchval(
            "SELECT session_id FROM sessions WHERE tenant_id = $1", owner.tenant_id
        )
        # The server tells what it has not passed on yet of the connection's past, too.
        before = {row["relname"]: row["scans"] for row in await connection.fetch(_READ)}
        await connection.fetch(
            statement, *(owner.tenant_id, session_id, owner.user_id, first, 0, 50)
        )
        read = await connection.fetch(_READ)
    months = [row["relname"] for row in read if row["scans"] > before.get(row["relname"], 0)]
    assert months == [f"messages_{datetime.now(UTC):%Y_%m}"]


@pytest.mark.parametrize("statement", [NEWEST_PAGE, OLDEST_PAGE], ids=["newest", "oldest"])
async def test_page_of_a_long_session_reads_no_more_messages_than_it_shows(
    world: World, statement: str
) -> None:
    owner = await fill(world)
    async with world.as_superuser() as connection:
        ((session_id, count),) = await connection.fetch(
            "SELECT session_id, message_count FROM sessions WHERE tenant_id = $1", owner.tenant_id
        )
        await connection.execute(
            """
            INSERT INTO messages (tenant_id, session_id, create_time, sequence, message_id, role,
                                  content)
            SELECT tenant_id, session_id, create_time, $2 + n, gen_random_uuid(), role, content
              FROM messages, generate_series(1, 2000) AS n
             WHERE session_id = $1 AND sequence = $2
            """,
            session_id,
            count,
        )
        await connection.execute(
            "UPDATE sessions SET message_count = $2 + 2000 WHERE session_id = $1", session_id, count
        )
        await connection.execute("ANALYZE messages")
    first = datetime(1970, 1, 1, tzinfo=UTC) if statement is OLDEST_PAGE else END_OF_TIME
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        page = await connection.fetch(
            statement, *(owner.tenant_id, session_id, owner.user_id, first, 0, 50)
        )
        read = await connection.fetch(_READ)
    assert len(page) == 50
    assert sum(row["rows"] for row in read) == 50, read


# What the open transaction has read of which month.
_READ = """
SELECT relname, seq_scan + coalesce(idx_scan, 0) AS scans,
       seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows
  FROM pg_stat_xact_user_tables
 WHERE relname ~ '^messages_' AND seq_scan + coalesce(idx_scan, 0) > 0
"""


async def _months(connection: asyncpg.Connection[asyncpg.Record], parent: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT right(c.relname, 7) AS month FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid"
        " WHERE inhparent = $1::text::regclass AND c.relname ~ '\\d$' ORDER BY 1",
        parent,
    )
    return [row["month"] for row in rows]


def _following(first: str, count: int) -> list[str]:
    start = int(first[:4]) * 12 + int(first[5:]) - 1
    return [f"{n // 12:04}_{n % 12 + 1:02}" for n in range(start, start + count)]
