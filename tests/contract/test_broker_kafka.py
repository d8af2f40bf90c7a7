"""What only a log that others can reach has to show: relays, outages, rebalances, settings."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from meshwright_common.events.envelope import Event, decode
from meshwright_common.events.kafka_topics import make_missing
from meshwright_common.events.ports import OutgoingEvent
from meshwright_common.events.relay import Relay
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import Connection, open_database
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import (
    CONSUMER,
    EFFECTS,
    TOPIC,
    EventBench,
    write_effect,
    write_effects,
)
from meshwright_common.testing.servers.kafka import KafkaServer
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

RELAY = Path(__file__).parent / "relay_process.py"
CONSUMER_PROCESS = Path(__file__).parent / "consumer_process.py"
KEYS = 8


@dataclass(slots=True)
class Counting:
    """A broker that only counts."""

    published: int = 0

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        self.published += len(events)


@contextlib.asynccontextmanager
async def bench_on(
    events: EventSettings, database_settings: DatabaseSettingsFor
) -> AsyncIterator[EventBench]:
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    async with open_database(settings, "session", max_size=20) as database:
        yield EventBench(database, settings, events)


@pytest_asyncio.fixture
async def unrelayed(
    kafka_events: EventSettings, database_settings: DatabaseSettingsFor
) -> AsyncIterator[EventBench]:
    """A bench on the shared cluster without a relay."""
    await make_missing(kafka_events)
    async with bench_on(kafka_events, database_settings) as bench:
        yield bench


@pytest.fixture
def own_kafka(kafka_server: str, tmp_path: Path) -> Iterator[KafkaServer]:
    """A cluster of this test's own, to be killed."""
    del kafka_server  # the engine is there, then
    server = KafkaServer(tmp_path / "kafka")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def process(
    bench: EventBench, script: Path, **more: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a relay or consumer in a process of its own; kill it when the block ends."""
    options = {
        "database": bench.settings.model_dump(mode="json"),
        "events": bench.events.model_dump(mode="json"),
        "consumer": CONSUMER,
        "moment": "",
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, str(script), json.dumps(options | more)
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def produce(bench: EventBench, count: int, *, first: int = 0) -> None:
    """Append events one by one, their keys in turn."""
    for number in range(first, first + count):
        await bench.publish(bench.event(number, key=f"key {number % KEYS}"))


async def backlog(bench: EventBench) -> int:
    """Return how many events wait to be relayed."""
    async with bench.database.connection() as connection:
        waiting: int = await connection.fetchval("SELECT waiting FROM events.relay_backlog()")
    return waiting


async def nothing_waits(bench: EventBench, *, timeout_seconds: float = 15) -> None:
    async def is_empty() -> bool:
        return await backlog(bench) == 0

    await eventually(is_empty, timeout_seconds=timeout_seconds)


async def first_occurrences(bench: EventBench) -> tuple[dict[str, list[int]], int]:
    """Return the numbers of each key in the order of the log, duplicates dropped, and how many
    records the log has."""
    topic = bench.events.topic_prefix + TOPIC.value
    reader = AIOKafkaConsumer(
        bootstrap_servers=bench.events.url.removeprefix("kafka://"), auto_offset_reset="earliest"
    )
    await reader.start()
    try:
        places = [TopicPartition(topic, number) for number in range(bench.events.partitions)]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        left, seen, found = sum(ends.values()), set[str](), dict[str, list[int]]()
        records = left
        while left > 0:
            for read in (await reader.getmany(timeout_ms=1000)).values():
                left -= len(read)
                for record in read:
                    headers = {name: (value or b"").decode() for name, value in record.headers}
                    event = decode(headers, record.value or b"")
                    if event.event_id not in seen:
                        seen.add(event.event_id)
                        found.setdefault(event.partition_key, []).append(
                            int(str(event.data["number"]))
                        )
        return found, records
    finally:
        await reader.stop()


async def assert_in_order(bench: EventBench, count: int) -> int:
    """Assert that the log has all events, those of a key in order; return how many are there
    more than once."""
    found, records = await first_occurrences(bench)
    assert found == {f"key {key}": [*range(key, count, KEYS)] for key in range(KEYS)}
    return records - count


@pytest.mark.promise("EK-01")
@pytest.mark.timeout(170)
async def test_the_order_of_a_key_outlives_relays_that_die_between_broker_and_cursor(
    unrelayed: EventBench,
) -> None:
    """House 3.8: published, not marked. Each relay dies with its first pass acknowledged."""
    for start in range(0, 120, 24):
        await produce(unrelayed, 24, first=start)
        async with process(unrelayed, RELAY, dies_after=1) as relay, asyncio.timeout(20):
            assert await relay.wait() == -signal.SIGKILL
    async with unrelayed.relaying():
        await nothing_waits(unrelayed)
    assert await assert_in_order(unrelayed, 120) > 0


@pytest.mark.promise("EK-01")
@pytest.mark.timeout(170)
async def test_the_order_of_a_key_outlives_relays_that_are_paused_and_taken_over(
    unrelayed: EventBench,
) -> None:
    """Three at once, stopped and woken at odd moments, the killed ones replaced."""
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(process(unrelayed, RELAY)) for _ in range(3)]
        producing = asyncio.create_task(produce(unrelayed, 800))
        for victim in itertools.cycle(range(3)):
            relays[victim].send_signal(signal.SIGSTOP)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(producing), 0.3)
            if victim == 1:
                relays[victim].kill()
                relays[victim] = await stack.enter_async_context(process(unrelayed, RELAY))
            else:
                relays[victim].send_signal(signal.SIGCONT)
            if producing.done():
                break
        await producing
        await nothing_waits(unrelayed, timeout_seconds=40)
    await assert_in_order(unrelayed, 800)


@pytest.mark.promise("EK-01")
async def test_several_relays_share_the_work(unrelayed: EventBench) -> None:
    """Neither has all of it: each claims a fair part of the shards."""
    publishers = Counting(), Counting()
    relays = [Relay(unrelayed.database, one) for one in publishers]
    async with asyncio.TaskGroup() as group:
        for relay in relays:
            group.create_task(relay.run())
        number = itertools.count()

        async def both_work() -> bool:
            await produce(unrelayed, 8, first=next(number) * 8)
            return min(one.published for one in publishers) >= 8

        await eventually(both_work)
        for relay in relays:
            relay.stop()


@pytest.mark.promise("EK-02")
@pytest.mark.timeout(170)
async def test_a_broker_that_dies_loses_nothing_and_fails_nobodys_call(
    own_kafka: KafkaServer, database_settings: DatabaseSettingsFor
) -> None:
    """F-18: kill -9, then back. What was appended meanwhile arrives within 5 s of its return."""
    events = EventSettings(
        url=f"kafka://{own_kafka.bootstrap}", topic_prefix=f"t{secrets.token_hex(3)}.", partitions=4
    )
    async with (
        bench_on(events, database_settings) as bench,
        process(bench, RELAY),
        process(bench, CONSUMER_PROCESS),
    ):
        await produce(bench, 40)
        await bench.until_effects(40)
        own_kafka.kill()
        async with asyncio.timeout(10):
            await produce(bench, 80, first=40)
        assert await backlog(bench) == 80
        own_kafka.start()
        await nothing_waits(bench, timeout_seconds=5)
        await bench.until_effects(120)
        await assert_in_order(bench, 120)
        numbers = await bench.effect_numbers()
        assert sorted(numbers) == [*range(120)]


@pytest.mark.promise("EK-02")
@pytest.mark.timeout(170)
async def test_relay_and_consumers_begin_without_a_broker_and_work_when_it_comes(
    own_kafka: KafkaServer, database_settings: DatabaseSettingsFor
) -> None:
    own_kafka.kill()
    events = EventSettings(
        url=f"kafka://{own_kafka.bootstrap}", topic_prefix=f"t{secrets.token_hex(3)}.", partitions=4
    )
    async with (
        bench_on(events, database_settings) as bench,
        process(bench, RELAY),
        process(bench, CONSUMER_PROCESS),
    ):
        await produce(bench, 40)
        own_kafka.start()
        await bench.until_effects(40)
        assert sorted(await bench.effect_numbers()) == [*range(40)]


@pytest.mark.promise("EK-02")
@pytest.mark.timeout(170)
async def test_a_broker_that_answers_nobody_delays_events_and_reorders_none(
    own_kafka: KafkaServer, database_settings: DatabaseSettingsFor
) -> None:
    """F-20: paused for longer than a publish may take, twice."""
    events = EventSettings(
        url=f"kafka://{own_kafka.bootstrap}", topic_prefix=f"t{secrets.token_hex(3)}.", partitions=4
    )
    async with bench_on(events, database_settings) as bench, bench.relaying():
        await produce(bench, 40)
        await nothing_waits(bench)
        for start in (40, 80):
            own_kafka.pause()
            await produce(bench, 40, first=start)
            await asyncio.sleep(6)  # the time limit of a publish passes
            assert await backlog(bench) == 40
            own_kafka.resume()
            await nothing_waits(bench, timeout_seconds=10)
        await assert_in_order(bench, 120)


@pytest.mark.promise("EK-03")
@pytest.mark.timeout(170)
async def test_rebalances_while_events_are_handled_change_nothing(unrelayed: EventBench) -> None:
    """Members come and go, one of them by SIGKILL, while a slow handler is at work."""

    async def handle_slowly(connection: Connection, event: Event) -> None:
        await write_effect(connection, event)
        await connection.fetchval("SELECT pg_sleep(0.005)")

    async with (
        unrelayed.relaying(),
        unrelayed.consuming(handle_slowly),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(produce(unrelayed, 600))
        for moment in ("", "", "before_commit", ""):
            async with process(unrelayed, CONSUMER_PROCESS, moment=moment) as member:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.5):
                        await member.wait()
                with contextlib.suppress(ProcessLookupError):
                    member.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(8):
                        await member.wait()
        await unrelayed.until_effects(600)
    effects = await unrelayed.effects()
    for key in range(KEYS):
        numbers = [number for name, number in effects if name == f"key {key}"]
        assert numbers == [*range(key, 600, KEYS)]


@pytest.mark.promise("EK-04")
async def test_positions_set_back_to_the_beginning_change_nothing(unrelayed: EventBench) -> None:
    """R-10, with the real positions of the group; a batch of all, and a dead letter among it."""
    async with unrelayed.relaying():
        await produce(unrelayed, 100)
        async with unrelayed.consuming(batch_handler=write_effects):
            await unrelayed.until_effects(100)
        before = await unrelayed.effects()
        for last in (100, 101):
            await unrelayed.rewind()
            await produce(unrelayed, 1, first=last)
            async with unrelayed.consuming(batch_handler=write_effects):
                await unrelayed.until_effects(last + 1)
    assert (await unrelayed.effects())[:100] == before
    assert sorted(await unrelayed.effect_numbers()) == [*range(102)]
