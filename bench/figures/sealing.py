"""What sealing costs: a message sealed and opened, a word blinded, stored messages sealed anew."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.durable_database import durable_database
from bench.measurement import Measurement
from bench.processes import ProcessError
from bench.targets import Target
from meshwright_common.encryption import Place, TenantKeys
from meshwright_common.encryption.resealing import reseal
from meshwright_common.encryption.rotation import rotate
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import key_ring

NAME: Final = "sealing"
ABOUT: Final = (
    "µs to seal and to open 1 KB and to blind a word, and rows/s that are sealed anew by a new "
    "data key in their table (20 k results of tools of 1 KB)"
)
ROWS: Final = 20_000
QUICK_ROWS: Final = 2_000
TIMES: Final = 50_000
QUICK_TIMES: Final = 5_000
CONTENT: Final = os.urandom(1024)
MASTER_KEY: Final = "bench"


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Fill a table once and seal it anew each time. Raises: ProcessError when rows are left."""
    with durable_database(scratch) as settings:
        return asyncio.run(_measure(settings, repeats=repeats, quick=quick))


async def _measure(settings: DatabaseSettings, *, repeats: int, quick: bool) -> list[Measurement]:
    tenant_id, times = new_id(), QUICK_TIMES if quick else TIMES
    count = QUICK_ROWS if quick else ROWS
    measurements = []
    async with open_operator_database(settings) as database:
        keys = await key_ring(database, MASTER_KEY).keys_of(tenant_id)
        await _fill(database, keys, count)
        place = Place("tool_exec.calls", "outcome", new_id())
        sealed = keys.seal(place, CONTENT)
        for repeat in range(repeats):
            values = {
                "seal_microseconds": _each(times, lambda: keys.seal(place, CONTENT)),
                "open_microseconds": _each(times, lambda: keys.open(place, sealed)),
                "blind_microseconds": _each(times, lambda: keys.blind(("word",))),
                "resealed_rows_per_second": await _reseal(database, tenant_id, count),
            }
            measurements.append(Measurement(NAME, Target.WORKER, repeat, values))
    return measurements


def _each(times: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e6


async def _fill(database: Database, keys: TenantKeys, count: int) -> None:
    task_ids = [new_id() for _ in range(count)]
    rows = [(keys.tenant_id, task_id, keys.seal(_place(task_id), CONTENT)) for task_id in task_ids]
    async with unit_of_work(database, keys.tenant_id) as connection:
        await connection.executemany(
            "INSERT INTO tool_exec.calls (tenant_id, task_id, step, call_index, tool,"
            " arguments_digest, effect, subject, run_id, state, outcome)"
            " VALUES ($1, $2, 1, 0, 'bench', sha256(''), 'read_only', 'bench', $2, 'done', $3)",
            rows,
        )


def _place(task_id: str) -> Place:
    return Place("tool_exec.calls", "outcome", f"{task_id}/1/0")


async def _reseal(database: Database, tenant_id: str, count: int) -> float:
    ring = key_ring(database, MASTER_KEY)
    await rotate(
        *(database, ring.masters, tenant_id), operator="operator/bench", usable_after_seconds=0
    )
    began = time.perf_counter()
    done = await reseal(database, ring, tenant_id)
    seconds = time.perf_counter() - began
    if done.rows != count or done.left or done.broken:
        raise ProcessError(f"{NAME}: {done}")
    return count / seconds
