"""A hundred tasks that wait for people, over the death of everything: each goes on once (O7)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import pytest
from google.protobuf import json_format

from bench.process_usage import tree
from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import ServiceError
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.waiting import eventually
from meshwright_session.domain.roles import permissions_of
from tests.faults import approving_graph
from tests.faults.effects import Effects, counting_effects
from tests.platform_process import Platform, member_pid, running_platform
from tests.security.rows import superuser_url

TASKS: Final = 100
AGENT: Final = "payer"
AT_ONCE: Final = 24
"""Answers under way at the same time."""
WAIT_SECONDS: Final = 60.0
Interrupt = dict[str, Any]


@pytest.mark.timeout(170)
@pytest.mark.promise("PEOPLE-06")
def test_a_hundred_waiting_tasks_outlive_everything_and_go_on_once(
    data_folder: Path, provider_environment: dict[str, str], tmp_path: Path
) -> None:
    """Half are agents with an approval, half graphs; every tenth is refused."""
    with counting_effects() as effects:
        environment = provider_environment | {
            "MESHWRIGHT_EGRESS__ALLOWED_HOSTS": json.dumps([effects.address]),
            "PYTHONPATH": approving_graph.install(tmp_path / "graphs"),
        }
        with running_platform(data_folder, environment=environment) as first:
            family = [one.pid for one in tree(first.process.pid)]
            before = asyncio.run(hand_in(first, effects))
            for pid in [first.process.pid, *family]:
                kill(pid)
            first.process.wait()
        asyncio.run(eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family)))
        assert effects.done == Counter({f"/before/{n}": 1 for n in range(1, TASKS, 2)})
        with running_platform(data_folder, split=True, environment=environment) as second:
            answers = asyncio.run(answer_all(second, before))
            counts = asyncio.run(counted(second))

    refused = {n for n, _ in numbered(before) if n % 10 == 0}
    # Of five answers to each question, the one that won is told so, and whoever has its key.
    assert set(answers) == {one["interrupt_id"] for one in before}
    for outcomes in answers.values():
        assert set(outcomes) <= {"done", "TASK_STATE"}
        assert outcomes.count("done") <= 2
    once = {f"/before/{n}" for n in range(1, TASKS, 2)}
    once |= {f"/after/{n}" for n in range(TASKS) if n not in refused}
    assert effects.done == Counter(dict.fromkeys(once, 1))
    assert counts == {"waiting": TASKS, "completed": TASKS}


def kill(pid: int) -> None:
    """End a process of ours as a power cut would, if its parent's end has not ended it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def numbered(asked: Sequence[Interrupt]) -> list[tuple[int, Interrupt]]:
    """Return each question with the number of its task, which stands in its metadata."""
    return [(one["number"], one) for one in asked]


async def hand_in(platform: Platform, effects: Effects) -> list[Interrupt]:
    """Submit the tasks; return what they ask when all of them do."""
    async with client(platform) as api:
        definition = {"type": "tool_call", "tools": ["http_get"], "approval_tools": ["http_get"]}
        defined = await api.put(f"/api/v1/agents/{AGENT}", json={"definition": definition})
        assert defined.status_code in {200, 201}, defined.text
        tasks = await asyncio.gather(*(submit(api, effects, n) for n in range(TASKS)))
        found: list[Interrupt] = []

        async def all_ask() -> bool:
            found[:] = await open_questions(api)
            return len(found) == TASKS

        await eventually(all_ask, timeout_seconds=WAIT_SECONDS)
    numbers = {task_id: n for n, task_id in enumerate(tasks)}
    return [one | {"number": numbers[one["task_id"]]} for one in found]


async def submit(api: httpx.AsyncClient, effects: Effects, number: int) -> str:
    """Submit one task; return its id."""
    before, after = (f"http://{effects.address}/{when}/{number}" for when in ("before", "after"))
    arguments = json.dumps({"url": after}).encode().hex()
    body = (
        {"agent": approving_graph.NAME, "input": {"before": before, "after": after}}
        if number % 2
        else {"agent": AGENT, "model": f"sim-tool:http_get-args:{arguments}-n2"}
    )
    answer = await api.post("/api/v1/tasks", json={"message": "Do it.", **body})
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


async def open_questions(api: httpx.AsyncClient) -> list[Interrupt]:
    """Return all that is asked."""
    found: list[Interrupt] = []
    token = ""
    while True:
        path = f"/api/v1/interrupts?page_size=60&page_token={token}"
        page = (await api.get(path)).json()
        found += page["interrupts"]
        token = page["next_page_token"]
        if not token:
            return found


async def answer_all(platform: Platform, before: Sequence[Interrupt]) -> dict[str, list[str]]:
    """Answer everything at once, five times over, through two processes; wait for the ends."""
    outcomes: dict[str, list[str]] = {}

    room = asyncio.Semaphore(AT_ONCE)

    async def until_told(interrupt_id: str, call: Callable[[], Awaitable[str]]) -> None:
        """Note how a call ends; one that a busy machine cannot serve is made again."""
        outcome = "UNAVAILABLE"
        async with room:
            while outcome in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
                outcome = await call()
        outcomes.setdefault(interrupt_id, []).append(outcome)

    async with client(platform) as api, another_orchestrator(platform) as other:
        assert [one["interrupt_id"] for one in await open_questions(api)] == [
            one["interrupt_id"] for one in before
        ]
        me = Principal(**await who_am_i(api))
        async with asyncio.TaskGroup() as group:
            for number, asked in numbered(before):
                value = {"approved": number % 10 != 0}
                for key in ("a", "a", ""):
                    call = partial(by_http, api, asked, value, key)
                    group.create_task(until_told(asked["interrupt_id"], call))
                for key in ("b", ""):
                    call = partial(by_grpc, other, me, asked, value, key)
                    group.create_task(until_told(asked["interrupt_id"], call))

        async def all_ended() -> bool:
            return (await counted(platform))["completed"] == TASKS

        await eventually(all_ended, timeout_seconds=WAIT_SECONDS)
    return outcomes


async def by_http(api: httpx.AsyncClient, asked: Interrupt, value: dict[str, Any], key: str) -> str:
    """Answer through the gateway; return how it went."""
    answer = await api.post(
        f"/api/v1/tasks/{asked['task_id']}/resume",
        json={"interrupt_id": asked["interrupt_id"], "answer": value},
        headers={"idempotency-key": key} if key else {},
    )
    return "done" if answer.status_code == 200 else str(answer.json()["code"])


async def by_grpc(
    other: Any, me: Principal, asked: Interrupt, value: dict[str, Any], key: str
) -> str:
    """Answer through the other orchestrator; return how it went."""
    request = agent_service_pb2.ResumeTaskRequest(
        task_id=asked["task_id"], interrupt_id=asked["interrupt_id"], request_id=key
    )
    json_format.ParseDict(value, request.payload)
    with bind(CallContext(principal=me)):
        try:
            await other.ResumeTask(request)
        except ServiceError as error:
            return error.reason
    return "done"


async def who_am_i(api: httpx.AsyncClient) -> dict[str, Any]:
    """Return the caller as a principal's fields."""
    me = (await api.get("/api/v1/me")).json()
    return {
        "tenant_id": me["tenant_id"],
        "subject": me["subject"],
        "kind": "user",
        "permissions": frozenset(permissions_of(("owner",))),
    }


@asynccontextmanager
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the platform's first user."""
    headers = {"authorization": f"Bearer {platform.api_key}"}
    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(
        base_url=platform.url, headers=headers, timeout=60, limits=limits
    ) as api:
        yield api


@asynccontextmanager
async def another_orchestrator(platform: Platform) -> AsyncIterator[Any]:
    """Run one more process like the platform's own, which works too; return a stub of it."""
    environment = environment_of(member_pid(platform, "orchestrator"))
    environment["MESHWRIGHT_RPC__LISTEN"] = address = f"127.0.0.1:{free_port()}"
    environment["MESHWRIGHT_TELEMETRY__METRICS_LISTEN"] = ""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshwright_orchestrator", env=environment, stdout=DEVNULL
    )
    keys = load_keys(platform.data / "keys", ["gateway"])
    minter = TokenMinter("gateway", keys.private_key("gateway"))
    try:
        async with Channels(minter, {"orchestrator": address}) as channels:
            channel = channels.open("orchestrator")
            async with asyncio.timeout(WAIT_SECONDS):
                await channel.channel_ready()
            yield AgentServiceStub(channel)
    finally:
        process.terminate()
        await process.wait()


def environment_of(pid: int) -> dict[str, str]:
    """Return the variables that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


async def counted(platform: Platform) -> dict[str, int]:
    """Return how often tasks began to wait, and were completed."""
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        rows = await connection.fetch(
            "SELECT state, count(*) FROM orchestrator.transitions"
            " WHERE state IN ('waiting', 'completed', 'failed', 'expired') GROUP BY state"
        )
    finally:
        await connection.close()
    return {"waiting": 0, "completed": 0} | {row[0]: row[1] for row in rows}
