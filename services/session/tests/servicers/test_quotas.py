"""Sessions end exactly at the quota; administrators are told of each share once a day."""

import asyncio
from datetime import UTC, datetime

import orjson
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from meshwright.session.v1 import directory_service_pb2 as directory
from meshwright.session.v1 import notification_service_pb2, session_pb2, tenant_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.errors import ResourceExhausted, ServiceError
from meshwright_common.events.envelope import Event
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_common.testing.mesh import calling_as
from services.session.tests.servicers.test_usage import publish, used
from services.session.tests.world import MESH, Member, World, consume_all, open_world

pytestmark = pytest.mark.asyncio


async def agree(world: World, member: Member, **limits: int) -> None:
    request = directory.UpdateTenantRequest(
        tenant=tenant_pb2.Tenant(
            tenant_id=member.tenant_id,
            agreed_quota=tenant_pb2.AgreedQuota(**limits),  # type: ignore[arg-type]
        ),
        update_mask=FieldMask(paths=["agreed_quota"]),
    )
    with calling_as(MESH):
        await world.directory.UpdateTenant(request)


async def create(world: World, member: Member, request_id: str = "") -> str:
    """Make a session; return its id or why there is none."""
    request = pb.CreateSessionRequest(
        session=session_pb2.Session(title="one"), request_id=request_id
    )
    with calling_as(member.principal):
        try:
            return (await world.sessions.CreateSession(request)).session.session_id
        except ServiceError as error:
            return error.reason


async def delete(world: World, member: Member, session_id: str) -> None:
    with calling_as(member.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))


async def sessions_used(world: World, member: Member) -> int:
    with calling_as(member.principal):
        answer = await world.directory.GetQuota(directory.GetQuotaRequest())
    return answer.used.max_sessions


async def alerts(world: World, member: Member) -> list[tuple[str, int]]:
    """Return the alerts in the log of events, in order."""
    async with unit_of_work(world.database, member.tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = 'notification'"
            " ORDER BY transaction_id, position",
            member.tenant_id,
        )
    told = [orjson.loads(row["body"])["data"] for row in rows]
    assert all(one["user_id"] == "" for one in told)
    return [(one["details"]["quota"], one["details"]["percent"]) for one in told]


async def test_of_many_creations_at_once_as_many_succeed_as_there_may_be(world: World) -> None:
    owner = await world.tenant()
    members = [owner, await world.member(owner), await world.member(owner)]
    await agree(world, owner, max_sessions=10)
    got = await asyncio.gather(*(create(world, members[number % 3]) for number in range(40)))
    assert 30 == got.count("QUOTA_EXCEEDED")
    assert 10 == await sessions_used(world, owner)


async def test_the_quota_is_one_for_all_processes(
    database_settings: DatabaseSettingsFor,
    postgres_server: PostgresServer,
    redis_settings: RedisSettings,
) -> None:
    settings = await database_settings("meshwright_session")
    async with (
        open_world(settings, postgres_server, redis_settings) as one,
        open_world(settings, postgres_server, redis_settings) as other,
    ):
        owner = await one.tenant()
        await agree(one, owner, max_sessions=10)
        got = await asyncio.gather(*(create(world, owner) for world in (one, other) * 25))
        assert 40 == got.count("QUOTA_EXCEEDED")
        assert 10 == len(set(got) - {"QUOTA_EXCEEDED"})
        assert [80, 90, 100] == [percent for _, percent in await alerts(one, owner)]


async def test_a_refusal_says_what_is_used_and_a_deletion_makes_room(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_sessions=2)
    first = await world.session(owner)
    await world.session(owner)
    with pytest.raises(ResourceExhausted) as refused:
        await world.session(owner)
    assert refused.value.metadata == {
        "quota": "sessions",
        "limit": "2",
        "used": "2",
        "plan": "starter",
        "tenant_id": owner.tenant_id,
    }
    await delete(world, owner, first)
    await world.session(owner)
    assert "QUOTA_EXCEEDED" == await create(world, owner)


async def test_a_repeated_request_gets_its_session_also_at_the_limit(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_sessions=1)
    first = await create(world, owner, "once")
    assert first == await create(world, owner, "once")
    assert "QUOTA_EXCEEDED" == await create(world, owner, "twice")
    await delete(world, owner, first)
    assert "QUOTA_EXCEEDED" != await create(world, owner, "twice")


async def test_a_limit_that_comes_later_counts_what_is_there(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_sessions=0)
    await asyncio.gather(*(create(world, owner) for _ in range(5)))
    await agree(world, owner, max_sessions=6)
    got = await asyncio.gather(*(create(world, owner) for _ in range(4)))
    assert 3 == got.count("QUOTA_EXCEEDED")
    await agree(world, owner, max_sessions=0)
    await create(world, owner)
    await agree(world, owner, max_sessions=8)
    got = await asyncio.gather(*(create(world, owner) for _ in range(4)))
    assert 3 == got.count("QUOTA_EXCEEDED")


async def test_sessions_that_go_with_their_user_leave_the_count(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    await agree(world, owner, max_sessions=4)
    for _ in range(3):
        await world.session(member)
    await world.session(owner)
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        await connection.execute(
            "DELETE FROM users WHERE tenant_id = $1 AND user_id = $2",
            owner.tenant_id,
            member.user_id,
        )
    assert 1 == await sessions_used(world, owner)
    await world.session(owner)


async def test_each_share_of_the_sessions_is_told_once_a_day(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_sessions=10)
    made = await asyncio.gather(*(create(world, owner) for _ in range(9)))
    assert [("sessions", 80), ("sessions", 90)] == await alerts(world, owner)
    await delete(world, owner, made[0])
    await create(world, owner)
    await create(world, owner)
    await create(world, owner)
    assert [80, 90, 100] == [percent for _, percent in await alerts(world, owner)]


async def test_administrators_find_the_alert_among_their_notifications(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    await agree(world, owner, max_sessions=1)
    await world.session(member)
    await consume_all(world)
    request = notification_service_pb2.ListNotificationsRequest()
    with calling_as(owner.principal):
        found = (await world.notifications.ListNotifications(request)).notifications
    assert {"quota.threshold"} == {one.kind for one in found}
    assert {80, 90, 100} == {one.details["percent"] for one in found}
    with calling_as(member.principal):
        assert not (await world.notifications.ListNotifications(request)).notifications


def call(member: Member, tokens: int) -> Event:
    """Return the event of a call of today."""
    half = str(tokens // 2)
    return used(member, datetime.now(UTC), prompt_tokens=half, completion_tokens=half)


async def test_shares_of_the_tokens_are_told_once_however_often_events_come(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_tokens_per_day=1000)
    events = [call(owner, 100) for _ in range(8)]
    await publish(world, *events[:7])
    await consume_all(world)
    assert [] == await alerts(world, owner)
    await publish(world, events[7])
    await consume_all(world)
    assert [("tokens_per_day", 80)] == await alerts(world, owner)
    async with world.as_superuser() as connection:
        # Delivered again, as after a crash before the position was kept.
        await connection.execute("DELETE FROM events.inbox")
        await connection.execute("DELETE FROM events.offsets")
    await publish(world, call(owner, 200))
    await consume_all(world)
    assert [80, 90, 100] == [percent for _, percent in await alerts(world, owner)]
    with calling_as(owner.principal):
        answer = await world.directory.GetQuota(directory.GetQuotaRequest(for_admission=True))
    assert 1000 == answer.used.max_tokens_per_day


async def test_no_alert_without_a_limit(world: World) -> None:
    owner = await world.tenant()
    await agree(world, owner, max_tokens_per_day=0, max_sessions=0)
    await publish(world, call(owner, 1_000_000))
    await world.session(owner)
    await consume_all(world)
    assert [] == await alerts(world, owner)
