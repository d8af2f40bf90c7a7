"""Notifications: each event once, to whom it is for, bounded, and heard of at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.session.v1 import notification_pb2
from meshwright.session.v1 import notification_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.context import Principal
from meshwright_common.errors import InvalidArgument, OutOfRange, ServiceError
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.notification import Notice, tell
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from services.session.tests.world import SMALL_SECTION, Member, World, consume_all

pytestmark = pytest.mark.asyncio

ADMINISTRATORS = ""


async def told(world: World, tenant: Member, user_id: str, *titles: str) -> None:
    """Tell a user of the tenant something, in order, and wait until it is stored."""
    for title in titles:
        notice = Notice(user_id, "task.completed", title, "task/1", {"task_id": "1"})
        async with unit_of_work(world.database, tenant.tenant_id) as connection:
            await tell(connection, notice, source="orchestrator", tenant_id=tenant.tenant_id)
    await consume_all(world)


async def listed(
    world: World, caller: Principal, *, unread_only: bool = False
) -> Sequence[notification_pb2.Notification]:
    with calling_as(caller):
        request = pb.ListNotificationsRequest(unread_only=unread_only)
        return (await world.notifications.ListNotifications(request)).notifications


async def titles(world: World, caller: Principal, *, unread_only: bool = False) -> list[str]:
    return [one.title for one in await listed(world, caller, unread_only=unread_only)]


async def mark(world: World, caller: Principal, *ids: str, until: datetime | None = None) -> int:
    request = pb.MarkNotificationsReadRequest(notification_ids=ids)
    if until is not None:
        request.until_time.FromDatetime(until)
    with calling_as(caller):
        return (await world.notifications.MarkNotificationsRead(request)).marked_count


async def deliver_again(world: World, *, forget: bool) -> None:
    """Give the consumers everything again; `forget`: what they have seen, too."""
    async with world.as_superuser() as connection:
        await connection.execute("UPDATE events.offsets SET transaction_id = '0', position = 0")
        if forget:
            await connection.execute("DELETE FROM events.inbox")
    await consume_all(world)


async def test_user_finds_what_it_was_told_newest_first(world: World) -> None:
    """E1: topic notification is consumed."""
    member = await world.member(await world.tenant())
    await told(world, member, member.user_id, "first", "second")
    second, first = await listed(world, member.principal)
    assert (first.title, second.title) == ("first", "second")
    assert (first.kind, first.resource) == ("task.completed", "task/1")
    assert dict(first.details) == {"task_id": "1"}
    assert not first.for_administrators
    assert not first.HasField("read_time")
    assert abs(first.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_event_delivered_again_is_the_same_notification(world: World) -> None:
    """R-10: remembered by the inbox, and after that by the notification's id."""
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "once", "twice")
    before = await listed(world, owner.principal)
    await deliver_again(world, forget=False)
    await deliver_again(world, forget=True)
    assert await listed(world, owner.principal) == before
    assert len(before) == 2


async def test_nobody_finds_what_others_were_told(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await told(world, owner, owner.user_id, "for the owner")
    await told(world, owner, ADMINISTRATORS, "for administrators")
    assert await titles(world, owner.principal) == ["for administrators", "for the owner"]
    assert await titles(world, member.principal) == []
    assert await titles(world, stranger.principal) == []
    assert await titles(world, owner.limited_to("tenant:read")) == ["for the owner"]


async def test_each_administrator_reads_for_itself(world: World) -> None:
    owner = await world.tenant()
    admin = await world.member(owner, "admin")
    await told(world, owner, ADMINISTRATORS, "nearly all used")
    [notification] = await listed(world, owner.principal)
    assert notification.for_administrators
    assert await mark(world, owner.principal, notification.notification_id) == 1
    assert await titles(world, owner.principal, unread_only=True) == []
    assert await titles(world, admin.principal, unread_only=True) == ["nearly all used"]


async def test_marking_counts_once_and_the_first_reading_stays(world: World) -> None:
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "a", "b")
    b, a = await listed(world, owner.principal)
    assert await mark(world, owner.principal, a.notification_id, new_id()) == 1
    [_, read] = await listed(world, owner.principal)
    assert await mark(world, owner.principal, a.notification_id) == 0
    assert read.HasField("read_time")
    assert await listed(world, owner.principal) == [b, read]
    assert await listed(world, owner.principal, unread_only=True) == [b]


async def test_all_until_a_moment_are_marked(world: World) -> None:
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "a", "b", "c")
    [_, b, _] = await listed(world, owner.principal)
    assert await mark(world, owner.principal, until=b.create_time.ToDatetime(UTC)) == 2
    assert await titles(world, owner.principal, unread_only=True) == ["c"]
    assert await mark(world, owner.principal, until=b.create_time.ToDatetime(UTC)) == 0


async def test_marking_what_others_were_told_is_as_marking_nothing(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await told(world, owner, owner.user_id, "mine")
    [mine] = await listed(world, owner.principal)
    for other in (member, stranger):
        assert await mark(world, other.principal, mine.notification_id) == 0
        assert await mark(world, other.principal, until=datetime.now(UTC)) == 0
    assert await listed(world, owner.principal, unread_only=True) == [mine]


async def test_pages_go_on_where_they_ended(world: World) -> None:
    owner = await world.tenant()
    await told(world, owner, owner.user_id, *"abcd")

    async def page(token: str, *, unread_only: bool = False) -> tuple[list[str], str]:
        wanted = page_pb2.PageRequest(page_size=2, page_token=token)
        request = pb.ListNotificationsRequest(page=wanted, unread_only=unread_only)
        with calling_as(owner.principal):
            answer = await world.notifications.ListNotifications(request)
        return [one.title for one in answer.notifications], answer.page.next_page_token

    first, token = await page("")
    assert (first, await page(token)) == (["d", "c"], (["b", "a"], ""))
    with pytest.raises(InvalidArgument):
        await page(token, unread_only=True)


async def test_user_keeps_the_newest_ones_only(world: World) -> None:
    """A bound from the first day; what another user has is not counted in."""
    owner = await world.tenant()
    member = await world.member(owner)
    await told(world, owner, member.user_id, "kept")
    assert SMALL_SECTION.notifications_per_user == 5
    await told(world, owner, owner.user_id, *"abcdefg")
    await told(world, owner, owner.user_id, "h")
    assert await titles(world, owner.principal) == ["h", "g", "f", "e", "d"]
    assert await titles(world, member.principal) == ["kept"]


async def test_old_notifications_are_dropped_with_their_readings(world: World) -> None:
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "old", "new")
    [_, old] = await listed(world, owner.principal)
    await mark(world, owner.principal, old.notification_id)
    housekeeping = PostgresHousekeeping(world.database)
    assert await housekeeping.prune_notifications(30) == 0
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE notifications SET create_time = now() - interval '31 days' WHERE title = 'old'"
        )
        assert await housekeeping.prune_notifications(30) == 1
        assert await connection.fetchval("SELECT count(*) FROM notification_reads") == 0
    assert await titles(world, owner.principal) == ["new"]


async def test_watcher_gets_unread_ones_and_then_new_ones_at_once(world: World) -> None:
    """Between two looks lie 60 seconds here: only a wake-up is as fast as this."""
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "read", "unread")
    [_, read] = await listed(world, owner.principal)
    await mark(world, owner.principal, read.notification_id)
    request = pb.WatchNotificationsRequest()
    with calling_as(owner.principal):
        async with (
            asyncio.timeout(20),
            open_stream(world.notifications.WatchNotifications(request)) as answers,
        ):
            events = aiter(answers)
            assert (await anext(events)).notification.title == "unread"
            await told(world, owner, owner.user_id, "new")
            assert (await anext(events)).notification.title == "new"
            await told(world, owner, ADMINISTRATORS, "shared")
            assert (await anext(events)).notification.title == "shared"


async def test_watcher_resumes_after_the_one_it_saw_last(world: World) -> None:
    """Read or not, of the caller and of the administrators, each once, oldest first."""
    owner = await world.tenant()
    await told(world, owner, owner.user_id, "a", "b")
    await told(world, owner, ADMINISTRATORS, "c")
    [c, b, a] = await listed(world, owner.principal)
    await mark(world, owner.principal, b.notification_id)
    request = pb.WatchNotificationsRequest(after_id=a.notification_id)
    seen = []
    with calling_as(owner.principal):
        async with (
            asyncio.timeout(20),
            open_stream(world.notifications.WatchNotifications(request)) as answers,
        ):
            async for answer in answers:
                seen.append(answer.notification.title)
                if len(seen) == 2:
                    break
    assert seen == ["b", c.title]


async def test_watching_after_a_foreign_one_is_as_after_an_absent_one(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await told(world, owner, owner.user_id, "mine")
    [mine] = await listed(world, owner.principal)
    for other in (member, stranger):
        refusals = []
        for after_id in (mine.notification_id, new_id()):
            with calling_as(other.principal), pytest.raises(OutOfRange) as caught:
                await watch(world, after_id)
            assert caught.value.reason == "CURSOR_EXPIRED"
            refusals.append(caught.value.message.replace(after_id, "ID"))
        assert refusals[0] == refusals[1]


async def watch(world: World, after_id: str) -> None:
    request = pb.WatchNotificationsRequest(after_id=after_id)
    async with open_stream(world.notifications.WatchNotifications(request)) as answers:
        async for _ in answers:
            return


async def test_notification_of_the_future_is_dated_now(world: World) -> None:
    """R-30: a wrong clock must not keep it for ever."""
    owner = await world.tenant()
    await publish(world, owner, time=datetime.now(UTC) + timedelta(days=900))
    await consume_all(world)
    [notification] = await listed(world, owner.principal)
    assert notification.create_time.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": ""},
        {"kind": "Task completed"},
        {"title": ""},
        {"title": "two\nlines"},
        {"title": "x" * 301},
        {"user_id": "u" * 201},
        {"details": {"text": "x" * 17_000}},
        {"details": {"text": "a\0b"}},
        {"details": "none"},
    ],
    ids=[
        "no kind",
        "wrong kind",
        "no title",
        "two lines",
        "long title",
        "long user",
        "much",
        "nul",
        "no object",
    ],
)
async def test_impossible_notification_is_a_dead_letter_and_holds_up_nothing(
    world: World, data: dict[str, object]
) -> None:
    owner = await world.tenant()
    await publish(world, owner, data)
    await told(world, owner, owner.user_id, "good")
    assert await titles(world, owner.principal) == ["good"]
    async with world.as_superuser() as connection:
        [dead] = await connection.fetch("SELECT consumer, topic FROM events.dead_letters")
    assert (dead["consumer"], dead["topic"]) == ("session-notices", "notification")


async def publish(
    world: World,
    owner: Member,
    data: Mapping[str, object] | None = None,
    *,
    time: datetime | None = None,
) -> None:
    """Append a notification that `tell` would not write."""
    good = {"user_id": owner.user_id, "kind": "a.b", "title": "bad", "later_field": [1]}
    event = Event.new(
        event_type="notification.created",
        source="rag",
        tenant_id=owner.tenant_id,
        partition_key=owner.user_id,
        data={**good, **(data or {})},
    )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        event = replace(event, timestamp=time or event.timestamp)
        await outbox.append(connection, Topic.NOTIFICATION, event)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(pb.MarkNotificationsReadRequest(), "notification_ids", id="neither"),
        pytest.param(
            pb.MarkNotificationsReadRequest(notification_ids=["x"]), "notification_ids[0]", id="id"
        ),
        pytest.param(
            pb.MarkNotificationsReadRequest(notification_ids=[new_id()] * 2),
            "notification_ids",
            id="twice",
        ),
        pytest.param(
            pb.MarkNotificationsReadRequest(notification_ids=[new_id() for _ in range(1001)]),
            "notification_ids",
            id="many",
        ),
    ],
)
async def test_marking_of_a_wrong_shape_is_refused(
    world: World, request_: pb.MarkNotificationsReadRequest, field: str
) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.notifications.MarkNotificationsRead(request_)
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_marking_by_ids_and_by_time_together_is_refused(world: World) -> None:
    owner = await world.tenant()
    with pytest.raises(InvalidArgument):
        await mark(world, owner.principal, new_id(), until=datetime.now(UTC))


async def test_watching_after_what_is_no_id_is_refused(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(ServiceError) as caught:
        await watch(world, "yesterday")
    assert [violation.field for violation in caught.value.field_violations] == ["after_id"]
