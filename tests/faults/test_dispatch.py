"""Whatever happens to RabbitMQ and to the workers: an accepted task is executed, and ends once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from meshwright_common.testing.servers.rabbitmq import RabbitServer
from tests.asking import eventually
from tests.platform_process import Platform, member_pid, running_platform
from tests.security.rows import superuser_url

pytestmark = pytest.mark.timeout(180)

FINAL = {"completed", "failed", "cancelled", "expired"}
SLOW = "sim-n40-tps20"
"""Two seconds of text: some are under way whenever something is killed."""


@pytest.fixture
def rabbit(tmp_path: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ of this test's own."""
    server = RabbitServer(tmp_path / "rabbitmq")
    server.folder.mkdir(exist_ok=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Submitter:
    """Submits tasks as a careful client does: the same key again until there is an answer."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.accepted: list[str] = []

    def submit(self, count: int) -> None:
        """Submit so many tasks, every fifth one with a model that takes its time."""
        for _ in range(count):
            number = len(self.accepted)
            body: dict[str, Any] = {"agent": "noop", "message": f"Task {number}"}
            if number % 5 == 0:
                body |= {"agent": "chat", "model": SLOW}
            if number % 3 == 0:
                body["priority"] = "low"
            self.accepted.append(self._accepted(body, f"task-{number}"))

    def _accepted(self, body: Mapping[str, Any], key: str) -> str:
        answers: list[httpx.Response] = []

        def is_accepted() -> bool:
            headers = {"idempotency-key": key}
            answers.append(self._client.post("/api/v1/tasks", json=body, headers=headers))
            return answers[-1].status_code == 202

        eventually(is_accepted)
        task_id: str = answers[-1].json()["task_id"]
        return task_id

    def states(self) -> dict[str, str]:
        """Return the state of every task, as the user sees it."""
        found: dict[str, str] = {}
        token = ""
        while True:
            page = self._client.get(
                "/api/v1/tasks", params={"page_size": 100, "page_token": token}
            ).json()
            found |= {task["task_id"]: task["state"] for task in page["tasks"]}
            token = page["next_page_token"]
            if not token:
                return found

    def are_final(self) -> bool:
        """Return whether every accepted task has ended."""
        return not self.unfinished()

    def unfinished(self) -> dict[str, str]:
        """Return the states of the accepted tasks that have not ended."""
        states = self.states()
        return {task: states[task] for task in self.accepted if states[task] not in FINAL}


async def stored(platform: Platform) -> tuple[Counter[str], Counter[str]]:
    """Return how many task.result events, and how many ends, each task has."""
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        results = await connection.fetch(
            "SELECT convert_from(body, 'UTF8')::json -> 'data' ->> 'task_id' AS task_id"
            " FROM events.outbox WHERE topic = 'task.result'"
        )
        ends = await connection.fetch(
            "SELECT task_id::text FROM orchestrator.transitions WHERE state = ANY ($1)",
            sorted(FINAL),
        )
    finally:
        await connection.close()
    return Counter(row[0] for row in results), Counter(row[0] for row in ends)


def dispatch_log(data: Path) -> str:
    """Return the last lines that the orchestrator and the supervisor wrote."""
    lines = (data / "logs" / "platform.log").read_text().splitlines()
    return "\n".join(line for line in lines if '"level":"debug"' not in line)[-20_000:]


@pytest.mark.promise("DISPATCH-01")
def test_every_accepted_task_is_executed_once_though_rabbitmq_loses_all_and_workers_die(
    data_folder: Path, provider_environment: dict[str, str], rabbit: RabbitServer
) -> None:
    environment = provider_environment | {
        "MESHWRIGHT_DISPATCH__URL": rabbit.url,
        "MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true",
        "MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS": "3",
        "MESHWRIGHT_ORCHESTRATOR__LEASE_RENEW_SECONDS": "1",
    }
    with (
        running_platform(data_folder, split=True, environment=environment) as platform,
        platform.client() as client,
    ):
        tasks = Submitter(client)
        tasks.submit(20)
        rabbit.stop()
        tasks.submit(20)
        shutil.rmtree(rabbit.folder / "data")
        rabbit.start()
        tasks.submit(10)
        os.kill(member_pid(platform, "orchestrator"), signal.SIGKILL)
        tasks.submit(20)
        rabbit.kill()
        rabbit.start()
        tasks.submit(10)
        try:
            eventually(tasks.are_final, timeout_seconds=60)
        except AssertionError as error:
            error.add_note(f"{tasks.unfinished()}\n{dispatch_log(data_folder)}")
            raise
        states = tasks.states()
        results, ends = asyncio.run(stored(platform))
    assert len(set(tasks.accepted)) == 80
    assert states == dict.fromkeys(tasks.accepted, "completed")
    assert ends == dict.fromkeys(tasks.accepted, 1)
    assert results == dict.fromkeys(tasks.accepted, 1)
