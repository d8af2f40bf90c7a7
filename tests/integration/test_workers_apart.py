"""Processes that serve and processes that work, apart, as the manifests of Kubernetes have them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from meshwright_common.storage.embedded.process import free_port
from tests.asking import ask, eventually, indexed
from tests.platform_process import Platform, member_pid, running_platform
from tests.sse import text_of

SERVING: Final = {"MESHWRIGHT_LIFECYCLE__WORK": "[]"}
WORKING: Final = {"MESHWRIGHT_LIFECYCLE__SERVE": "false", "MESHWRIGHT_LIFECYCLE__WORK": '["*"]'}
WITH_WORK: Final = ("session", "rag", "orchestrator")
"""Services with work that runs apart."""
TASKS: Final = "/api/v1/tasks"
STOP_SECONDS: Final = 30
Json = dict[str, Any]


@contextmanager
def worker(platform: Platform, service: str) -> Iterator[None]:
    """Run a process of a service that only works, with what its serving member was given."""
    given = Path(f"/proc/{member_pid(platform, service)}/environ").read_bytes().decode()
    environment = {
        **dict(line.split("=", 1) for line in given.split("\0") if line),
        **WORKING,
        "MESHWRIGHT_RPC__LISTEN": f"127.0.0.1:{free_port()}",
        "MESHWRIGHT_TELEMETRY__METRICS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    module = f"meshwright_{service}"
    with (platform.data / "logs" / f"{service}-worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert process.poll() is None, f"{service}: {os.fsdecode(log.name)}"
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def state_of(client: httpx.Client, task_id: str) -> str:
    return str(client.get(f"{TASKS}/{task_id}").json()["state"])


def submitted(client: httpx.Client, model: str) -> str:
    answer = client.post(TASKS, json={"agent": "chat", "message": "Count.", "model": model})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def told(client: httpx.Client) -> set[str]:
    return {one["kind"] for one in client.get("/api/v1/notifications").json()["notifications"]}


def run_of(client: httpx.Client) -> Json:
    """Store and start a workflow of one tool call; return its run."""
    action = {"tool": {"tool": "calculator", "arguments": {"expression": "6 * 7"}}}
    definition = {"steps": [{"name": "sum", "action": action}]}
    body = {"name": f"flow-{new_id()}", "definition": definition}
    stored = client.post("/api/v1/workflows", json=body)
    assert stored.status_code == 200, stored.text
    path = f"/api/v1/workflows/{stored.json()['workflow_id']}/runs"
    run: Json = client.post(path, json={"input": {}}).json()
    return run


def scheduled(client: httpx.Client) -> None:
    """Make a schedule of one task, due in a second."""
    moment = datetime.now(UTC) + timedelta(seconds=1)
    task = {"agent": "chat", "message": "Count.", "model": "sim-n2"}
    body = {"name": f"s-{new_id()}", "once": moment.isoformat(), "task": task}
    answer = client.post("/api/v1/schedules", json=body)
    assert answer.status_code == 201, answer.text


def last_run(client: httpx.Client) -> str:
    (schedule,) = client.get("/api/v1/schedules").json()["schedules"]
    return str(schedule["last_run_id"])


@pytest.mark.promise("TASK-04")
def test_whoever_serves_works_on_nothing_and_workers_do_it_all(
    data_folder: Path, provider_environment: dict[str, str]
) -> None:
    with (
        running_platform(
            data_folder, split=True, environment=provider_environment | SERVING
        ) as platform,
        platform.client() as client,
    ):
        # A turn is worked on by whoever was asked.
        assert len(text_of(ask(client, "Count.", model="sim-n5", agent="chat")).split()) == 5
        waiting = submitted(client, "sim-n2")
        slow = submitted(client, "sim-ttft60000-n1")
        scheduled(client)
        run = run_of(client)
        eventually(lambda: last_run(client) != "")
        assert {state_of(client, one) for one in (waiting, slow)} == {"queued"}
        assert not told(client)
        with ExitStack() as workers:
            for service in WITH_WORK:
                workers.enter_context(worker(platform, service))
            first = last_run(client)
            eventually(lambda: {state_of(client, one) for one in (waiting, first)} == {"completed"})
            path = f"/api/v1/workflows/runs/{run['run_id']}"
            eventually(lambda: client.get(path).json()["state"] == "completed")
            eventually(lambda: state_of(client, slow) == "running")
            client.post(f"{TASKS}/{slow}/cancel", json={}).raise_for_status()
            assert state_of(client, slow) == "cancelled"
            assert indexed(client, "tides.txt", b"The tide is high.")["state"] == "ready"
            eventually(lambda: {"task.completed", "workflow.completed"} <= told(client))
