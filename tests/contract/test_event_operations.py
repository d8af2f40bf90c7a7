"""What operators can see and do, on every event log there is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from meshwright_common.events import inspection_letters, inspection_replay
from meshwright_common.events.consumer import EventRejected
from meshwright_common.events.envelope import Event
from meshwright_common.events.inspection import (
    Logged,
    LogInspection,
    NotTheOwner,
    Start,
    open_operator_database,
)
from meshwright_common.events.inspection_backbone import inspection_of
from meshwright_common.events.inspection_letters import LetterFilter
from meshwright_common.events.inspection_replay import Replayed, ReplayRange
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.event_bench import CONSUMER, TOPIC, EventBench, write_effect
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Operator:
    """An operator's connection to the bench."""

    database: Database
    log: LogInspection

    async def read(self, start: Start = "beginning") -> list[Logged]:
        """Return what a tail prints that ends at the end."""
        async with aclosing(self.log.read(TOPIC.value, start, follow=False)) as events:
            return [one async for one in events]

    async def holds(self, count: int) -> None:
        """Wait until so many events have reached the log."""

        async def there() -> bool:
            return len(await self.read()) >= count

        await eventually(there)

    async def replay(self, wanted: ReplayRange) -> Replayed:
        """Hand a range over."""
        return await inspection_replay.replay(
            self.database,
            self.log,
            wanted,
            operator="operator/test",
            reason="mended",
            tell=lambda _sum: None,
        )


@pytest_asyncio.fixture
async def operator(bench: EventBench) -> AsyncIterator[Operator]:
    async with open_operator_database(bench.settings) as database:
        yield Operator(database, inspection_of(bench.events, database))


async def write_effect_once(connection: Connection, event: Event) -> None:
    """Write the row that this event is worth, unless it is there."""
    written = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM session.effects WHERE tenant_id = $1 AND event_id = $2)",
        event.tenant_id,
        event.event_id,
    )
    if not written:
        await write_effect(connection, event)


def all_of(topic: Topic = TOPIC, **more: str) -> ReplayRange:
    return ReplayRange(CONSUMER, topic.value, LONG_AGO, FAR_AHEAD, **more)


async def inbox_rows(operator: Operator) -> int:
    async with unscoped(operator.database) as connection:
        rows: int = await connection.fetchval("SELECT count(*) FROM events.inbox")
    return rows


@pytest.mark.promise("EO-01")
async def test_the_state_of_a_topic_tells_what_is_in_it_and_who_reads_it(
    bench: EventBench, operator: Operator
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with bench.consuming():
        await bench.publish(*(bench.event(number) for number in range(3)))
        await bench.until_effects(3)
        states = {state.topic: state for state in await operator.log.topics()}
    state = states[TOPIC.value]
    assert len(states) == 2 * len(Topic)
    assert (state.events, list(state.consumers)) == (3, [CONSUMER])
    assert state.oldest_at is not None
    assert state.newest_at is not None
    assert before < state.oldest_at <= state.newest_at
    assert states[Topic.NOTIFICATION.value].events == 0
    assert states[Topic.NOTIFICATION.value].oldest_at is None


@pytest.mark.promise("EO-01")
async def test_a_position_tells_how_many_events_are_unread_and_since_when(
    bench: EventBench, operator: Operator
) -> None:
    async with bench.consuming():
        await bench.publish(bench.event(1))
        await bench.until_effects(1)
    before = datetime.now(UTC) - timedelta(seconds=1)
    await bench.publish(bench.event(2), bench.event(3))
    await operator.holds(3)
    (position,) = await operator.log.positions()
    assert (position.consumer, position.topic, position.behind) == (CONSUMER, TOPIC.value, 2)
    assert position.oldest_at is not None
    assert position.oldest_at > before
    async with bench.consuming():
        await bench.until_effects(3)
    (position,) = await operator.log.positions()
    assert (position.behind, position.oldest_at) == (0, None)


@pytest.mark.promise("EO-01")
@pytest.mark.parametrize("bench", ["kafka"], indirect=True)
async def test_groups_that_never_got_anything_done_are_seen(
    bench: EventBench, operator: Operator
) -> None:
    """They have no position yet: only their membership tells that they should have one."""
    await bench.publish(bench.event(1), bench.event(2))
    await operator.holds(2)
    prefix = bench.events.topic_prefix
    names = ("hung", "slow", "stuck")
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            member = AIOKafkaConsumer(
                prefix + TOPIC.value,
                **connecting(bench.events),
                group_id=prefix + name,
                enable_auto_commit=False,
            )
            await stack.enter_async_context(member)
        positions = await operator.log.positions()
        (state,) = (one for one in await operator.log.topics() if one.consumers)
    assert [(one.consumer, one.topic, one.behind) for one in positions] == [
        (name, TOPIC.value, 2) for name in names
    ]
    assert (state.topic, tuple(state.consumers)) == (TOPIC.value, names)


@pytest.mark.promise("EO-01")
async def test_reading_gives_whole_events_in_order_and_moves_nobody(
    bench: EventBench, operator: Operator
) -> None:
    events = [bench.event(number) for number in range(5)]
    await bench.publish(*events)
    await operator.holds(5)
    seen = await operator.read()
    assert [one.delivery.event_id for one in seen] == [event.event_id for event in events]
    assert [one.happened_at for one in seen] == [event.timestamp for event in events]
    assert {one.delivery.headers["ce_type"] for one in seen} == {"model.usage.recorded"}
    assert await operator.read("end") == []
    later = await operator.read(events[3].timestamp)
    assert [one.delivery.event_id for one in later] == [event.event_id for event in events[3:]]
    assert await operator.read(FAR_AHEAD) == []
    async with bench.consuming():
        await bench.until_effects(5)


@pytest.mark.promise("EO-01")
async def test_following_gives_what_comes_later(bench: EventBench, operator: Operator) -> None:
    await bench.publish(bench.event(1))
    await operator.holds(1)
    async with (
        aclosing(operator.log.read(TOPIC.value, "end", follow=True)) as events,
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(anext(events))
        # What is appended before it has begun is not seen: go on until something is.
        while not first.done():
            await bench.publish(bench.event(2))
            await asyncio.wait([first], timeout=0.1)
    assert b'"number":2' in first.result().delivery.body


@pytest.mark.promise("EO-02")
async def test_a_poison_event_is_listed_shown_and_applied_once_when_replayed(
    bench: EventBench, operator: Operator
) -> None:
    poison = bench.event(13)
    mended = False

    async def handle(connection: Connection, event: Event) -> None:
        if event.data["number"] == 13 and not mended:
            raise EventRejected("thirteen is not welcome")
        await write_effect(connection, event)

    wanted = LetterFilter(consumer=CONSUMER, error="NOT WELCOME")
    async with bench.consuming(handle):
        await bench.publish(bench.event(1), poison, bench.event(2))
        await bench.until_effects(2)
        (letter,) = await inspection_letters.find(operator.database, wanted, most=10)
        (waiting,) = await inspection_letters.waiting(operator.database)
        mended = True
        assert 1 == await replay_letters(operator, wanted)
        await bench.until_effects(3)
        assert 0 == await replay_letters(operator, wanted)
    assert (letter.delivery.event_id, letter.attempts) == (poison.event_id, 1)
    assert "thirteen is not welcome" in letter.error
    assert letter.delivery.headers["ce_id"] == poison.event_id
    assert poison.event_id.encode() in letter.delivery.body
    assert (waiting.consumer, waiting.topic, waiting.dead_letters) == (CONSUMER, TOPIC.value, 1)
    assert sorted(await bench.effect_numbers()) == [1, 2, 13]
    assert await inspection_letters.waiting(operator.database) == []


@pytest.mark.promise("EO-02")
async def test_dead_letters_are_found_by_what_is_known_of_them(
    bench: EventBench, operator: Operator
) -> None:
    other = new_id()

    async def refuse(_connection: Connection, event: Event) -> None:
        raise EventRejected(f"number {event.data['number']}")

    async with bench.consuming(refuse):
        await bench.publish(bench.event(1), bench.event(2), bench.event(3, tenant=other))
        await eventually(lambda: has_letters(operator, 3), timeout_seconds=bench.patience_seconds)

    async def numbers(**wanted: object) -> list[str]:
        found = await inspection_letters.find(
            operator.database,
            LetterFilter(**wanted),  # type: ignore[arg-type]
            most=10,
        )
        return sorted(one.error[-1] for one in found)

    assert await numbers() == ["1", "2", "3"]
    assert await numbers(tenant_id=other) == ["3"]
    assert await numbers(error="number 2") == ["2"]
    assert await numbers(topic=TOPIC.value, consumer=CONSUMER) == ["1", "2", "3"]
    assert await numbers(topic="audit.log") == []
    assert await numbers(since=datetime.now(UTC) + timedelta(hours=1)) == []


@pytest.mark.promise("EO-03")
async def test_replaying_a_range_changes_nothing_in_a_ledger_that_has_it(
    bench: EventBench, operator: Operator
) -> None:
    async with bench.consuming(write_effect_once):
        await bench.publish(*(bench.event(number) for number in range(20)))
        await bench.until_effects(20)
        before = await bench.effects()
        assert Replayed(20, 20) == await operator.replay(all_of())
        await eventually(lambda: nothing_waits(operator), timeout_seconds=bench.patience_seconds)
        assert await bench.effects() == before
    assert await inbox_rows(operator) == 20


@pytest.mark.promise("EO-03")
async def test_replaying_a_range_restores_a_ledger_that_lost_it_in_order(
    bench: EventBench, operator: Operator
) -> None:
    events = [bench.event(number, key="ab"[number % 2]) for number in range(12)]
    async with bench.consuming(write_effect_once):
        await bench.publish(*events)
        await bench.until_effects(12)
        async with unscoped(operator.database) as connection:
            await connection.execute(
                "DELETE FROM session.effects WHERE tenant_id = $1", bench.tenant
            )
        wanted = ReplayRange(
            CONSUMER, TOPIC.value, events[2].timestamp, events[10].timestamp, key="a"
        )
        assert Replayed(4, 4) == await operator.replay(wanted)
        await bench.until_effects(4)
        await eventually(lambda: nothing_waits(operator), timeout_seconds=bench.patience_seconds)
        assert await bench.effect_numbers() == [2, 4, 6, 8]
        await bench.publish(bench.event(12, key="a"))
        await bench.until_effects(5)
    assert await bench.effect_numbers() == [2, 4, 6, 8, 12]


@pytest.mark.promise("EO-03")
async def test_a_survey_counts_and_changes_nothing(bench: EventBench, operator: Operator) -> None:
    async with bench.consuming():
        await bench.publish(bench.event(1), bench.event(2, tenant=new_id()))
        await eventually(lambda: all_handled(operator, 2), timeout_seconds=bench.patience_seconds)
        found = await inspection_replay.survey(operator.database, operator.log, all_of())
        mine = await inspection_replay.survey(
            operator.database, operator.log, all_of(tenant_id=bench.tenant)
        )
    assert (found, mine) == (Replayed(2, 2), Replayed(1, 1))
    assert await inbox_rows(operator) == 2


@pytest.mark.promise("EO-04")
async def test_a_replay_leaves_alone_what_the_consumer_has_not_handled(
    bench: EventBench, operator: Operator
) -> None:
    async with bench.consuming():
        await bench.publish(bench.event(1))
        await bench.until_effects(1)
    await bench.publish(bench.event(2), bench.event(3))
    await operator.holds(3)
    assert Replayed(3, 1) == await operator.replay(all_of())
    async with bench.consuming(write_effect_once):
        await bench.until_effects(3)
        await eventually(lambda: nothing_waits(operator), timeout_seconds=bench.patience_seconds)
    assert await bench.effect_numbers() == [1, 2, 3]


@pytest.mark.promise("EO-05")
async def test_the_audit_log_of_each_tenant_tells_who_replayed_what_and_why(
    bench: EventBench, operator: Operator
) -> None:
    other = new_id()
    async with bench.consuming(write_effect_once):
        await bench.publish(bench.event(1), bench.event(2), bench.event(3, tenant=other))
        await eventually(lambda: all_handled(operator, 3), timeout_seconds=bench.patience_seconds)
        await operator.replay(all_of())
    told = {tenant: await audit_details(bench, tenant) for tenant in (bench.tenant, other)}
    assert {tenant: details["count"] for tenant, details in told.items()} == {
        bench.tenant: 2,
        other: 1,
    }
    assert {details["reason"] for details in told.values()} == {"mended"}


@pytest.mark.promise("EO-06")
async def test_a_login_of_a_service_is_refused(bench: EventBench) -> None:
    settings = bench.settings.model_copy(update={"url": bench.settings.url_for("session")})
    with pytest.raises(NotTheOwner):
        async with open_operator_database(settings):
            pass


async def replay_letters(operator: Operator, wanted: LetterFilter) -> int:
    return await inspection_letters.replay(
        operator.database, wanted, operator="operator/test", reason="mended"
    )


async def has_letters(operator: Operator, count: int) -> bool:
    return await inspection_letters.count(operator.database, LetterFilter()) == count


async def nothing_waits(operator: Operator) -> bool:
    return await inspection_letters.waiting(operator.database) == []


async def all_handled(operator: Operator, count: int) -> bool:
    return await inbox_rows(operator) == count


async def audit_details(bench: EventBench, tenant: str) -> dict[str, object]:
    """Return the details of the one audit event of a tenant, as it was appended."""
    async with unit_of_work(bench.database, tenant) as connection:
        (body,) = await connection.fetch(
            "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = $2",
            tenant,
            Topic.AUDIT_LOG.value,
        )
    event = json.loads(body["body"])
    assert event["data"]["action"] == "events.replayed"
    assert event["data"]["actor"] == "operator/test"
    details: dict[str, object] = event["data"]["details"]
    return details
