"""A process that owns a data folder and runs its engines until SIGTERM: python … DATA.

When ready it prints one line of JSON: the engines' pids, and what an earlier run wrote.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import asyncpg

from meshwright_cli.engines.data_folder import own
from meshwright_cli.engines.running import run_engines
from meshwright_common.storage.embedded import postgres, wheels


async def main(data: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with own(data) as folder:
        async with run_engines(folder) as engines:
            connection = await asyncpg.connect(engines.superuser_url)
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (body text PRIMARY KEY)")
            await connection.execute("INSERT INTO kept VALUES ('kept') ON CONFLICT DO NOTHING")
            kept = await connection.fetchval("SELECT body FROM kept")
            await connection.close()
            print(json.dumps({"pids": engines.pids, "kept": kept}), flush=True)
            await stopped.wait()


if __name__ == "__main__":
    if cache := os.environ.get("CACHE_PARENT"):
        wheels.CACHE_PARENTS = (Path(cache),)
    if patience := os.environ.get("LOCK_PATIENCE"):
        postgres.STOP_LADDER = ((signal.SIGINT, float(patience)), (signal.SIGQUIT, 5.0))
    asyncio.run(main(Path(sys.argv[1])))
