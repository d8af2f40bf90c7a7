"""Turns that are cancelled right after the process that worked on them died."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from bench.measurement import Measurement
from bench.percentiles import summarise
from bench.platform_target import platform
from bench.processes import Placement, ProcessError
from bench.targets import RunningTarget, Target
from bench.task_storm import pid_of

NAME: Final = "turn_cancel"
ABOUT: Final = (
    "five times 100 turns, as many as a tenant may have, whose orchestrator process is killed, "
    "then cancelled, 50 at a time, and the next question asked in each session: from asking to "
    "cancel until that answer is there, the start of a new process included, and what of it is "
    "the answer; on both cores, the generator on the first"
)
TURNS: Final = 100
ROUNDS, QUICK_ROUNDS = 5, 1
AT_ONCE: Final = 50
AGAIN_SECONDS: Final = 0.1
STEADY_SECONDS: Final = 12.0
"""Between two kills: one that dies within 10 s of its start is held back by its supervisor."""
LIMIT_SECONDS: Final = 120.0
_LONG: Final = {"message": "sim-ttft120000-n1", "model": "sim"}
_SHORT: Final = {"message": "sim-ttft0-n1", "model": "sim"}
_PASSING: Final = (
    *(HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY),
    *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
)
"""Answers upon which a careful client asks again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that has begun."""

    turn_id: str
    session_id: str


def measure(
    *, upstream: RunningTarget, place: Placement, scratch: Path, quick: bool
) -> list[Measurement]:
    """Measure the platform of one process a service, once. Raises: ProcessError, TimeoutError."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    # The goal is one of two cores.
    wide = Placement(place.load, place.load | place.system)
    with platform(scratch / NAME, upstream_url=upstream.url, split=True, place=wide) as running:
        values = asyncio.run(_run(running.url, running.api_key, running.child.pid, rounds))
    return [Measurement(NAME, Target.PLATFORM_SPLIT, 0, values)]


async def _run(url: str, api_key: str, root_pid: int, rounds: int) -> dict[str, float]:
    cancels: list[float] = []
    answers: list[float] = []
    usable: list[float] = []
    async with aiohttp.ClientSession(
        url,
        headers={"authorization": f"Bearer {api_key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(LIMIT_SECONDS),
    ) as client:
        for _ in range(rounds):
            await asyncio.sleep(STEADY_SECONDS)
            async with AsyncExitStack() as stack:
                turns = await asyncio.gather(*(_begun(client, stack) for _ in range(TURNS)))
                _kill(root_pid)
                waiting = iter(turns)
                async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(_cancel_all(client, waiting, cancels, answers, usable))
    said, answered, after = summarise(cancels), summarise(usable), summarise(answers)
    return {
        "cancelled": float(len(cancels)),
        "cancel_p50_s": said.p50,
        "cancel_longest_s": said.max,
        "answer_p50_s": after.p50,
        "answer_p99_s": after.p99,
        "usable_p50_s": answered.p50,
        "usable_p99_s": answered.p99,
        "usable_longest_s": answered.max,
    }


def _kill(root_pid: int) -> None:
    pid = pid_of(root_pid, "orchestrator")
    if pid is None:
        raise ProcessError("no process of the orchestrator is running")
    os.kill(pid, signal.SIGKILL)


async def _begun(client: aiohttp.ClientSession, stack: AsyncExitStack) -> Turn:
    """Ask a question whose answer takes long; its stream stays open until the end."""
    answer = await stack.enter_async_context(client.post("/api/v1/chat", json=_LONG))
    async for line in answer.content:
        if answer.status != HTTPStatus.OK:
            raise ProcessError(f"a turn was refused: {answer.status} {line!r}")
        if line.startswith(b"data: "):
            data = orjson.loads(line.removeprefix(b"data: "))
            return Turn(data["turn_id"], data["session_id"])
    raise ProcessError("a turn ended before it began")


async def _cancel_all(
    client: aiohttp.ClientSession,
    turns: Iterable[Turn],
    cancels: list[float],
    answers: list[float],
    usable: list[float],
) -> None:
    for turn in turns:
        asked = time.perf_counter()
        said = await _careful(client, f"/api/v1/turns/{turn.turn_id}/cancel", {})
        if b'"cancelled"' not in said:
            raise ProcessError(f"a turn was not cancelled: {said!r}")
        cancelled = time.perf_counter()
        cancels.append(cancelled - asked)
        said = await _careful(client, "/api/v1/chat", {**_SHORT, "session_id": turn.session_id})
        if b"event: turn.completed" not in said:
            raise ProcessError(f"a session's next turn was not answered: {said!r}")
        usable.append(time.perf_counter() - asked)
        answers.append(time.perf_counter() - cancelled)


async def _careful(client: aiohttp.ClientSession, path: str, body: dict[str, str]) -> bytes:
    """Post, again while the answer is one that passes."""
    while True:
        with suppress(aiohttp.ClientError):
            async with client.post(path, json=body) as answer:
                said = await answer.read()
            if answer.status == HTTPStatus.OK:
                return said
            if answer.status not in _PASSING:
                raise ProcessError(f"{path} answered {answer.status}: {said!r}")
        await asyncio.sleep(AGAIN_SECONDS)
