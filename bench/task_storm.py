"""Tasks submitted while processes die: what was accepted, how it ended, how soon it went on.

Used at full size by the figure `task_storm`, and in small by the tests of faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx

from bench.directives import ReplyPlan
from bench.process_usage import tree
from bench.storm_recovery import WORKERS, Death, Recoveries, moments_of, recoveries

FINAL: Final = ("completed", "failed", "cancelled", "expired")
SUBMITTERS: Final = 16
AGAIN_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.5
SHORT: Final = ReplyPlan(tokens=8, tokens_per_second=100).directive()
"""A question whose answer takes a moment."""
CALCULATION: Final = ReplyPlan(tool="calculator", arguments='{"expression": "6*7"}').directive()
"""A question upon which the simulated model calls a tool before it answers."""


def body_of(number: int) -> dict[str, Any]:
    """Return the task of this number: of ten six do nothing, three ask a model, one uses a tool."""
    body: dict[str, Any] = {"agent": "noop", "message": f"Task {number}"}
    if number % 10 in {1, 4, 7}:
        body |= {"agent": "chat", "model": "sim", "message": SHORT}
    elif number % 10 == 8:
        body |= {"agent": "chat", "model": "sim", "message": CALCULATION}
    return body


@dataclass(slots=True)
class Submitting:
    """A careful client: the same key again until there is an answer."""

    url: str
    api_key: str
    name: str
    accepted: dict[int, str] = field(default_factory=dict)
    """The id of each task by its number."""
    waits: list[float] = field(default_factory=list)
    """Seconds that each answer took, of those that came at the first try."""

    async def submit(self, count: int, *, per_second: float, limit_seconds: float) -> None:
        """Submit so many tasks, some at a time, no faster than that. Raises: TimeoutError."""
        numbers = _paced(count, per_second)
        headers = {"authorization": f"Bearer {self.api_key}"}
        limits = httpx.Limits(max_connections=SUBMITTERS, max_keepalive_connections=SUBMITTERS)
        async with (
            asyncio.timeout(limit_seconds),
            httpx.AsyncClient(
                base_url=self.url, headers=headers, limits=limits, timeout=30
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(SUBMITTERS, count)):
                group.create_task(self._submit(client, numbers))

    async def _submit(
        self, client: httpx.AsyncClient, numbers: Iterator[tuple[int, float]]
    ) -> None:
        for number, due in numbers:
            await asyncio.sleep(due - time.monotonic())
            tries = 0
            while number not in self.accepted:
                began = time.perf_counter()
                tries += 1
                answer = await self._answer(client, number)
                if answer is None:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                self.accepted[number] = answer
                if tries == 1:
                    self.waits.append(time.perf_counter() - began)

    async def _answer(self, client: httpx.AsyncClient, number: int) -> str | None:
        headers = {"idempotency-key": f"{self.name}-{number}"}
        with suppress(httpx.TransportError):
            answer = await client.post("/api/v1/tasks", json=body_of(number), headers=headers)
            if answer.status_code == httpx.codes.ACCEPTED:
                task_id: str = answer.json()["task_id"]
                return task_id
            if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise AssertionError(f"task {number} was refused: {answer.text}")
        return None


def _paced(count: int, per_second: float) -> Iterator[tuple[int, float]]:
    """Yield numbers and when, on the monotonic clock, each is due."""
    began = time.monotonic()
    for number in range(count):
        yield number, began + number / per_second


class Killer:
    """Kills one of the services below a process at a time, at random."""

    def __init__(self, root_pid: int, services: Sequence[str], dice: random.Random) -> None:
        self._root_pid = root_pid
        self._services = services
        self._dice = dice
        self.kills: list[str] = []
        """Which service was killed each time."""

    def kill(self, service: str) -> None:
        """Kill it; do nothing when it is dead already."""
        pid = pid_of(self._root_pid, service)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.kills.append(service)

    async def kill_in_rounds(self, every_seconds: float, rounds: int) -> None:
        """Kill each of them so many times, and twice as often the one that holds the tasks."""
        for _ in range(rounds):
            await self.kill_each(every_seconds, more=(WORKERS,))

    async def kill_each(self, every_seconds: float, more: Sequence[str] = ()) -> None:
        """Kill each of them once, in any order, so long after all of them ran again."""
        services = [*self._services, *more]
        for service in self._dice.sample(services, len(services)):
            await self._all_run()
            await asyncio.sleep(every_seconds * self._dice.uniform(0.5, 1.5))
            self.kill(service)

    async def _all_run(self) -> None:
        while True:
            if all(pid_of(self._root_pid, service) for service in self._services):
                return
            await asyncio.sleep(LOOK_SECONDS)


def pid_of(root_pid: int, service: str) -> int | None:
    """Return the pid of a service's process below `root_pid`; None while it is away."""
    module = f"meshwright_{service.replace('-', '_')}".encode()
    for one in tree(root_pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{one.pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if words[-2:] == [module, b""]:
                return one.pid
    return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the stores say of the accepted tasks."""

    states: Mapping[str, str]
    ends: Mapping[str, int]
    results: Mapping[str, int]
    unended: int
    doubled_steps: int
    doubled_charges: int
    doubled_tools: int
    recoveries: Recoveries
    """For how long tasks stood still after deaths."""


async def all_ended(database_url: str, count: int, limit_seconds: float) -> None:
    """Wait until so many tasks have ended. Raises: TimeoutError."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(limit_seconds):
            while True:
                if await connection.fetchval(_ENDED, list(FINAL)) >= count:
                    return
                await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def verdict(database_url: str, deaths: Sequence[Death]) -> Verdict:
    """Read the stores of a platform at rest, as their superuser."""
    connection = await asyncpg.connect(database_url)
    try:
        states = await connection.fetch("SELECT task_id::text, state FROM orchestrator.tasks")
        ends = await connection.fetch(
            "SELECT task_id::text FROM orchestrator.transitions WHERE state = ANY ($1)",
            list(FINAL),
        )
        results = await connection.fetch(_RESULTS)
        doubled = [int(await connection.fetchval(query)) for query in _DOUBLED]
        moments = await moments_of(connection)
    finally:
        await connection.close()
    return Verdict(
        states={row["task_id"]: row["state"] for row in states},
        ends=Counter(row[0] for row in ends),
        results=Counter(row[0] for row in results),
        unended=sum(row["state"] not in FINAL for row in states),
        doubled_steps=doubled[0],
        doubled_charges=doubled[1],
        doubled_tools=doubled[2],
        recoveries=recoveries(deaths, moments),
    )


_ENDED: Final = "SELECT count(*) FROM orchestrator.tasks WHERE state = ANY ($1)"
_RESULTS: Final = """
SELECT convert_from(body, 'UTF8')::json -> 'data' ->> 'task_id'
  FROM events.outbox WHERE topic = 'task.result'
"""
_DOUBLED: Final = (
    "SELECT count(*) FROM (SELECT FROM orchestrator.steps"
    " GROUP BY tenant_id, task_id, step HAVING count(*) > 1) AS twice",
    # One of a step's calls is charged; what the platform repeated after a crash is not.
    "SELECT count(*) FROM (SELECT FROM model_router.model_usage"
    " WHERE operation = 'generate' AND outcome = 'completed' AND NOT repeated_by_platform"
    " GROUP BY tenant_id, task_id, step HAVING count(*) > 1) AS twice",
    "SELECT count(*) FROM (SELECT FROM tool_exec.calls"
    " GROUP BY tenant_id, task_id HAVING count(*) > 1) AS twice",
)
