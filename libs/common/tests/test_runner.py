"""The life of a process (house.md 3.6), seen from outside: words, exit codes, health."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshwright_common.identity.keys import ensure_keys, ephemeral_keys
from meshwright_common.registry.consul import ConsulRegistrar
from meshwright_common.runner import Process as RunnerProcess
from meshwright_common.settings import CommonSettings, LifecycleSettings, RegistrySettings

pytestmark = pytest.mark.asyncio

PROGRAM = Path(__file__).with_name("runner_process.py")
QUICK = {
    "MESHWRIGHT_RPC__LISTEN": "127.0.0.1:0",
    "MESHWRIGHT_LIFECYCLE__DRAIN_DELAY_SECONDS": "0",
    "MESHWRIGHT_LIFECYCLE__CHECKS_TIMEOUT_SECONDS": "0.3",
    "MESHWRIGHT_LIFECYCLE__JOIN_TIMEOUT_SECONDS": "0.3",
    "MESHWRIGHT_LIFECYCLE__GRACE_SECONDS": "0.3",
}
Start = Callable[..., Awaitable[Process]]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start the program in a way, and see that it is gone afterwards."""
    ensure_keys(tmp_path / "keys", ["rag"])
    started: list[Process] = []

    async def start_program(how: str, **environment: str) -> Process:
        keys = {"MESHWRIGHT_IDENTITY__KEYS_DIR": str(tmp_path / "keys")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            how,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, **QUICK, **keys, **environment},
        )
        started.append(process)
        return process

    yield start_program
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def words_until(process: Process, word: str) -> list[str]:
    """Read standard output up to a word."""
    assert process.stdout is not None
    words: list[str] = []
    while word not in words:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert line, f"ended before {word}: {words}"
        words.append(line.decode().strip())
    return words


async def event(process: Process, name: str) -> dict[str, Any]:
    """Read the log up to an event; return it."""
    assert process.stderr is not None
    while True:
        line = await asyncio.wait_for(process.stderr.readline(), 20)
        assert line, f"ended before {name}"
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == name:
            return entry


async def end_of(process: Process) -> tuple[int | None, list[str], str]:
    """Wait for the end; return exit code, the words, and the rest of the log."""
    out, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, out.decode().split(), err.decode()


async def test_signal_drains_in_order_and_exits_zero(start: Start) -> None:
    process = await start("well")
    port = (await event(process, "ready"))["port"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="meshwright.rag.v1.RetrievalService")
        health = await stub.Check(request, timeout=5)
    process.send_signal(signal.SIGTERM)
    code, words, log = await end_of(process)
    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert ["building", "working", "leaving", "draining", "work-over", "closing"] == words
    assert 0 == code
    assert "Traceback" not in log


async def test_failing_task_ends_the_process_with_one(start: Start) -> None:
    code, words, log = await end_of(await start("task-fails"))
    assert ["building", "working", "leaving", "draining", "closing"] == words
    assert 1 == code
    assert "a defect" in log


async def test_stubborn_task_is_cancelled(start: Start) -> None:
    process = await start("stubborn")
    await words_until(process, "working")
    process.send_signal(signal.SIGINT)
    code, words, _ = await end_of(process)
    assert (["leaving", "draining", "work-over", "closing"], 0) == (words, code)


async def test_second_signal_ends_at_once(start: Start) -> None:
    process = await start("hangs", MESHWRIGHT_LIFECYCLE__GRACE_SECONDS="60")
    await event(process, "ready")
    process.send_signal(signal.SIGTERM)
    await words_until(process, "draining")
    process.send_signal(signal.SIGINT)
    code, words, _ = await end_of(process)
    assert (128 + signal.SIGINT, []) == (code, words)


async def test_check_that_never_passes_refuses_the_start(start: Start) -> None:
    code, words, log = await end_of(await start("never-ready"))
    assert (1, ["building", "closing"]) == (code, words)
    assert "database: not yet" in log


async def test_signal_during_the_start_gives_it_up(start: Start) -> None:
    process = await start("never-ready", MESHWRIGHT_LIFECYCLE__CHECKS_TIMEOUT_SECONDS="60")
    await event(process, "check_waits")
    process.send_signal(signal.SIGTERM)
    code, words, _ = await end_of(process)
    assert (0, ["building", "closing"]) == (code, words)


async def test_build_that_fails_exits_with_one(start: Start) -> None:
    code, words, log = await end_of(await start("build-fails"))
    assert (1, ["building"]) == (code, words)
    assert "the database is away" in log


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESHWRIGHT_RPC__MAXIMUM_CONCURRENT_RPCS", "many"),
        ("MESHWRIGHT_RCP__LISTEN", "127.0.0.1:0"),
        ("MESHWRIGHT_RPC__LISTEN", "127.0.0.1:99999999"),
        ("MESHWRIGHT_CONFIG", "/nowhere/config.yaml"),
    ],
)
async def test_wrong_setting_is_named_and_exits_with_two(
    start: Start, variable: str, value: str
) -> None:
    code, _, log = await end_of(await start("well", **{variable: value}))
    assert 2 == code
    assert variable in log
    assert "Traceback" not in log


async def test_port_in_use_exits_with_two(start: Start) -> None:
    first = await start("well")
    port = (await event(first, "ready"))["port"]
    second = await start("well", MESHWRIGHT_RPC__LISTEN=f"127.0.0.1:{port}")
    code, words, log = await end_of(second)
    assert (2, ["building", "closing"]) == (code, words)
    assert f"127.0.0.1:{port}" in log


async def test_missing_key_exits_with_two(start: Start, tmp_path: Path) -> None:
    process = await start("well", MESHWRIGHT_IDENTITY__KEYS_DIR=str(tmp_path / "empty"))
    code, _, log = await end_of(process)
    assert 2 == code
    assert "rag.key" in log


async def test_work_that_may_run_apart_is_left_to_who_names_it(start: Start) -> None:
    """`lifecycle.work` names what is done here; without a name there are only calls."""
    counted = {}
    for work in ("[]", '["count"]', '["*"]'):
        process = await start("apart", MESHWRIGHT_LIFECYCLE__WORK=work)
        await event(process, "ready")
        await words_until(process, "working")
        process.send_signal(signal.SIGTERM)
        code, words, _ = await end_of(process)
        counted[work] = "counting" in words
        assert (code, words[-1]) == (0, "closing")
    assert counted == {"[]": False, '["count"]': True, '["*"]': True}


async def test_work_that_nobody_knows_is_refused(start: Start) -> None:
    code, _, log = await end_of(await start("apart", MESHWRIGHT_LIFECYCLE__WORK='["relais"]'))
    assert code == 2
    assert "MESHWRIGHT_LIFECYCLE__WORK: no such work here: relais" in log
    assert "what may run apart is count" in log


async def test_a_container_asks_its_own_process(start: Start) -> None:
    """As probes do where kubelet cannot: exit code 0 while calls are taken, 1 otherwise."""
    process = await start("well")
    port = (await event(process, "ready"))["port"]

    async def asked(service: str, at: int) -> int | None:
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meshwright_common.ask_health", service),
            env={**os.environ, "MESHWRIGHT_RPC__LISTEN": f"0.0.0.0:{at}"},
        )
        return await asyncio.wait_for(asking.wait(), 20)

    assert await asked("rag", port) == 0
    process.kill()
    await process.wait()
    assert await asked("rag", port) == 1
    assert await asked("nobody", port) == 2


@pytest.mark.parametrize("serves", [True, False])
async def test_a_process_that_takes_no_calls_is_announced_to_nobody(serves: bool) -> None:
    settings = CommonSettings(
        registry=RegistrySettings(url="consul://127.0.0.1:1", advertise="127.0.0.1"),
        lifecycle=LifecycleSettings(serve=serves),
    )
    process = RunnerProcess("rag", settings, ephemeral_keys(["rag"]))
    assert isinstance(process.registrar, ConsulRegistrar) is serves
    await process.close()
