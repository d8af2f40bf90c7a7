"""The usage ledger: every call once, sums that agree with rows, everybody their own."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.session.v1 import usage_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import InvalidArgument, PermissionDenied
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import Member, World, consume_all

pytestmark = pytest.mark.asyncio

UNSPECIFIED, DAY = pb.USAGE_DIMENSION_UNSPECIFIED, pb.USAGE_DIMENSION_DAY
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def used(member: Member, time: datetime = NOON, /, **data: object) -> Event:
    """Return the event of one call of 10 + 2 tokens, in the proto3 JSON form: counts as text."""
    call = {
        "task_id": new_id(),
        "step": 1,
        "attempt": 1,
        "user_id": member.user_id,
        "operation": "generate",
        "model": "offline",
        "deployment": "builtin",
        "prompt_tokens": "10",
        "completion_tokens": "2",
        "cost_micro_usd": "5",
        "outcome": "completed",
    }
    event = Event.new(
        event_type="model.usage.recorded",
        source="model-router",
        tenant_id=member.tenant_id,
        partition_key=member.user_id,
        data=call | data,
    )
    return replace(event, timestamp=time)


async def publish(world: World, *events: Event) -> None:
    for event in events:
        async with unit_of_work(world.database, event.tenant_id) as connection:
            await outbox.append(connection, Topic.USAGE_STATS, event)


async def sums(
    world: World, member: Member, *group_by: pb.UsageDimension.ValueType, **times: datetime
) -> Sequence[pb.UsageSum]:
    request = pb.QueryUsageRequest(group_by=group_by)
    request.start_time.FromDatetime(times.get("start", NOON - timedelta(days=10)))
    request.end_time.FromDatetime(times.get("end", NOON + timedelta(days=10)))
    with calling_as(member.principal):
        return (await world.usage.QueryUsage(request)).sums


async def exported(world: World, member: Member) -> list[pb.ExportRowsResponse]:
    with calling_as(member.principal):
        async with open_stream(world.usage.ExportRows(pb.ExportRowsRequest())) as rows:
            return [row async for row in rows]


async def test_call_is_in_ledger_and_sums(world: World) -> None:
    owner = await world.tenant()
    event = used(owner, feature="chat", session_id=new_id(), estimated=True, cached_tokens="4")
    await publish(world, event)
    await consume_all(world)
    [row] = await exported(world, owner)
    [total] = await sums(world, owner)
    assert (row.event_id, row.user_id, row.model) == (event.event_id, owner.user_id, "offline")
    assert (row.feature, row.operation, row.deployment) == ("chat", "generate", "builtin")
    assert row.session_id == event.data["session_id"]
    assert row.time.ToDatetime(UTC) == NOON
    assert row.usage.cached_tokens == 4
    assert row.usage.estimated
    assert total.call_count == 1
    assert total.usage == row.usage


async def test_duplicates_of_every_kind_count_once(world: World) -> None:
    """R-10: the same event delivered again, and the same call told by another event."""
    owner = await world.tenant()
    event = used(owner)
    again = used(owner, task_id=event.data["task_id"], prompt_tokens="999")
    await publish(world, event, again)
    await consume_all(world)
    async with world.as_superuser() as connection:
        # Deliver everything again, once remembered by the inbox, once only by the ledger.
        await connection.execute("UPDATE events.offsets SET transaction_id = '0', position = 0")
        await consume_all(world)
        await connection.execute("UPDATE events.offsets SET transaction_id = '0', position = 0")
        await connection.execute("DELETE FROM events.inbox")
    await consume_all(world)
    [row] = await exported(world, owner)
    [total] = await sums(world, owner)
    assert row.usage.prompt_tokens == 10
    assert (total.call_count, total.usage.prompt_tokens) == (1, 10)


async def test_sums_agree_with_the_rows_at_every_border(world: World) -> None:
    """Whole days come from daily sums, the rest from rows: nothing twice, nothing left out."""
    owner = await world.tenant()
    midnight = NOON.replace(hour=0)
    second = timedelta(seconds=1)
    times = [
        midnight + timedelta(days=day) + shift
        for day in range(-2, 3)
        for shift in (-second, timedelta(), timedelta(hours=13))
    ]
    await publish(world, *(used(owner, time) for time in times))
    await consume_all(world)
    borders = sorted({*times, *(time + second for time in times)})
    for start in borders[::3]:
        for end in borders[::2]:
            if start > end:
                continue
            expected = sum(start <= time < end for time in times)
            found = await sums(world, owner, start=start, end=end)
            assert sum(one.call_count for one in found) == expected, (start, end)


async def test_sums_are_grouped_and_paged_by_their_dimensions(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    await publish(
        world,
        used(owner, model="b", feature="chat"),
        used(owner, model="a", feature="chat"),
        used(member, NOON + timedelta(days=1), model="a", feature="rag"),
        used(member, NOON + timedelta(days=1), model="a", feature="chat"),
    )
    await consume_all(world)
    by_model = await sums(world, owner, pb.USAGE_DIMENSION_MODEL)
    assert [(one.model, one.day, one.user_id, one.call_count) for one in by_model] == [
        ("a", "", "", 3),
        ("b", "", "", 1),
    ]
    dimensions = [pb.USAGE_DIMENSION_FEATURE, pb.USAGE_DIMENSION_DAY]
    paged, token = [], ""
    with calling_as(owner.principal):
        for _ in range(3):
            request = pb.QueryUsageRequest(
                group_by=dimensions, page=page_pb2.PageRequest(page_size=1, page_token=token)
            )
            request.start_time.FromDatetime(NOON - timedelta(days=1))
            answer = await world.usage.QueryUsage(request)
            paged += [(one.day, one.feature, one.call_count) for one in answer.sums]
            token = answer.page.next_page_token
    assert token == ""
    assert paged == [
        ("2026-03-10", "chat", 2),
        ("2026-03-11", "chat", 1),
        ("2026-03-11", "rag", 1),
    ]


async def test_without_any_call_there_is_one_sum_of_nothing(world: World) -> None:
    owner = await world.tenant()
    [total] = await sums(world, owner)
    assert (total.call_count, total.usage.prompt_tokens) == (0, 0)
    assert list(await sums(world, owner, pb.USAGE_DIMENSION_DAY)) == []


async def test_members_see_their_own_usage_only(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await publish(world, used(owner), used(member), used(stranger))
    await consume_all(world)
    [mine] = await sums(world, member)
    [all_of_us] = await sums(world, owner)
    assert (mine.call_count, all_of_us.call_count) == (1, 2)
    assert [row.user_id for row in await exported(world, member)] == [member.user_id]
    assert len(await exported(world, owner)) == 2
    with calling_as(member.principal), pytest.raises(PermissionDenied):
        await world.usage.QueryUsage(pb.QueryUsageRequest(user_id=owner.user_id))


async def test_export_goes_through_all_batches_in_time_order(world: World) -> None:
    owner = await world.tenant()
    async with world.as_superuser() as connection:
        # Two of each moment, so that a batch can end between equals.
        await connection.execute(
            "INSERT INTO usage_ledger SELECT $1, $2::timestamptz + make_interval(secs => n / 2),"
            " gen_random_uuid(), $3, '', '', 'generate', 'm', 'd', 'p', 'completed', n::text,"
            " 1, 1, 1, 1, 0, 0, 0, false, 0, 0 FROM generate_series(0, 1202) AS n",
            owner.tenant_id,
            NOON,
            owner.user_id,
        )
    rows = await exported(world, owner)
    assert len({row.event_id for row in rows}) == 1203
    times = [row.time.ToNanoseconds() for row in rows]
    assert times == sorted(times)


async def test_call_of_the_future_is_dated_now(world: World) -> None:
    """R-30: a wrong clock must not put rows where no partition is."""
    owner = await world.tenant()
    await publish(world, used(owner, datetime.now(UTC) + timedelta(days=900)))
    await consume_all(world)
    [row] = await exported(world, owner)
    assert row.time.ToDatetime(UTC) <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize(
    "data",
    [
        {"prompt_tokens": "-1"},
        {"prompt_tokens": "many"},
        {"task_id": ""},
        {"model": "x" * 201},
        {"model": "a\0b"},
    ],
    ids=["negative", "no number", "no task", "long name", "nul"],
)
async def test_impossible_event_is_a_dead_letter_and_holds_up_nothing(
    world: World, data: dict[str, object]
) -> None:
    owner = await world.tenant()
    await publish(world, used(owner, **data), used(owner, later_field={"x": 1}))
    await consume_all(world)
    [total] = await sums(world, owner)
    assert total.call_count == 1
    async with world.as_superuser() as connection:
        assert await connection.fetchval("SELECT count(*) FROM events.dead_letters") == 1


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(pb.QueryUsageRequest(group_by=[UNSPECIFIED]), "group_by[0]", id="unspecified"),
        pytest.param(pb.QueryUsageRequest(group_by=[DAY, DAY]), "group_by", id="twice"),
    ],
)
async def test_question_of_a_wrong_shape_is_refused(
    world: World, request_: pb.QueryUsageRequest, field: str
) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.usage.QueryUsage(request_)
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_usage_of_a_tenant_that_there_is_not_is_buried_and_others_are_counted(
    world: World,
) -> None:
    """Anybody who can write to the topic can name any tenant."""
    owner = await world.tenant()
    stranger = Member(replace(owner.principal, tenant_id=new_id()))
    await publish(world, used(stranger), used(owner), used(stranger))
    await consume_all(world)
    async with world.as_superuser() as connection:
        buried = await connection.fetch("SELECT tenant_id, error FROM events.dead_letters")
        counted = await connection.fetchval("SELECT count(*) FROM usage_ledger")
    assert {str(row["tenant_id"]) for row in buried} == {stranger.tenant_id}
    assert [row["error"] for row in buried] == [
        f"EventRejected: there is no tenant {stranger.tenant_id}"
    ] * 2
    assert counted == 1
