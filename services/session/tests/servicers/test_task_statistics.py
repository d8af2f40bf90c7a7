"""How tasks ended: each one counted once, on its day, for those who may see it."""

from __future__ import annotations

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
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import Member, World, consume_all

pytestmark = pytest.mark.asyncio

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def ended(
    member: Member,
    time: datetime = NOON,
    /,
    *,
    state: str = "completed",
    event_state: str = "",
    **data: object,
) -> Event:
    """Return the event of a task of 1.5 s and 12 tokens, in the proto3 JSON form."""
    task = {
        "task_id": new_id(),
        "agent": "chat",
        "user_id": member.user_id,
        "state": state,
        "attempt": 1,
        "total_tokens": "12",
        "cost_micro_usd": "5",
        "duration_milliseconds": "1500",
        "detached": False,
    }
    event = Event.new(
        event_type=f"agent.task.{event_state or state}",
        source="orchestrator",
        tenant_id=member.tenant_id,
        partition_key=member.user_id,
        data=task | data,
    )
    return replace(event, timestamp=time)


async def publish(world: World, *events: Event) -> None:
    for event in events:
        async with unit_of_work(world.database, event.tenant_id) as connection:
            await outbox.append(connection, Topic.TASK_RESULT, event)
    await consume_all(world)


async def statistics(
    world: World, member: Member, user_id: str = "", **times: datetime
) -> Sequence[pb.TaskStatistics]:
    request = pb.QueryTaskStatisticsRequest(user_id=user_id)
    request.start_time.FromDatetime(times.get("start", NOON - timedelta(days=10)))
    request.end_time.FromDatetime(times.get("end", NOON + timedelta(days=10)))
    with calling_as(member.principal):
        return (await world.usage.QueryTaskStatistics(request)).statistics


async def test_tasks_are_counted_by_day_agent_and_state(world: World) -> None:
    """E1: topic task.result is consumed."""
    owner = await world.tenant()
    await publish(
        world,
        ended(owner),
        ended(owner, total_tokens="30", duration_milliseconds="250"),
        ended(owner, state="failed"),
        ended(owner, agent="rag"),
        ended(owner, NOON + timedelta(hours=13)),
    )
    rows = await statistics(world, owner)
    assert [(row.day, row.agent, row.state, row.task_count) for row in rows] == [
        ("2026-03-10", "chat", "completed", 2),
        ("2026-03-10", "chat", "failed", 1),
        ("2026-03-10", "rag", "completed", 1),
        ("2026-03-11", "chat", "completed", 1),
    ]
    first = rows[0]
    assert (first.total_tokens, first.cost_micro_usd) == (42, 10)
    assert first.total_duration.ToTimedelta() == timedelta(milliseconds=1750)


async def test_tasks_delivered_again_are_not_counted_again(world: World) -> None:
    """R-10: what was delivered from the beginning is known by the inbox."""
    owner = await world.tenant()
    await publish(world, *(ended(owner) for _ in range(7)))
    before = await statistics(world, owner)
    async with world.as_superuser() as connection:
        await connection.execute("UPDATE events.offsets SET transaction_id = '0', position = 0")
    await publish(world, ended(owner, agent="rag"))
    assert list(await statistics(world, owner))[:1] == list(before)
    assert before[0].task_count == 7


async def test_period_is_of_whole_days(world: World) -> None:
    owner = await world.tenant()
    midnight = NOON.replace(hour=0)
    days = [midnight + timedelta(days=day) for day in range(3)]
    await publish(world, *(ended(owner, day) for day in days))

    async def found(start: datetime, end: datetime) -> list[str]:
        return [row.day[-2:] for row in await statistics(world, owner, start=start, end=end)]

    second = timedelta(seconds=1)
    assert await found(days[0], days[2]) == ["10", "11"]
    assert await found(days[0] + second, days[2] + second) == ["10", "11", "12"]
    assert await found(days[1], days[1] + second) == ["11"]


async def test_tasks_of_today_are_in_the_answer_to_no_period(world: World) -> None:
    owner = await world.tenant()
    await publish(world, ended(owner, datetime.now(UTC)), ended(owner, NOON - timedelta(days=900)))
    with calling_as(owner.principal):
        answer = await world.usage.QueryTaskStatistics(pb.QueryTaskStatisticsRequest())
    assert [row.task_count for row in answer.statistics] == [1]


async def test_members_see_the_statistics_of_their_own_tasks_only(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await publish(world, ended(owner), ended(member), ended(stranger))
    [mine] = await statistics(world, member)
    [all_of_us] = await statistics(world, owner)
    [of_member] = await statistics(world, owner, member.user_id)
    assert (mine.task_count, all_of_us.task_count, of_member.task_count) == (1, 2, 1)
    assert list(await statistics(world, stranger, member.user_id)) == []
    with pytest.raises(PermissionDenied):
        await statistics(world, member, owner.user_id)


async def test_pages_go_on_where_they_ended(world: World) -> None:
    owner = await world.tenant()
    await publish(world, *(ended(owner, agent=agent) for agent in "abc"))
    seen, token = list[str](), ""
    with calling_as(owner.principal):
        for _ in range(3):
            request = pb.QueryTaskStatisticsRequest(
                page=page_pb2.PageRequest(page_size=1, page_token=token)
            )
            request.start_time.FromDatetime(NOON - timedelta(days=1))
            answer = await world.usage.QueryTaskStatistics(request)
            seen += [row.agent for row in answer.statistics]
            token = answer.page.next_page_token
    assert (seen, token) == (["a", "b", "c"], "")


@pytest.mark.parametrize(
    "data",
    [
        {"event_state": "failed"},
        {"total_tokens": "-1"},
        {"duration_milliseconds": "long"},
        {"agent": ""},
        {"agent": "x" * 201},
        {"user_id": "a\0b"},
        {"task_id": ""},
    ],
    ids=["state", "negative", "no number", "no agent", "long agent", "nul", "no task"],
)
async def test_impossible_end_is_a_dead_letter_and_holds_up_nothing(
    world: World, data: dict[str, str]
) -> None:
    owner = await world.tenant()
    await publish(world, ended(owner, **data), ended(owner, later_field=[1]))
    [row] = await statistics(world, owner)
    assert row.task_count == 1
    async with world.as_superuser() as connection:
        [dead] = await connection.fetch("SELECT consumer, topic FROM events.dead_letters")
    assert (dead["consumer"], dead["topic"]) == ("session-notices", "task.result")


async def test_period_that_ends_before_it_begins_is_refused(world: World) -> None:
    owner = await world.tenant()
    with pytest.raises(InvalidArgument) as caught:
        await statistics(world, owner, start=NOON, end=NOON - timedelta(days=1))
    assert [violation.field for violation in caught.value.field_violations] == ["start_time"]
