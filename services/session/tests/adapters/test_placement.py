"""A tenant of this service with a schema of its own: the same calls, the same answers (S8)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshwright.session.v1 import notification_service_pb2 as pb_notification
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.events.notification import Notice, tell
from meshwright_common.ids import new_id
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import place_tenant, schema_of_tenant
from meshwright_common.storage.tenancy import security_violations, unit_of_work, unscoped
from meshwright_common.testing.engines import PostgresServer
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from services.session.tests.world import (
    Member,
    World,
    all_messages,
    answered,
    consume_all,
    said,
    texts,
)

pytestmark = pytest.mark.asyncio

SHARED = """
SELECT parent.relname
  FROM pg_partitioned_table p
  JOIN pg_class parent ON parent.oid = p.partrelid
 WHERE p.partstrat = 'l' AND p.partdefid <> 0
   AND parent.relnamespace = 'session'::regnamespace
 ORDER BY 1
"""


async def place(world: World, server: PostgresServer, member: Member) -> None:
    name = urlsplit(world.superuser_url).path.lstrip("/")
    await place_tenant(server.settings_of(name).url_for(OWNER_SERVICE), "session", member.tenant_id)


async def busy_member(world: World) -> tuple[Member, str]:
    """Make a tenant with a session, messages, a turn, a context and a notification."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("one")])
        )
        await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id, turn_id=new_id(), messages=[answered("two")]
            )
        )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        notice = Notice(owner.user_id, "a.b", "title", "", {})
        await tell(connection, notice, source="rag", tenant_id=owner.tenant_id)
    await consume_all(world)
    return owner, session_id


async def seen_by(world: World, owner: Member, session_id: str) -> list[object]:
    """What the tenant's calls answer: its sessions, messages, context and notifications."""
    with calling_as(owner.principal):
        listed = await world.sessions.ListSessions(pb.ListSessionsRequest())
        context = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
        told = await world.notifications.ListNotifications(
            pb_notification.ListNotificationsRequest()
        )
    messages = await all_messages(world, owner, session_id, page_size=1)
    return [list(listed.sessions), context.context, list(told.notifications), texts(messages)]


async def test_calls_answer_the_same_before_and_after_a_move(
    world: World, postgres_server: PostgresServer
) -> None:
    owner, session_id = await busy_member(world)
    other, their_session = await busy_member(world)
    before = await seen_by(world, owner, session_id)
    theirs = await seen_by(world, other, their_session)
    await place(world, postgres_server, owner)
    assert await seen_by(world, owner, session_id) == before
    assert await seen_by(world, other, their_session) == theirs
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("three")])
        )
        await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id, turn_id=new_id(), messages=[answered("four")]
            )
        )
    expected = ["one", "two", "three", "four"]
    assert texts(await all_messages(world, owner, session_id)) == expected


async def test_content_of_a_placed_tenant_lies_in_its_schema_alone(
    world: World, postgres_server: PostgresServer
) -> None:
    """What `pg_dump -n tenant_…` takes along; and a query without a tenant finds none of it."""
    owner, session_id = await busy_member(world)
    other, _ = await busy_member(world)
    await place(world, postgres_server, owner)
    await world.session(owner)
    schema = schema_of_tenant(owner.tenant_id)
    async with world.as_superuser() as connection:
        tables = [str(row[0]) for row in await connection.fetch(SHARED)]
        assert {"sessions", "messages", "contexts", "turn_commits", "notifications"} <= set(tables)
        for table in tables:
            own = f"SELECT count(*) FROM {schema}.session_{table}"  # noqa: S608 - of the catalogue
            all_of_it = f"SELECT count(*) FROM {table} WHERE tenant_id = $1"  # noqa: S608 - same
            assert await connection.fetchval(own) == await connection.fetchval(
                all_of_it, owner.tenant_id
            ), table
        assert await connection.fetchval(f"SELECT count(*) FROM {schema}.session_sessions") == 2  # noqa: S608 - same
        assert await connection.fetchval(f"SELECT count(*) FROM {schema}.session_messages") == 2  # noqa: S608 - same
        assert await security_violations(connection, ["session"]) == []
    async with unit_of_work(world.database, other.tenant_id) as connection:
        for table in tables:
            forgetful = f"SELECT DISTINCT tenant_id FROM {table}"  # noqa: S608 - same
            seen = {str(row[0]) for row in await connection.fetch(forgetful)}
            assert seen <= {other.tenant_id}, table
    with calling_as(owner.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    async with world.as_superuser() as connection:
        for table in ("messages", "contexts", "turn_commits"):
            count = f"SELECT count(*) FROM {schema}.session_{table}"  # noqa: S608 - same
            assert await connection.fetchval(count) == 0, table


async def test_months_are_made_in_every_placement(
    world: World, postgres_server: PostgresServer
) -> None:
    owner, _ = await busy_member(world)
    await place(world, postgres_server, owner)
    housekeeping = PostgresHousekeeping(world.database)
    await housekeeping.make_partitions(7)
    async with world.as_superuser() as connection:
        months = [
            {
                str(row[0])
                for row in await connection.fetch(
                    "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
                    " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass",
                    parent,
                )
            }
            for parent in (
                "messages_shared",
                f"{schema_of_tenant(owner.tenant_id)}.session_messages",
            )
        ]
        assert await security_violations(connection, ["session"]) == []
    assert months[0] == months[1]
    assert len(months[0]) == 9
    assert await housekeeping.make_partitions(7) == 0


async def test_schema_of_a_tenant_goes_when_the_tenant_is_deleted_and_nothing_is_in_it(
    world: World, postgres_server: PostgresServer
) -> None:
    owner, session_id = await busy_member(world)
    await place(world, postgres_server, owner)
    drop = "SELECT drop_empty_placement($1)"

    async def dropped() -> bool:
        async with unscoped(world.database) as connection:
            return bool(await connection.fetchval(drop, owner.tenant_id))

    async with world.as_superuser() as connection:
        empty = "DELETE FROM {} WHERE tenant_id = $1"
        for table in [row[0] for row in await connection.fetch(SHARED)]:
            if table != "sessions":
                await connection.execute(empty.format(table), owner.tenant_id)
        deleting = "UPDATE tenants SET state = 'deleting' WHERE tenant_id = $1"
        assert not await dropped()
        await connection.execute(deleting, owner.tenant_id)
        assert not await dropped()
        await connection.execute(empty.format("sessions"), owner.tenant_id)
        assert await dropped()
        assert not await dropped()
        schemas = await connection.fetch("SELECT FROM pg_namespace WHERE nspname ~ '^tenant_'")
    assert schemas == []
    assert session_id
