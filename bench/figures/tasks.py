"""Submitted tasks of a platform: accepted at a rate, behind a backlog, while processes die."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from bench.measurement import Measurement
from bench.percentiles import summarise
from bench.platform_target import RunningPlatform, platform, superuser_url
from bench.process_usage import cpu_seconds
from bench.processes import Placement, ProcessError
from bench.storm_recovery import WORKERS, DeathLog
from bench.targets import RunningTarget, Target
from bench.task_storm import Killer, Submitting, all_ended, verdict
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.servers.rabbitmq import RabbitServer

ACCEPT, BACKLOG, STORM = "task_accept", "task_backlog", "task_storm"
ABOUT: Final = {
    ACCEPT: (
        "POST /api/v1/tasks at 200 a second, until 202: the task is stored; workers run them "
        "beside it, on both cores, the generator on the first; CPU of all: accepted, run, told"
    ),
    BACKLOG: (
        "5 000 tasks of normal priority before workers that do 60 a second, through RabbitMQ: how "
        "long a task of high priority waits for its worker, without them and behind them; what "
        "becomes of low priority; the gauge beside the table"
    ),
    STORM: (
        "10 000 tasks, 100 a second, while a process of each service in turn is killed at a random "
        "moment, one in 3 s, four rounds with the orchestrator twice in each, and the orchestrator "
        "also at its crash points: lost, doubled, and how soon what a dead process had goes on; "
        "on both cores, the generator on the first"
    ),
}
RATE: Final = 200.0
SECONDS, QUICK_SECONDS = 10.0, 4.0
WAITING, QUICK_WAITING = 5_000, 1_500
URGENT: Final = 40
URGENT_PER_SECOND: Final = 5.0
TASKS, QUICK_TASKS = 10_000, 2_000
STORM_PER_SECOND: Final = 100.0
ROUNDS, QUICK_ROUNDS = 4, 1
LOOK_SECONDS: Final = 1.0
STORM_LIMIT_SECONDS: Final = 1500.0
FAILPOINTS: Final = (
    "task-enqueued",
    "task-claimed",
    "step-journaled",
    "task-ended",
    "model-answered",
    "tool-answered",
)
_NOOP: Final = {"agent": "noop", "message": "Go"}
_SLOW: Final = {"agent": "chat", "model": "sim", "message": "sim-ttft200-n1"}


def measure(
    wanted: set[str],
    target: Target,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
    quick: bool,
) -> list[Measurement]:
    """Run those that are wanted, each on a platform of its own, once. Raises: ProcessError."""
    measurements = []
    if ACCEPT in wanted:
        # The goal is one of two cores.
        wide = Placement(place.load, place.load | place.system)
        with _running(target, upstream, wide, scratch / f"{ACCEPT}-{target}", {}) as running:
            values = asyncio.run(_accept(running, QUICK_SECONDS if quick else SECONDS))
        measurements.append(Measurement(ACCEPT, target, 0, values))
    # One process: the members of a split platform cannot share the port of the metrics.
    if BACKLOG in wanted and target is Target.PLATFORM:
        settings = {
            "MESHWRIGHT_ORCHESTRATOR__WORKER_SLOTS": "16",
            "MESHWRIGHT_TELEMETRY__METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        }
        folder = scratch / f"{BACKLOG}-{target}"
        with (
            _rabbitmq(scratch / f"{BACKLOG}-{target}-rabbitmq") as rabbit,
            _running(target, upstream, place, folder, settings | rabbit) as running,
        ):
            count = QUICK_WAITING if quick else WAITING
            values = asyncio.run(_backlog(running, folder, count, settings))
        measurements.append(Measurement(BACKLOG, target, 0, values))
    if STORM in wanted and target is Target.PLATFORM_SPLIT:
        settings = {
            "MESHWRIGHT_ORCHESTRATOR__BACKLOG_LIMIT": "100000",
            "MESHWRIGHT_ORCHESTRATOR__MAX_ATTEMPTS": "20",
            "MESHWRIGHT_FAILPOINTS": ",".join(f"{point}=kill:0.0002" for point in FAILPOINTS),
        }
        folder = scratch / f"{STORM}-{target}"
        # The goal is one of two cores.
        wide = Placement(place.load, place.load | place.system)
        count, rounds = (QUICK_TASKS, QUICK_ROUNDS) if quick else (TASKS, ROUNDS)
        with _running(target, upstream, wide, folder, settings) as running:
            values = asyncio.run(_storm(running, folder, count, rounds))
        measurements.append(Measurement(STORM, target, 0, values))
    return measurements


async def _accept(running: RunningPlatform, seconds: float) -> dict[str, float]:
    async with _client(running) as client:
        await _submitted(client, _NOOP, count=200, per_second=RATE)
        before = cpu_seconds(running.child.pid)
        times = await _submitted(client, _NOOP, count=int(RATE * seconds), per_second=RATE)
        used = cpu_seconds(running.child.pid) - before
    summary = summarise(times, scale=1e3)
    return {
        "accept_p50_ms": summary.p50,
        "accept_p99_ms": summary.p99,
        "longest_ms": summary.max,
        "cpu_ms_per_task": 1e3 * used / len(times),
    }


async def _backlog(
    running: RunningPlatform, folder: Path, count: int, settings: Mapping[str, str]
) -> dict[str, float]:
    urgent = {**_NOOP, "priority": "high"}
    database = await asyncpg.connect(superuser_url(folder))
    try:
        async with _client(running) as client:
            await _submitted(client, urgent, count=URGENT, per_second=URGENT_PER_SECOND)
            await asyncio.sleep(1)
            alone = await _waits(database)
            await _submitted(client, _SLOW, count=count, per_second=2_000)
            waiting = int(await database.fetchval(_QUEUED))
            await _submitted(client, urgent, count=URGENT, per_second=URGENT_PER_SECOND)
            # The gauge is a second old at most.
            table = int(await database.fetchval(_QUEUED))
            gauge = await _gauge(client, settings["MESHWRIGHT_TELEMETRY__METRICS_LISTEN"])
            low = {**_NOOP, "priority": "low"}
            refusals = Counter([await _status(client, low) for _ in range(20)])
            await asyncio.sleep(3)
        behind = (await _waits(database))[len(alone) :]
    finally:
        await database.close()
    if len(alone) != URGENT or len(behind) != URGENT:
        raise ProcessError(f"{len(alone)} and {len(behind)} of {URGENT} urgent tasks were begun")
    before, after = summarise(alone, scale=1e3), summarise(behind, scale=1e3)
    return {
        "waiting": float(waiting),
        "urgent_alone_p50_ms": before.p50,
        "urgent_alone_p99_ms": before.p99,
        "urgent_behind_p50_ms": after.p50,
        "urgent_behind_p99_ms": after.p99,
        "low_refused_of_20": float(refusals[429] + refusals[503]),
        "gauge_of_table_percent": 100 * gauge / table,
    }


async def _storm(
    running: RunningPlatform, folder: Path, count: int, rounds: int
) -> dict[str, float]:
    submitting = Submitting(running.url, running.api_key, "storm")
    killer = Killer(running.child.pid, SERVICE_NAMES, random.Random(10))  # noqa: S311
    log = DeathLog(folder)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_look(log))
        async with asyncio.TaskGroup() as storm:
            storm.create_task(killer.kill_in_rounds(3.0, rounds))
            await submitting.submit(
                count, per_second=STORM_PER_SECOND, limit_seconds=STORM_LIMIT_SECONDS
            )
        await all_ended(superuser_url(folder), count, STORM_LIMIT_SECONDS)
        looking.cancel()
    seconds = time.monotonic() - began
    deaths = log.look()
    found = await verdict(superuser_url(folder), deaths)
    accepted = set(submitting.accepted.values())
    taken_over, held_up = found.recoveries.taken_over, found.recoveries.held_up
    recovery = summarise([*taken_over, *held_up])
    states = Counter(found.states.values())
    return {
        "accepted": float(len(accepted)),
        "kills": float(len(killer.kills)),
        "deaths": float(len(deaths)),
        "deaths_of_orchestrator": float(sum(death.service == WORKERS for death in deaths)),
        "not_stored_or_not_accepted": float(len(accepted ^ found.states.keys())),
        "not_one_end": float(sum(found.ends.get(one, 0) != 1 for one in accepted)),
        "not_one_event": float(sum(found.results.get(one, 0) != 1 for one in accepted)),
        "doubled_steps": float(found.doubled_steps),
        "doubled_charges": float(found.doubled_charges),
        "doubled_tool_calls": float(found.doubled_tools),
        "completed": float(states["completed"]),
        "failed": float(states["failed"]),
        "taken_over": float(len(taken_over)),
        "held_up": float(len(held_up)),
        "recovery_p50_s": recovery.p50,
        "recovery_p99_s": recovery.p99,
        "recovery_longest_s": recovery.max,
        "seconds": seconds,
    }


async def _look(log: DeathLog) -> None:
    while True:
        log.look()
        await asyncio.sleep(LOOK_SECONDS)


async def _submitted(
    client: aiohttp.ClientSession, body: Mapping[str, Any], *, count: int, per_second: float
) -> list[float]:
    """Submit on schedule; return the seconds until each was accepted, from when it was due."""
    times: list[float] = []
    began = time.perf_counter()

    async def submit(number: int) -> None:
        due = began + number / per_second
        await asyncio.sleep(due - time.perf_counter())
        async with client.post("/api/v1/tasks", json=body) as answer:
            if answer.status != 202:
                raise ProcessError(f"a task was refused: {answer.status} {await answer.text()}")
            await answer.read()
        times.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(submit(number))
    return times


async def _status(client: aiohttp.ClientSession, body: Mapping[str, Any]) -> int:
    async with client.post("/api/v1/tasks", json=body) as answer:
        await answer.read()
        return answer.status


async def _waits(database: asyncpg.Connection[Any]) -> list[float]:
    """Return the seconds that each urgent task waited for its worker, in their order."""
    return [float(row[0]) for row in await database.fetch(_URGENT)]


async def _gauge(client: aiohttp.ClientSession, listen: str) -> float:
    async with client.get(f"http://{listen}/metrics") as answer:
        said = await answer.text()
    values = re.findall(r"^meshwright_task_backlog\{[^}]*\} (\S+)$", said, re.M)
    return sum(map(float, values))


@contextmanager
def _running(
    target: Target,
    upstream: RunningTarget,
    place: Placement,
    folder: Path,
    settings: Mapping[str, str],
) -> Iterator[RunningPlatform]:
    with platform(
        folder,
        upstream_url=upstream.url,
        split=target is Target.PLATFORM_SPLIT,
        place=place,
        settings={"MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true", **settings},
    ) as running:
        yield running


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[dict[str, str]]:
    folder.mkdir()
    server = RabbitServer(folder)
    server.start()
    try:
        yield {"MESHWRIGHT_DISPATCH__URL": server.url}
    finally:
        server.stop()


def _client(running: RunningPlatform) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        running.url,
        headers={"authorization": f"Bearer {running.api_key}"},
        connector=aiohttp.TCPConnector(limit=64),
        timeout=aiohttp.ClientTimeout(60),
    )


_QUEUED: Final = "SELECT count(*) FROM orchestrator.tasks WHERE state = 'queued'"
_URGENT: Final = """
SELECT extract(epoch FROM min(r.changed_at) - t.created_at)::float8
  FROM orchestrator.tasks AS t
  JOIN orchestrator.transitions AS r USING (tenant_id, task_id)
 WHERE t.lane = 'high' AND r.state = 'running'
 GROUP BY t.task_id, t.created_at
 ORDER BY t.created_at
"""
