"""A process that does what its environment says, for the tests of supervision.

SAMPLE_PLAN is "serve" or "refuse" (say why and exit). It answers health checks at
MESHWRIGHT_RPC__LISTEN and notes a peaceful end in the file SAMPLE_ENDS.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc.aio

from meshwright_common.health import Health


async def serve(name: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    health = Health(())
    server = grpc.aio.server()
    await health.register(server)
    server.add_insecure_port(os.environ["MESHWRIGHT_RPC__LISTEN"])
    await server.start()
    await health.serve()
    sys.stdout.write(f"serving {name} {os.getpid()}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(1)


def main() -> None:
    name = os.environ["SAMPLE_NAME"]
    if os.environ["SAMPLE_PLAN"] == "refuse":
        sys.exit("MESHWRIGHT_CHAT__SWEEP_SECONDS: must be a number")
    asyncio.run(serve(name))
    with Path(os.environ["SAMPLE_ENDS"]).open("a") as ends:
        ends.write(f"{name}\n")


main()
