"""What a step of an agent costs that does nothing, beside LangGraph: bare, and with its journal."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg

from bench.durable_database import durable_server
from bench.measurement import Measurement
from bench.processes import ProcessError, module, repository
from bench.targets import Target, peer_python

NAME: Final = "steps"
ABOUT: Final = (
    "ms of a step of a loop of 25 (a model that calls a tool, and the tool, which do nothing): the "
    "decision alone; and journaled in one PostgreSQL, sealed, one task at a time and 32 at once, "
    "accepting and ending the task included. LangGraph without a checkpointer, and with its "
    "PostgreSQL saver, durability sync (as ours) and async (its default). Every commit is flushed: "
    "two a step there (writes and checkpoint), one here. cpu: of the process, without PostgreSQL. "
    "flushed insert: one row as large as a step, alone on one connection: what no step can be below"
)
STEPS: Final = 25
AT_ONCE: Final = 32
BARE_RUNS, QUICK_BARE_RUNS = 1_000, 100
RUNS, QUICK_RUNS = 256, 64
ALONE_RUNS, QUICK_ALONE_RUNS = 40, 8
LIMIT_SECONDS: Final = 600.0
INSERTS, QUICK_INSERTS = 2_000, 400
STEP_BYTES: Final = 280
"""Of a sealed step of these."""


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Run LangGraph and the orchestrator in turns. Raises: ProcessError."""
    langgraph = [peer_python("langgraph"), str(repository() / "bench/peers/langgraph_steps.py")]
    ours = module("bench.step_process")
    measurements: list[Measurement] = []
    with durable_server(scratch) as (settings, superuser):
        for repeat in range(repeats):
            theirs = _steps(langgraph, superuser, quick=quick)
            mine = _steps(ours, settings.url, quick=quick)
            ratios = {
                name.replace("_ms", "_vs_langgraph"): value / theirs[name]
                for name, value in mine.items()
            }
            floor = asyncio.run(_flushed_insert_ms(superuser, QUICK_INSERTS if quick else INSERTS))
            measurements += [
                Measurement(NAME, Target.LANGGRAPH, repeat, theirs),
                Measurement(NAME, Target.WORKER, repeat, mine | ratios),
                Measurement(NAME, Target.RAW, repeat, {"flushed_insert_ms": floor}),
            ]
    return measurements


async def _flushed_insert_ms(database: str, inserts: int) -> float:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS flushed (n bigint, outcome bytea)")
        insert = await connection.prepare("INSERT INTO flushed VALUES ($1, $2)")
        outcome = bytes(STEP_BYTES)
        began = time.perf_counter()
        for number in range(inserts):
            await insert.fetch(number, outcome)
        return (time.perf_counter() - began) / inserts * 1e3
    finally:
        await connection.close()


def _steps(command: Sequence[str], database: str, *, quick: bool) -> dict[str, float]:
    bare_runs = QUICK_BARE_RUNS if quick else BARE_RUNS
    values = {"bare_step_ms": _run(command, "--bare-runs", bare_runs)["bare"]}
    for at_once, runs in (
        (1, QUICK_ALONE_RUNS if quick else ALONE_RUNS),
        (AT_ONCE, QUICK_RUNS if quick else RUNS),
    ):
        found = _run(command, "--runs", runs, "--at-once", at_once, "--database", database)
        for durability, took in found.items():
            values[f"{durability}_step_{at_once}_at_once_ms"] = took
    return values


def _run(command: Sequence[str], *words: str | int) -> Mapping[str, float]:
    done = subprocess.run(
        [*command, "--steps", str(STEPS), *map(str, words)],
        cwd=repository(),
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    if done.returncode:
        raise ProcessError(f"{command[-1]} ended with {done.returncode}: see above")
    found: Mapping[str, float] = json.loads(done.stdout)
    return found
