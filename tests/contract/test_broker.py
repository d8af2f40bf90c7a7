"""What every event log promises its consumers: delivery (A2 of the design)."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from meshwright_common.events import outbox
from meshwright_common.events.consumer import Policy
from meshwright_common.events.envelope import Event
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.event_bench import TOPIC, EventBench, write_effect

pytestmark = pytest.mark.asyncio


@pytest.mark.promise("EV-01")
async def test_an_event_exists_if_and_only_if_its_change_commits(bench: EventBench) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with unit_of_work(bench.database, bench.tenant) as connection:
            await outbox.append(connection, TOPIC, bench.event(1))
            raise ZeroDivisionError
    await bench.publish(bench.event(2))
    async with bench.consuming():
        await bench.until_effects(1)
    assert await bench.effect_numbers() == [2]


@pytest.mark.promise("EV-02")
async def test_a_committed_event_is_handled_within_a_second(bench: EventBench) -> None:
    """By a consumer that is at work: the first event is for it to begin."""
    handled = asyncio.Event()

    async def note(connection: Connection, event: Event) -> None:
        await write_effect(connection, event)
        if event.data["number"]:
            handled.set()

    async with bench.consuming(note, policy=Policy(poll_seconds=30)):
        await bench.publish(bench.event(0))
        await bench.until_effects(1)
        took: list[float] = []
        for number in range(1, 6):
            handled.clear()
            began = time.monotonic()
            await bench.publish(bench.event(number))
            await handled.wait()
            took.append(time.monotonic() - began)
    # All of them would be late without a wake-up; one or another is when the machine stands still.
    assert min(took) < 1


@pytest.mark.promise("EV-03")
async def test_events_of_one_key_are_handled_in_commit_order(bench: EventBench) -> None:
    keys = ("anna", "bert", "cleo")
    for number in range(60):
        await bench.publish(bench.event(number, key=keys[number % 3]))
    async with bench.consuming(processes=3):
        await bench.until_effects(60)
    effects = await bench.effects()
    for offset, key in enumerate(keys):
        assert [number for name, number in effects if name == key] == [*range(offset, 60, 3)]


@pytest.mark.promise("EV-04")
async def test_an_event_that_commits_later_than_its_successor_is_not_skipped(
    bench: EventBench,
) -> None:
    """The slow transaction takes the lower number, the quick one commits first (pitfall of A2).

    So many quick ones that some share the slow one's shard, whose cursor they would move past it.
    """
    quick = [bench.event(number, key=f"quick {number}") for number in range(1, 201)]
    async with bench.consuming():
        async with unit_of_work(bench.database, bench.tenant) as slow:
            await outbox.append(slow, TOPIC, bench.event(0, key="slow"))
            async with unit_of_work(bench.database, bench.tenant) as connection:
                await outbox.append_all(connection, TOPIC, quick)
            # Time for a reader to go wrong.
            await slow.execute("SELECT pg_sleep(0.3)")
        await bench.until_effects(201)
    assert sorted(await bench.effect_numbers()) == [*range(201)]


@pytest.mark.promise("EV-04")
async def test_no_event_of_many_overlapping_transactions_is_skipped(bench: EventBench) -> None:
    async def produce(first: int) -> None:
        for number in range(first, first + 10):
            async with unit_of_work(bench.database, bench.tenant) as connection:
                await outbox.append(connection, TOPIC, bench.event(number, key=f"key {number}"))
                # Lets others begin and commit while this one is open.
                await connection.fetchval("SELECT pg_sleep(0.002 * random())")

    async with bench.consuming(processes=2):
        await asyncio.gather(*(produce(first) for first in range(0, 100, 10)))
        await bench.until_effects(100)
    assert sorted(await bench.effect_numbers()) == [*range(100)]


@pytest.mark.promise("EV-05")
async def test_delivering_everything_three_times_to_four_consumers_changes_nothing(
    bench: EventBench,
) -> None:
    """R-10."""
    await bench.publish(*(bench.event(number) for number in range(30)))
    async with bench.consuming(processes=4):
        await bench.until_effects(30)
        for last in (30, 31, 32):
            await bench.rewind()
            await bench.publish(bench.event(last))
            await bench.until_effects(last + 1)
    assert await bench.effect_numbers() == [*range(33)]


@pytest.mark.promise("EV-05")
async def test_appending_the_same_event_twice_handles_it_once(bench: EventBench) -> None:
    event = bench.event(1)
    await bench.publish(event, event, bench.event(2))
    async with bench.consuming():
        await bench.until_effects(2)
    assert await bench.effect_numbers() == [1, 2]


@pytest.mark.promise("EV-06")
async def test_an_event_is_handled_under_its_own_tenant(bench: EventBench) -> None:
    other = new_id()
    await bench.publish(
        bench.event(1), bench.event(2, tenant=other), bench.event(3), bench.event(4, tenant=other)
    )
    async with bench.consuming():
        await bench.until_effects(2)
    assert await bench.effect_numbers() == [1, 3]
    assert [number for _, number in await bench.effects(tenant=other)] == [2, 4]
