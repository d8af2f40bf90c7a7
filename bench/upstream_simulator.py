"""A simulated provider; each request says itself what it gets (directives.py).

    python -m bench.upstream_simulator --port 0      prints `listening 127.0.0.1:PORT`

Serves POST /v1/chat/completions, /v1/embeddings, /v1/rerank, /v1/moderations, Anthropic's
/v1/messages, Azure's addresses below /openai, GET /v1/models and, for tests, GET
/simulator/counters and /simulator/requests. Tests of the platform use it as their provider,
as a process or inside their own event loop:

    async with simulator(record=True) as provider:
        ... provider.base_url, provider.counters, provider.requests
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from bench.simulator_connection import SimulatorConnection
from bench.simulator_state import Simulator


@asynccontextmanager
async def simulator(*, port: int = 0, record: bool = False) -> AsyncIterator[Simulator]:
    """Serve on the running event loop, on loopback; `port` 0 takes a free one."""
    running = Simulator(record=record)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SimulatorConnection(running), "127.0.0.1", port, backlog=2048
    )
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


async def _serve(port: int, *, record: bool) -> None:
    async with simulator(port=port, record=record) as running:
        print(f"listening 127.0.0.1:{running.port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted or terminated."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free port")
    arguments.add_argument("--record", action="store_true", help="keep the last requests")
    options = arguments.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(options.port, record=options.record))
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
