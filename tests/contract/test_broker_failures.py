"""What every event log promises its consumers: failures, outages and crashes (A2, house 3.8)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from meshwright_common.errors import Unavailable
from meshwright_common.events import dead_letter
from meshwright_common.events.consumer import ConsumerBroken, EventRejected, Policy
from meshwright_common.events.envelope import Event
from meshwright_common.storage.postgres import Connection
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.event_bench import CONSUMER, EventBench, write_effect
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

VICTIM = Path(__file__).parent / "consumer_process.py"


@pytest.mark.promise("EV-07")
async def test_a_poisoned_event_is_tried_five_times_and_then_kept_with_its_error(
    bench: EventBench,
) -> None:
    """R-11. What it did before it failed is gone each time."""
    tries: list[int] = []

    async def fail_on_two(connection: Connection, event: Event) -> None:
        await write_effect(connection, event)
        if event.data["number"] == 2:
            tries.append(event.retry_count)
            raise ValueError("no such price")

    await bench.publish(*(bench.event(number, key=f"key {number}") for number in (1, 2, 3)))
    async with bench.consuming(fail_on_two):
        await eventually(lambda: len(tries) >= 5)
        await bench.until_effects(2)
    letters = await bench.dead_letters()
    assert [letter.attempts for letter in letters] == [5]
    assert letters[0].error == "ValueError: no such price"
    assert tries == [0, 1, 2, 3, 4]
    assert sorted(await bench.effect_numbers()) == [1, 3]


@pytest.mark.promise("EV-07")
async def test_a_poisoned_event_delays_its_own_key_and_no_other(bench: EventBench) -> None:
    healed = asyncio.Event()

    async def fail_until_healed(connection: Connection, event: Event) -> None:
        if event.partition_key == "ill" and event.data["number"] == 0 and not healed.is_set():
            raise ValueError("not yet")
        await write_effect(connection, event)

    await bench.publish(bench.event(0, key="ill"))
    await bench.publish(*(bench.event(number, key="ill") for number in (1, 2)))
    await bench.publish(*(bench.event(number, key="well") for number in (3, 4)))
    policy = Policy(ladder_seconds=(0.05,) * 200, poll_seconds=0.05)
    async with bench.consuming(fail_until_healed, policy=policy):
        await bench.until_effects(2)
        assert await bench.effects() == [("well", 3), ("well", 4)]
        healed.set()
        await bench.until_effects(5)
    assert [number for key, number in await bench.effects() if key == "ill"] == [0, 1, 2]


@pytest.mark.promise("EV-08")
async def test_a_rejected_event_is_kept_at_once_and_can_be_replayed(bench: EventBench) -> None:
    repaired = asyncio.Event()

    async def reject(connection: Connection, event: Event) -> None:
        if not repaired.is_set():
            raise EventRejected("unknown operation")
        await write_effect(connection, event)

    event = bench.event(1)
    await bench.publish(event)
    async with bench.consuming(reject):

        async def buried() -> bool:
            return len(await bench.dead_letters()) == 1

        await eventually(buried)
        repaired.set()
        async with unit_of_work(bench.database, bench.tenant) as connection:
            replayed = await dead_letter.replay(
                connection, tenant_id=bench.tenant, consumer=CONSUMER, event_ids=[event.event_id]
            )
        await bench.until_effects(1)
    assert replayed == 1
    assert await bench.dead_letters() == []


@pytest.mark.promise("EV-09")
async def test_an_outage_of_a_dependency_costs_an_event_no_tries(bench: EventBench) -> None:
    calls: list[int] = []

    async def away_twice(connection: Connection, event: Event) -> None:
        calls.append(event.retry_count)
        if len(calls) <= 2:
            raise Unavailable("the price list is away")
        await write_effect(connection, event)

    await bench.publish(bench.event(1))
    async with bench.consuming(away_twice):
        await bench.until_effects(1)
    assert calls == [0, 0, 0]
    assert await bench.dead_letters() == []


@pytest.mark.promise("EV-10")
async def test_a_consumer_that_buries_everything_stops_itself(bench: EventBench) -> None:
    """House 3.8: a deploy is broken, not the data.

    It judges whole batches, and how many events a broker has ready at once is the broker's affair:
    what was not buried is there for who comes after it.
    """

    async def reject(_connection: Connection, _event: Event) -> None:
        raise EventRejected("I understand nothing")

    await bench.publish(*(bench.event(number, key=f"key {number}") for number in range(8)))
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.consuming(reject, policy=Policy(buried_in_a_row=5)):
            await eventually(lambda: False)
    assert isinstance(_leaf(caught.value), ConsumerBroken)
    buried = {
        int(letter.delivery.partition_key.split()[1]) for letter in await bench.dead_letters()
    }
    assert len(buried) >= 5
    await bench.publish(bench.event(8))
    async with bench.consuming():
        await bench.until_effects(9 - len(buried))
    assert sorted([*buried, *await bench.effect_numbers()]) == [*range(9)]


@pytest.mark.promise("EV-10")
async def test_a_consumer_that_buries_too_large_a_share_stops_itself(bench: EventBench) -> None:
    async def reject_most(connection: Connection, event: Event) -> None:
        if int(str(event.data["number"])) % 3:
            raise EventRejected("I understand little")
        await write_effect(connection, event)

    await bench.publish(*(bench.event(number, key=f"key {number}") for number in range(12)))
    policy = Policy(buried_in_a_row=100, window=9, buried_share=0.5)
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.consuming(reject_most, policy=policy):
            await eventually(lambda: False)
    assert isinstance(_leaf(caught.value), ConsumerBroken)
    assert sorted(await bench.effect_numbers()) == [0, 3, 6, 9]


@pytest.mark.promise("EV-09")
async def test_a_session_lost_in_the_middle_of_a_batch_changes_nothing(bench: EventBench) -> None:
    lost = 0

    async def lose_the_first(connection: Connection, event: Event) -> None:
        nonlocal lost
        await write_effect(connection, event)
        if event.data["number"] == 3 and not lost:
            lost += 1
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    await bench.publish(*(bench.event(number) for number in range(6)))
    async with bench.consuming(lose_the_first):
        await bench.until_effects(6)
    assert lost == 1
    assert await bench.effect_numbers() == [*range(6)]
    assert await bench.dead_letters() == []


@pytest.mark.promise("EV-11")
@pytest.mark.parametrize("moment", ["in_handler", "before_commit", "after_commit"])
async def test_a_consumer_killed_at_any_moment_leaves_each_effect_once(
    bench: EventBench, moment: str
) -> None:
    """CP-09, CP-16: a process of its own, ended by SIGKILL."""
    await bench.publish(*(bench.event(number, key=f"key {number % 3}") for number in range(12)))
    options = {
        "database": bench.settings.model_dump(mode="json"),
        "events": bench.events.model_dump(mode="json"),
        "consumer": CONSUMER,
        "moment": moment,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, str(VICTIM), json.dumps(options))
    async with asyncio.timeout(20):
        assert await process.wait() == -signal.SIGKILL
    assert len(await bench.effects()) == (12 if moment == "after_commit" else 0)
    await bench.publish(bench.event(12))
    async with bench.consuming():
        await bench.until_effects(13)
    assert sorted(await bench.effect_numbers()) == [*range(13)]


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
