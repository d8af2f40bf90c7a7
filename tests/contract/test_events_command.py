"""`meshwright events` as operators type it, on every event log there is."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from meshwright_cli.exits import Exit
from meshwright_common.dispatch.backbone import open_dispatch
from meshwright_common.dispatch.status import AgentStatus
from meshwright_common.events.consumer import EventRejected
from meshwright_common.events.envelope import Event
from meshwright_common.settings import DispatchSettings
from meshwright_common.storage.postgres import Connection
from meshwright_common.testing.event_bench import CONSUMER, TOPIC, EventBench, write_effect
from meshwright_common.testing.waiting import eventually
from tests.platform_process import COMMAND, clean_environment

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

TIMEOUT_SECONDS = 40.0
POISON = 13


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    error: str

    @property
    def values(self) -> Any:
        """What it printed with --json."""
        assert self.code == Exit.OK, self.error
        return json.loads(self.out)


def environment(bench: EventBench) -> dict[str, str]:
    return {
        **clean_environment(),
        "MESHWRIGHT_DATABASE__URL": bench.settings.url,
        "MESHWRIGHT_EVENTS__URL": bench.events.url,
        "MESHWRIGHT_EVENTS__TOPIC_PREFIX": bench.events.topic_prefix,
    }


async def events(bench: EventBench, *arguments: str, more: Mapping[str, str] | None = None) -> Done:
    """Run `meshwright events …` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "events", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(bench), **(more or {})},
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    assert b"Traceback" not in error, error.decode()
    return Done(process.returncode, out.decode(), error.decode())


@pytest.mark.promise("EO-07")
async def test_an_operator_finds_a_poison_event_and_hands_it_back(bench: EventBench) -> None:
    mended = False

    async def handle(connection: Connection, event: Event) -> None:
        if event.data["number"] == POISON and not mended:
            raise EventRejected("thirteen is not welcome\nnot at all")
        await write_effect(connection, event)

    poison = bench.event(POISON)
    async with bench.consuming(handle):
        await bench.publish(bench.event(1), poison, bench.event(2))
        await bench.until_effects(2)
        listed = await events(bench, "dlq", "list", "--consumer", CONSUMER)
        shown = await events(bench, "dlq", "show", poison.event_id)
        lags = (await events(bench, "lag", "--json")).values
        mended = True
        unasked = await events(bench, "dlq", "replay", poison.event_id, "--consumer", CONSUMER)
        assert await bench.effect_numbers() == [1, 2]
        replayed = await events(
            *(bench, "dlq", "replay", poison.event_id, "--consumer", CONSUMER, "--yes")
        )
        await bench.until_effects(3)
        again = await events(*(bench, "dlq", "replay", "--all", "--consumer", CONSUMER, "--yes"))
        gone = await events(bench, "dlq", "show", poison.event_id)
    assert poison.event_id in listed.out
    assert "thirteen is not welcome" in listed.out
    assert "not at all" in shown.out
    assert f'"number": {POISON}' in shown.out
    assert f"ce_id: {poison.event_id}" in shown.out
    (lag,) = lags["consumers"]
    assert (lag["consumer"], lag["topic"], lag["dead_letters"]) == (CONSUMER, TOPIC.value, 1)
    # Only events that leave PostgreSQL can wait in it for a broker.
    assert (lags["outbox"] is None) == (bench.events.url == "embedded:")
    assert unasked.code == Exit.REFUSED
    assert "--yes" in unasked.error
    assert "1 dead letters were handed back" in replayed.out
    assert "no such dead letters" in again.out
    assert gone.code == Exit.FAILED
    assert sorted(await bench.effect_numbers()) == [1, 2, POISON]


@pytest.mark.promise("EO-07")
async def test_a_topic_is_watched_in_lines_and_in_json(bench: EventBench) -> None:
    mine, other = bench.event(1, key="anna"), bench.event(2, key="bert\x1b[2J")
    await bench.publish(mine, other)

    async def logged() -> bool:
        topics = (await events(bench, "topics", "--json")).values
        return (TOPIC.value, 2) in {(one["topic"], one["events"]) for one in topics}

    await eventually(logged, timeout_seconds=TIMEOUT_SECONDS)
    tail = ("tail", TOPIC.value, "--from", "beginning")
    lines = await events(bench, *tail, "--count", "2")
    whole = await events(bench, *tail, "--json", "--key", "anna", "--no-follow")
    nothing = await events(bench, *tail, "--type", "agent.task.completed", "--no-follow")
    assert "\x1b" not in lines.out
    assert sorted(line.split("  ")[4] for line in lines.out.splitlines()) == [
        '{"number":1}', '{"number":2}',
    ]  # fmt: skip
    (event,) = (json.loads(line) for line in whole.out.splitlines())
    assert event["body"]["event_id"] == event["headers"]["ce_id"] == mine.event_id
    assert (event["tenant_id"], event["key"]) == (bench.tenant, "anna")
    assert nothing.out == ""


@pytest.fixture
def _interrupts_are_heard() -> Iterator[None]:
    """A shell's background ignores SIGINT, which commands inherit: not those of this test."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.promise("EO-07")
@pytest.mark.usefixtures("_interrupts_are_heard")
async def test_ctrl_c_ends_a_tail_cleanly(bench: EventBench) -> None:
    await bench.publish(bench.event(1))
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "events", "tail", TOPIC.value, "--from", "1h"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(bench),
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert b'{"number":1}' in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()
    assert (process.returncode, error) == (Exit.OK, b"")


@pytest.mark.promise("EO-07")
async def test_a_time_range_is_counted_first_and_then_handed_over(bench: EventBench) -> None:
    async def write_once(connection: Connection, event: Event) -> None:
        if event.event_id not in await ids(connection):
            await write_effect(connection, event)

    async def ids(connection: Connection) -> list[str]:
        rows = await connection.fetch(
            "SELECT event_id FROM session.effects WHERE tenant_id = $1", bench.tenant
        )
        return [row["event_id"] for row in rows]

    span = ("--consumer", CONSUMER, "--from", "1h", "--to", "2100-01-01")
    async with bench.consuming(write_once):
        await bench.publish(*(bench.event(number) for number in range(5)))
        await bench.until_effects(5)
        counted = await events(bench, "replay", *span, "--dry-run")
        limited = await events(bench, "replay", *span, "--limit", "4", "--yes")
        replayed = await events(bench, "replay", *span, "--yes", "--reason", "ledger restored")
    assert f"{TOPIC.value}: 5 events, {CONSUMER} has handled 5" in counted.out
    assert limited.code == Exit.REFUSED
    assert "--limit 4" in limited.error
    assert "5 events were handed to" in replayed.out
    assert sorted(await bench.effect_numbers()) == [0, 1, 2, 3, 4]


@pytest.mark.promise("EO-07")
@pytest.mark.parametrize("bench", ["embedded"], indirect=True)
@pytest.mark.parametrize("engine", ["embedded", "rabbitmq"])
async def test_agents_are_heard_as_they_tell_how_they_do(
    bench: EventBench, engine: str, request: pytest.FixtureRequest
) -> None:
    settings = DispatchSettings()
    if engine == "rabbitmq":
        url = request.getfixturevalue("rabbitmq_server")
        settings = DispatchSettings(url=url, prefix=f"test-{secrets.token_hex(4)}.")
    more = {
        "MESHWRIGHT_DISPATCH__URL": settings.url,
        "MESHWRIGHT_DISPATCH__PREFIX": settings.prefix,
    }
    told = AgentStatus("one", "rag\x1b[2J", "online", 70, 0.5, 1.0, 2, 0.0)
    async with (
        open_dispatch(settings, bench.database, ()) as dispatch,
        asyncio.TaskGroup() as group,
    ):
        tail = group.create_task(events(bench, "tail", "agent_status", "--count", "2", more=more))
        # Nothing is kept for who comes later: go on until it has heard two.
        while not tail.done():
            await dispatch.board.publish(told)
            await asyncio.wait([tail], timeout=0.2)
    done = tail.result()
    assert done.code == Exit.OK, done.error
    assert [json.loads(line) for line in done.out.splitlines()] == [asdict(told)] * 2
    assert "\x1b" not in done.out


WRONG = {
    "an unknown topic": (("tail", "usage"), "usage.stats"),
    "an unknown moment": (("tail", "usage.stats", "--from", "yesterday"), "2026-11-28T03:00"),
    "an unknown consumer": (
        ("replay", "--consumer", "nobody", "--from", "2h", "--to", "1h", "--yes"),
        "no such consumer",
    ),
    "a range that ends before it begins": (
        ("replay", "--consumer", CONSUMER, "--from", "1h", "--to", "2h"),
        "is not before --to",
    ),
    "an id that is none": (("dlq", "show", "42"), "has the form"),
    "a tenant that is none": (("dlq", "list", "--tenant", "acme"), "has the form"),
    "neither ids nor all": (("dlq", "replay", "--consumer", CONSUMER, "--yes"), "--all"),
    "no consumer": (("dlq", "replay", "--all"), "--consumer"),
    "a count that is none": (
        ("tail", "usage.stats", "--count", "-1"),
        "greater than or equal to 0",
    ),
}


@pytest.mark.promise("EO-07")
@pytest.mark.parametrize("bench", ["embedded"], indirect=True)
@pytest.mark.parametrize("mistake", WRONG)
async def test_a_mistake_is_told_with_what_is_right(bench: EventBench, mistake: str) -> None:
    arguments, advice = WRONG[mistake]
    done = await events(bench, *arguments)
    assert done.code == Exit.REFUSED
    assert advice in " ".join(done.error.replace("│", " ").split())


@pytest.mark.promise("EO-06")
@pytest.mark.parametrize("bench", ["embedded"], indirect=True)
async def test_the_wrong_login_and_the_wrong_place_are_told(
    bench: EventBench, tmp_path: Path
) -> None:
    service = {"MESHWRIGHT_DATABASE__URL": bench.settings.url_for("session")}
    refused = await events(bench, "lag", more=service)
    nowhere = {"MESHWRIGHT_DATABASE__URL": "embedded:"}
    nothing = await events(bench, "lag", "--data", str(tmp_path), more=nowhere)
    away = {"MESHWRIGHT_DATABASE__URL": "postgresql://meshwright_owner:x@127.0.0.1:9/meshwright"}
    unreachable = await events(bench, "lag", more=away)
    broker = {"MESHWRIGHT_EVENTS__URL": "kafka://127.0.0.1:9"}
    no_broker = await events(bench, "topics", more=broker)
    assert refused.code == Exit.REFUSED
    assert "MESHWRIGHT_DATABASE__URL" in refused.error
    assert "{service}" in refused.error
    assert nothing.code == Exit.NOT_RUNNING
    assert unreachable.code == Exit.FAILED
    assert "database" in unreachable.error
    assert no_broker.code == Exit.FAILED
    assert "Kafka cannot be reached" in no_broker.error
