"""What is older than it may be goes, by whole months, and only that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import place_tenant, schema_of_tenant
from meshwright_common.testing.engines import PostgresServer
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_session.adapters.archive_objects import ObjectArchive
from meshwright_session.adapters.postgres_archive import PostgresArchive
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.retention import BUSY, ExpiredSession
from meshwright_session.settings import SessionSection
from meshwright_session.workers import Housekeeper
from services.session.tests.world import Member, World, all_messages, said, texts

pytestmark = pytest.mark.asyncio

KEPT: Final = 3
"""Months before this one, in all tests here."""
LIMITED: Final = SessionSection(message_retention_months=KEPT, usage_retention_months=KEPT)
UNLIMITED: Final = SessionSection(
    message_retention_months=0, usage_retention_months=0, archive_after_days=0
)


def housekeeper(
    world: World, store: PostgresHousekeeping | None = None, settings: SessionSection = LIMITED
) -> Housekeeper:
    archive = Archive(
        PostgresArchive(world.database, world.keys, keep_months=KEPT),
        ObjectArchive(world.objects, world.keys),
    )
    sessions = PostgresSessions(world.database, world.keys)
    store = store or PostgresHousekeeping(world.database)
    return Housekeeper(store, sessions, archive, settings)


async def add_months(connection: asyncpg.Connection[asyncpg.Record], count: int) -> None:
    """Make partitions of messages and usage for so many months before this one."""
    await connection.execute(
        """
        DO $do$
        DECLARE
            v_ranges regclass;
            v_month timestamptz;
        BEGIN
            SET LOCAL timezone = 'UTC';
            FOR v_ranges IN SELECT events.range_tables('session.messages')
                             UNION ALL SELECT events.range_tables('session.usage_ledger') LOOP
                EXECUTE format('DROP TABLE %s', (
                    SELECT inhrelid::regclass FROM pg_inherits
                     WHERE inhparent = v_ranges AND inhrelid::regclass::text LIKE '%_earlier'));
                FOR ago IN 1..COUNT LOOP
                    v_month := date_trunc('month', now()) - make_interval(months => ago);
                    PERFORM session.add_partition(
                        v_ranges, to_char(v_month, 'YYYY_MM'), v_month, v_month + interval '1 month'
                    );
                END LOOP;
            END LOOP;
        END
        $do$
        """.replace("COUNT", str(count))
    )


async def talk(world: World, member: Member, text: str, months_ago: int) -> str:
    """Make a session in which something was said so many months ago; return its id."""
    session_id = await world.session(member)
    with calling_as(member.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said(text)])
        )
    await age(world, session_id, months_ago)
    return session_id


async def age(world: World, session_id: str, months: int) -> None:
    """Let a session and its messages look so many months older."""
    async with world.as_superuser() as connection:
        await connection.execute(
            """
            UPDATE sessions SET create_time = create_time - make_interval(months => $2),
                                update_time = update_time - make_interval(months => $2)
             WHERE session_id = $1
            """,
            session_id,
            months,
        )
        await connection.execute(
            """
            UPDATE messages SET create_time = create_time - make_interval(months => $2)
             WHERE session_id = $1
            """,
            session_id,
            months,
        )


async def sessions_of(world: World, member: Member) -> set[str]:
    with calling_as(member.principal):
        listed = await world.sessions.ListSessions(pb.ListSessionsRequest())
    return {session.session_id for session in listed.sessions}


async def months(world: World, table: str) -> list[str]:
    async with world.as_superuser() as connection:
        rows = await connection.fetch(
            "SELECT month::text FROM months_of($1) WHERE ends <= now() ORDER BY ends", table
        )
    return [row["month"] for row in rows]


async def test_months_that_are_not_kept_go_and_with_them_what_hangs_on_them(world: World) -> None:
    """Their sessions, the records of their turns and calls; nothing of the months kept."""
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        await add_months(connection, 6)
    old = await talk(world, owner, "old", KEPT + 1)
    kept = await talk(world, owner, "kept", KEPT)
    both = await talk(world, owner, "first", KEPT + 2)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=both, messages=[said("second")])
        )
    async with world.as_superuser() as connection:
        await connection.execute(
            """
            INSERT INTO turn_commits
                   (tenant_id, session_id, turn_id, message_id, context_version, create_time)
            SELECT $1, $2, gen_random_uuid(), gen_random_uuid(), 1,
                   now() - make_interval(months => ago)
              FROM generate_series(0, 6) AS ago
            """,
            owner.tenant_id,
            both,
        )
        # Ids of version 7 begin with the time; others tell none, and stay.
        for months_ago, version in ((0, 7), (KEPT, 7), (KEPT + 1, 7), (KEPT + 1, 4)):
            await connection.execute(
                """
                INSERT INTO usage_calls (tenant_id, task_id, step, attempt, operation, event_id)
                VALUES ($1, $2, 1, $3, 'generate', overlay(
                    lpad(to_hex((extract(epoch FROM now() - make_interval(months => $3)) * 1000
                                )::bigint), 12, '0') || md5($2 || $3::text)
                    PLACING $4::text FROM 13 FOR 1)::text::varchar(32)::uuid)
                """,
                owner.tenant_id,
                f"task-{version}",
                months_ago,
                str(version),
            )
    await housekeeper(world).drop_months()
    assert len(await months(world, "messages")) == KEPT
    assert len(await months(world, "usage_ledger")) == KEPT
    assert await sessions_of(world, owner) == {kept, both}
    assert texts(await all_messages(world, owner, kept)) == ["kept"]
    assert texts(await all_messages(world, owner, both)) == ["second"]
    assert texts(await all_messages(world, owner, both, newest=True)) == ["second"]
    async with world.as_superuser() as connection:
        turns = await connection.fetchval("SELECT count(*) FROM turn_commits")
        calls = await connection.fetch("SELECT task_id, attempt FROM usage_calls ORDER BY 1, 2")
        expired = await connection.fetch(
            "SELECT FROM events.outbox WHERE convert_from(body, 'UTF8') LIKE $1",
            f"%session.expired%{old}%",
        )
    assert turns == KEPT + 1
    assert [tuple(row) for row in calls] == [
        ("task-4", KEPT + 1), ("task-7", 0), ("task-7", KEPT),
    ]  # fmt: skip
    assert len(expired) == 1, "the act is in the audit log"


async def test_a_tenant_with_a_schema_of_its_own_loses_the_same_months(
    world: World, postgres_server: PostgresServer
) -> None:
    """What lies in the archive when it moves comes back into its schema."""
    owner = await world.tenant()
    archived = await talk(world, owner, "archived", 0)
    with calling_as(owner.principal):
        await world.sessions.ArchiveSession(pb.ArchiveSessionRequest(session_id=archived))
    name = urlsplit(world.superuser_url).path.lstrip("/")
    owner_url = postgres_server.settings_of(name).url_for(OWNER_SERVICE)
    await place_tenant(owner_url, "session", owner.tenant_id)
    async with world.as_superuser() as connection:
        await add_months(connection, 6)
    await talk(world, owner, "old", KEPT + 1)
    kept = await talk(world, owner, "kept", KEPT)
    await housekeeper(world).drop_months()
    assert len(await months(world, "messages")) == 2 * KEPT
    assert await sessions_of(world, owner) == {archived, kept}
    assert texts(await all_messages(world, owner, kept)) == ["kept"]
    assert texts(await all_messages(world, owner, archived)) == ["archived"]
    async with world.as_superuser() as connection:
        places = await connection.fetch("SELECT DISTINCT tableoid::regclass::text FROM messages")
    assert all(row[0].startswith(schema_of_tenant(owner.tenant_id)) for row in places)


async def test_a_session_used_since_it_was_found_expired_stays(world: World) -> None:
    owner = await world.tenant()
    session_id = await talk(world, owner, "old", KEPT + 1)
    store = PostgresHousekeeping(world.database)
    (found,) = await store.expired_sessions(KEPT, 10)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("new")])
        )

    class FoundBefore(PostgresHousekeeping):
        async def expired_sessions(self, months: int, limit: int) -> Sequence[ExpiredSession]:
            return [found]

    await housekeeper(world, FoundBefore(world.database)).drop_months()
    assert await sessions_of(world, owner) == {session_id}
    assert texts(await all_messages(world, owner, session_id)) == ["old", "new"]


async def test_writers_go_on_while_months_are_dropped(world: World) -> None:
    """Nobody fails, and every row of the months kept is there afterwards."""
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        await add_months(connection, 12)
    sessions = [await world.session(owner) for _ in range(4)]
    written = dict.fromkeys(sessions, 0)
    done = asyncio.Event()

    async def write(session_id: str) -> None:
        while not done.is_set():
            with calling_as(owner.principal, timeout_seconds=20):
                await world.sessions.AppendMessages(
                    pb.AppendMessagesRequest(
                        session_id=session_id, messages=[said(str(written[session_id]))]
                    )
                )
            written[session_id] += 1

    async with asyncio.TaskGroup() as group:
        for session_id in sessions:
            group.create_task(write(session_id))
        await eventually(lambda: min(written.values()) > 2)
        await housekeeper(world).drop_months()
        after = min(written.values())
        await eventually(lambda: min(written.values()) > after)
        done.set()
    assert len(await months(world, "messages")) == KEPT
    for session_id, count in written.items():
        said_all = texts(await all_messages(world, owner, session_id))
        assert said_all == [str(number) for number in range(count)]


async def test_a_month_in_use_is_not_waited_for_while_writers_queue(world: World) -> None:
    """A long transaction of somebody holds up the dropping, and that holds up nobody."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    async with world.as_superuser() as connection:
        await add_months(connection, KEPT + 1)
        store = PostgresHousekeeping(world.database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE messages_shared IN ROW EXCLUSIVE MODE")
            assert await store.drop_month("messages", KEPT) == BUSY
            with calling_as(owner.principal):
                await world.sessions.AppendMessages(
                    pb.AppendMessagesRequest(session_id=session_id, messages=[said("through")])
                )
        assert await store.drop_month("messages", KEPT) not in (BUSY, None)
        assert await store.drop_month("messages", KEPT) is None


async def test_old_messages_leave_the_archive_too(world: World) -> None:
    """An archived session comes back without messages of months that are not kept."""
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        await add_months(connection, 6)
    session_id = await talk(world, owner, "first", KEPT + 1)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("second")])
        )
        await world.sessions.ArchiveSession(pb.ArchiveSessionRequest(session_id=session_id))
    await housekeeper(world).drop_months()
    assert await world.objects.keys(f"tenants/{owner.tenant_id}/archives", most=10) == []
    assert texts(await all_messages(world, owner, session_id)) == ["second"]


async def test_an_archived_session_past_the_retention_goes_with_its_object(world: World) -> None:
    owner = await world.tenant()
    session_id = await talk(world, owner, "old", 1)
    with calling_as(owner.principal):
        await world.sessions.ArchiveSession(pb.ArchiveSessionRequest(session_id=session_id))
    await age(world, session_id, KEPT)
    await housekeeper(world).drop_months()
    assert await sessions_of(world, owner) == set()
    assert await world.objects.keys(f"tenants/{owner.tenant_id}/archives", most=10) == []


async def test_without_a_limit_nothing_is_dropped(world: World) -> None:
    owner = await world.tenant()
    session_id = await talk(world, owner, "old", 30)
    keeper = housekeeper(world, settings=UNLIMITED)
    await keeper.drop_months()
    await keeper.put_away()
    assert texts(await all_messages(world, owner, session_id)) == ["old"]
