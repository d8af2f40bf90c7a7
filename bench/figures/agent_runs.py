"""Runs of an agent that answers at once, through the whole API and stored, beside two peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from bench.measurement import Measurement
from bench.percentiles import summarise
from bench.platform_target import platform
from bench.process_usage import cpu_seconds
from bench.processes import Placement, ProcessError, child, repository
from bench.targets import RunningTarget, Target, peer_python
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.servers.postgres import DebianPostgres

NAME: Final = "agent_runs"
ABOUT: Final = (
    "runs/s of an agent that answers at once, by 32 connections that wait for the result: through "
    "the whole API, each stored as a durable task; LangGraph's development server (in memory, its "
    "runs without a thread) and Aegra (its threads in PostgreSQL) with a graph of one node"
)
CONNECTIONS: Final = 32
SECONDS, QUICK_SECONDS = 8.0, 3.0
START_SECONDS: Final = 180.0
NOOP: Final = {"MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true"}
_INPUT: Final = {"assistant_id": "agent", "input": {"text": "Go"}}

Run = Callable[[], Coroutine[Any, Any, None]]
"""Makes one run and waits for its result. Raises: ProcessError for any other answer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A system that runs the agent."""

    target: Target
    url: str
    pid: int
    api_key: str = ""


def measure(
    *, upstream: RunningTarget, place: Placement, scratch: Path, repeats: int, quick: bool
) -> list[Measurement]:
    """Run all of them side by side, and load them in turns. Raises: ProcessError."""
    measurements = []
    with ExitStack() as stack:
        peers = [
            stack.enter_context(_langgraph(place, scratch)),
            stack.enter_context(_aegra(place, scratch)),
            stack.enter_context(_ours(Target.PLATFORM, upstream, place, scratch)),
            stack.enter_context(_ours(Target.PLATFORM_SPLIT, upstream, place, scratch)),
        ]
        seconds = QUICK_SECONDS if quick else SECONDS
        for peer in peers:
            asyncio.run(_load(peer, seconds / 2))
        for repeat in range(repeats):
            rates: dict[Target, dict[str, float]] = {}
            for peer in (*peers[repeat % 4 :], *peers[: repeat % 4]):
                rates[peer.target] = asyncio.run(_load(peer, seconds))
            for target, values in rates.items():
                if target.is_platform:
                    for other in (Target.LANGGRAPH_SERVER, Target.AEGRA):
                        values[f"vs_{other.replace('-', '_')}"] = (
                            values["runs_per_second"] / rates[other]["runs_per_second"]
                        )
                measurements.append(Measurement(NAME, target, repeat, values))
    order = [peer.target for peer in peers]
    return sorted(measurements, key=lambda item: order.index(item.target))


async def _load(peer: Peer, seconds: float) -> dict[str, float]:
    times: list[float] = []
    before = cpu_seconds(peer.pid)
    headers = {"authorization": f"Bearer {peer.api_key}"} if peer.api_key else {}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(
        peer.url, headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(30)
    ) as client:
        runs = [await _run(peer.target, client) for _ in range(CONNECTIONS)]
        began = time.perf_counter()

        async def keep_running(run: Run) -> None:
            while (now := time.perf_counter()) < began + seconds:
                await run()
                times.append(time.perf_counter() - now)

        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(keep_running(run))
        elapsed = time.perf_counter() - began
    summary = summarise(times, scale=1e3)
    return {
        "runs_per_second": len(times) / elapsed,
        "latency_p50_ms": summary.p50,
        "latency_p99_ms": summary.p99,
        "cpu_ms_per_run": (cpu_seconds(peer.pid) - before) * 1e3 / len(times),
    }


async def _run(target: Target, client: aiohttp.ClientSession) -> Run:
    """Return how one connection makes its runs."""
    path, body, expected = "/runs/wait", _INPUT, b'"done"'
    if target is Target.AEGRA:
        async with client.post("/threads", json={}) as answer:
            thread = (await answer.json())["thread_id"]
        path = f"/threads/{thread}/runs/wait"
    elif target.is_platform:
        path, expected = "/api/v1/agents/execute", b"event: task.completed"
        body = {"agent": "noop", "message": "Go"}

    async def run() -> None:
        async with client.post(path, json=body) as answer:
            said = await answer.read()
        if answer.status != 200 or expected not in said:
            raise ProcessError(f"{target} answered {answer.status}: {said[:500]!r}")

    return run


@contextmanager
def _ours(
    target: Target, upstream: RunningTarget, place: Placement, scratch: Path
) -> Iterator[Peer]:
    with platform(
        scratch / f"{NAME}-{target}",
        upstream_url=upstream.url,
        split=target is Target.PLATFORM_SPLIT,
        place=place,
        settings=NOOP,
    ) as running:
        yield Peer(target, running.url, running.child.pid, running.api_key)


@contextmanager
def _langgraph(place: Placement, scratch: Path) -> Iterator[Peer]:
    folder = _graph_folder(scratch / "langgraph")
    program = str(Path(peer_python("langgraph-server")).with_name("langgraph"))
    port = free_port()
    command = [program, "dev", "--no-browser", "--no-reload", "--port", str(port)]
    # With its ten jobs at a time, all of them busy, it is at its best: a free one looks for work
    # once a second.
    command += ["--server-log-level", "ERROR"]
    environment = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    with child(
        command,
        ready=r"API: ",
        cores=place.system,
        timeout_seconds=START_SECONDS,
        environment=environment,
        # It reads langgraph.json there, and keeps its state there.
        folder=folder,
    ) as running:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(_answers(f"{url}/ok"))
        yield Peer(Target.LANGGRAPH_SERVER, url, running.pid)


@contextmanager
def _aegra(place: Placement, scratch: Path) -> Iterator[Peer]:
    folder = _graph_folder(scratch / "aegra")
    # Debian's server: it has the extension that Aegra's schema asks for.
    (scratch / "aegra-postgres").mkdir()
    server = DebianPostgres(scratch / "aegra-postgres")
    server.start()
    try:
        asyncio.run(_create_database(server.superuser_url))
        port = free_port()
        command = [peer_python("aegra"), "-m", "uvicorn", "aegra_api.main:app"]
        command += ["--port", str(port), "--no-access-log"]
        environment: Mapping[str, str] = {
            "DATABASE_URL": server.superuser_url.rpartition("/")[0] + "/aegra",
            "AEGRA_CONFIG": str(folder / "langgraph.json"),
            "LOG_LEVEL": "ERROR",
            # What its documentation names for load: more than its defaults.
            "SQLALCHEMY_POOL_SIZE": "16",
            "LANGGRAPH_MAX_POOL_SIZE": "16",
        }
        with child(
            command,
            # It says nothing at this log level: its health route tells that it is up.
            ready="",
            cores=place.system,
            environment=environment,
        ) as running:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(_answers(f"{url}/health"))
            yield Peer(Target.AEGRA, url, running.pid)
    finally:
        server.stop()


def _graph_folder(folder: Path) -> Path:
    """Copy the graph: the development server keeps its state beside it."""
    folder.mkdir()
    for file in (repository() / "bench/peers/one_node").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE DATABASE aegra")
    finally:
        await connection.close()


async def _answers(url: str) -> None:
    """Wait until it does. Raises: ProcessError when that takes too long."""
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise ProcessError(f"{url} does not answer after {START_SECONDS:g} s") from error
