"""The samples of docs/events run as a data team runs them, on a real broker, and keep count."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import secrets
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from pyarrow import parquet  # type: ignore[import-untyped]

from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.inspection_kafka import KafkaInspection
from meshwright_common.events.kafka_publisher import open_publisher
from meshwright_common.events.ports import OutgoingEvent
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.event_bench import EventBench
from meshwright_common.testing.waiting import eventually

SAMPLES: Final = Path(__file__).parents[2] / "docs" / "events" / "samples"
PATIENCE_SECONDS: Final = 60.0
COST_MICRO_USD: Final = 1250
pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]


@dataclass
class Mesh:
    """Usage events on their way from the outbox over a relay to topics of this test's own."""

    bench: EventBench
    tenants: Sequence[str]
    published: list[Event]

    @property
    def broker(self) -> str:
        return self.bench.events.url.removeprefix("kafka://")

    @property
    def topic(self) -> str:
        return self.bench.events.topic_prefix + Topic.USAGE_STATS.value

    async def publish(self, count: int) -> None:
        """Commit so many model calls, of all tenants and some users in turn."""
        for tenant in self.tenants:
            events = [_model_call(tenant, f"user {number % 7}") for number in range(count // 2)]
            async with unit_of_work(self.bench.database, tenant) as connection:
                await outbox.append_all(connection, Topic.USAGE_STATS, events)
            self.published += events

    async def arrived(self) -> None:
        """Return when everything is on the broker."""

        async def all_there() -> bool:
            states = await KafkaInspection(self.bench.events).topics()
            kept = {state.topic: state.events for state in states}
            return kept[Topic.USAGE_STATS.value] >= len(self.published)

        await eventually(all_there, timeout_seconds=PATIENCE_SECONDS)

    async def publish_again(self) -> None:
        """Send everything that is on the topic once more, as after a relay that died."""
        outgoing = [
            OutgoingEvent(Topic.USAGE_STATS.value, logged.delivery)
            async for logged in KafkaInspection(self.bench.events).read(
                Topic.USAGE_STATS.value, "beginning", follow=False
            )
        ]
        async with open_publisher(self.bench.events) as publisher:
            await publisher.publish(outgoing)


def _model_call(tenant: str, user: str) -> Event:
    return Event.new(
        event_type="model.usage.recorded",
        source="model-router",
        tenant_id=tenant,
        partition_key=user,
        data={"user_id": user, "prompt_tokens": "100", "cost_micro_usd": str(COST_MICRO_USD)},
    )


@pytest_asyncio.fixture
async def mesh(database_settings: DatabaseSettingsFor, kafka_server: str) -> AsyncIterator[Mesh]:
    events = EventSettings(
        url=f"kafka://{kafka_server}", topic_prefix=f"samples-{secrets.token_hex(4)}.", partitions=4
    )
    settings = await database_settings()
    async with open_database(settings, "session") as database:
        bench = EventBench(database, settings, events)
        async with bench.relaying():
            yield Mesh(bench, [new_id(), new_id()], [])


@contextlib.asynccontextmanager
async def running(script: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a sample; kill it at the end of the block if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SAMPLES / script), *map(str, arguments)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def to_its_end(script: str, *arguments: object) -> str:
    """Run a sample to its end and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SAMPLES / script), *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()


@pytest.mark.promise("SC-01")
async def test_the_python_consumer_adds_each_event_once_whatever_happens(
    mesh: Mesh, tmp_path: Path
) -> None:
    file = tmp_path / "costs.sqlite"
    command = ("python_consumer/consumer.py", mesh.broker, file, "--topic", mesh.topic)
    group = f"team-{secrets.token_hex(4)}"
    await mesh.publish(400)
    await mesh.arrived()
    async with running(*command, "--group", group) as first:
        await eventually(lambda: calls(file) > 0, timeout_seconds=PATIENCE_SECONDS)
        first.kill()
        await first.wait()
    # The same group, which goes on at its offset: nothing may be behind that and not added.
    async with running(*command, "--group", group):
        await eventually(lambda: calls(file) == 400, timeout_seconds=PATIENCE_SECONDS)
    await mesh.publish_again()
    await mesh.publish(100)
    # As after offsets were lost: a group that has read nothing yet.
    async with running(*command, "--group", f"{group}-again") as second:
        await eventually(lambda: calls(file) == 500, timeout_seconds=PATIENCE_SECONDS)
        second.send_signal(signal.SIGTERM)
        assert 0 == await second.wait()
    with contextlib.closing(sqlite3.connect(file)) as database:
        sums = dict(database.execute("SELECT tenant_id, sum(cost_micro_usd) FROM costs GROUP BY 1"))
    assert sums == dict.fromkeys(mesh.tenants, 250 * COST_MICRO_USD)


def calls(file: Path) -> int:
    """Return how many calls the sample has counted so far."""
    if not file.exists():
        return 0
    with contextlib.closing(sqlite3.connect(file)) as database:
        try:
            return int(database.execute("SELECT coalesce(sum(calls), 0) FROM costs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.mark.promise("SC-02")
async def test_an_exported_topic_is_queried_by_sql(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    await mesh.publish(60)
    await mesh.arrived()
    await mesh.publish_again()
    await to_its_end("sql_export/export.py", "export", mesh.broker, mesh.topic, file)
    statement = (SAMPLES / "sql_export" / "cost_per_tenant_and_day.sql").read_text("utf-8")
    table = await to_its_end("sql_export/export.py", "query", file, statement)
    exported = [json.loads(line)["event_id"] for line in file.read_text("utf-8").splitlines()]
    assert sorted(exported) == sorted(event.event_id for event in mesh.published)
    head, *rows = (line.split("\t") for line in table.splitlines())
    assert head == ["tenant_id", "day", "calls", "tokens", "cost_usd"]
    assert {row[0] for row in rows} == set(mesh.tenants)
    assert 60 == sum(int(row[2]) for row in rows)
    assert 6000 == sum(int(row[3]) for row in rows)
    assert sum(float(row[4]) for row in rows) == pytest.approx(60 * COST_MICRO_USD / 1e6)


@pytest.mark.promise("SC-03")
async def test_the_sink_has_each_event_in_exactly_one_row_however_often_it_is_killed(
    mesh: Mesh, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    command = ("lakehouse_sink/sink.py", mesh.broker, mesh.topic, lake)
    often = ("--rows", "20", "--seconds", "0.2")
    await mesh.publish(600)
    await mesh.arrived()
    kills: list[Callable[[], bool]] = [
        lambda: commits(lake) >= 1,
        lambda: commits(lake) >= 4,
        lambda: left_over(lake),
        lambda: commits(lake) >= 9,
    ]
    for due in kills:
        async with running(*command, *often) as sink:
            await eventually(
                lambda due=due, sink=sink: due() or sink.returncode is not None,  # type: ignore[misc]
                timeout_seconds=PATIENCE_SECONDS,
            )
            sink.kill()
            await sink.wait()
    await mesh.publish(100)
    await mesh.arrived()
    await to_its_end(*command, "--once")
    # First without the duplicates, which would make up for what was lost.
    assert Counter(rows_of(lake)) == Counter(event.event_id for event in mesh.published)
    await mesh.publish_again()
    await to_its_end(*command, "--once")
    done = commits(lake)
    await to_its_end(*command, "--once")
    assert commits(lake) == done, "it goes on where the newest manifest says"
    assert not left_over(lake)
    assert Counter(rows_of(lake)) == Counter(event.event_id for event in mesh.published)


def commits(lake: Path) -> int:
    return len(list((lake / "manifest").glob("[0-9]*.json")))


def left_over(lake: Path) -> bool:
    """Return whether there is a file that no manifest names, yet."""
    return bool(set(lake.glob("data/*/*")) - set(committed(lake)))


def committed(lake: Path) -> list[Path]:
    manifests = sorted((lake / "manifest").glob("[0-9]*.json"))
    return [lake / name for one in manifests for name in json.loads(one.read_text())["files"]]


def rows_of(lake: Path) -> list[str]:
    """Return the ids of all rows that count."""
    files = committed(lake)
    assert len(files) == len(set(files))
    tables = (parquet.read_table(file, columns=["event_id"]) for file in files)
    return [event_id for table in tables for event_id in table["event_id"].to_pylist()]


@pytest.mark.promise("SC-03")
async def test_a_second_sink_on_the_same_lake_does_not_start(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.publish(2)
    await mesh.arrived()
    command = ("lakehouse_sink/sink.py", mesh.broker, mesh.topic, tmp_path / "lake")
    async with running(*command, "--rows", "1"):
        await eventually(lambda: commits(tmp_path / "lake") > 0, timeout_seconds=PATIENCE_SECONDS)
        async with running(*command) as second:
            assert await second.wait() != 0


@pytest.mark.promise("SC-04")
async def test_the_samples_use_nothing_of_ours() -> None:
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for script in SAMPLES.rglob("*.py")
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"aiokafka", "pyarrow"}
