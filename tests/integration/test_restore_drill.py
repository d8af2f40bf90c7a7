"""The restore drill: a platform under load is backed up, destroyed, restored and goes on.

The promises are those of docs/backup.md. The drill itself is `infra/dev/restore_drill.sh`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from bench.process_usage import tree
from meshwright_common.storage.embedded.process import free_port
from tests.asking import ask, ended, eventually, turn_id_of, upload
from tests.faults.effects import Effects, counting_effects
from tests.platform_process import Platform, clean_environment, run_command, running_platform
from tests.tenants import NewTenant, new_tenant

ROOT: Final = Path(__file__).parents[2]
DRILL: Final = ROOT / "infra" / "dev" / "restore_drill.sh"
QUERIES: Final = ("night train", "sealed letters and keys", "which harbour is the oldest")
DOCUMENTS: Final = {
    "trains.md": b"# Trains\n\nThe night train to the harbour leaves at 23:14 from platform 3.\n",
    "letters.md": b"# Letters\n\nSealed letters open by keys that the archive keeps apart.\n",
    "harbours.md": b"# Harbours\n\nThe oldest harbour has a lighthouse. The train ends there.\n",
}
Json = dict[str, Any]


@dataclass
class Load:
    """Turns of a busy tenant: which were complete when the backup began, and how many in all."""

    client: httpx.Client
    turns: list[str] = field(default_factory=list)

    def run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.turns.append(turn_id_of(ask(self.client, "Count.", model="sim-n3", agent="chat")))


@contextmanager
def under_load(platform: Platform, tenant: NewTenant) -> Iterator[Load]:
    """Ask one question after the other until the block ends."""
    ended = threading.Event()
    with platform.client(tenant.api_key) as client:
        load = Load(client)
        thread = threading.Thread(target=load.run, args=(ended,))
        thread.start()
        try:
            yield load
        finally:
            ended.set()
            thread.join()


@dataclass
class World:
    """What a tenant has, as the public API tells it."""

    session_id: str
    document_ids: list[str]
    task_id: str
    waiting: Json

    def told(self, client: httpx.Client) -> Json:
        """Return everything that a restore must bring back exactly."""
        return {
            # Before the searches: each of them is a call that counts.
            **counted(client),
            "messages": get(client, f"/api/v1/sessions/{self.session_id}/messages")["messages"],
            "documents": [get(client, f"/api/v1/documents/{one}") for one in self.document_ids],
            "task": get(client, f"/api/v1/tasks/{self.task_id}"),
            "interrupts": get(client, "/api/v1/interrupts")["interrupts"],
            "search": [found(client, query) for query in QUERIES],
        }


def counted(client: httpx.Client) -> Json:
    """Return what a tenant has used, by model and against its limits."""
    usage = get(client, "/api/v1/usage?group_by=model")["sums"]
    return {"usage": usage, "quota": get(client, "/api/v1/quota")}


def found(client: httpx.Client, query: str) -> list[Json]:
    """Return passages with their scores, in order, of a search of which nothing was missing."""
    answers: list[Json] = []

    def is_whole() -> bool:
        # On a busy machine one kind of search may be late, and the answer says so.
        answers.append(client.post("/api/v1/search", json={"query": query}).json())
        return answers[-1].get("degraded") == []

    eventually(is_whole)
    passages: list[Json] = answers[-1]["passages"]
    assert passages
    return passages


def get(client: httpx.Client, path: str) -> Json:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def furnished(client: httpx.Client, effects: Effects) -> World:
    """Give a tenant a session, documents, a finished task, and one that waits for a person."""
    first = ask(client, "Count one.", model="sim-n5", agent="chat")
    session_id = first[0].data["session_id"]
    for number in (2, 3):
        ask(client, f"Count {number}.", model="sim-n5", agent="chat", session_id=session_id)
    documents = [upload(client, name, text)["document_id"] for name, text in DOCUMENTS.items()]
    assert all(ended(client, one)["state"] == "ready" for one in documents)
    definition = {"type": "tool_call", "tools": ["http_get"], "approval_tools": ["http_get"]}
    assert client.put("/api/v1/agents/clerk", json={"definition": definition}).is_success
    done = submitted(client, agent="chat", model="sim-n4")
    eventually(lambda: get(client, f"/api/v1/tasks/{done}")["state"] == "completed")
    arguments = json.dumps({"url": f"http://{effects.address}/after"}).encode().hex()
    submitted(client, agent="clerk", model=f"sim-tool:http_get-args:{arguments}-n2")
    waiting: list[Json] = []

    def asks() -> bool:
        waiting[:] = get(client, "/api/v1/interrupts")["interrupts"]
        return bool(waiting)

    eventually(asks)
    return World(session_id, documents, done, waiting[0])


def submitted(client: httpx.Client, **body: str) -> str:
    answer = client.post("/api/v1/tasks", json={"message": "Do it.", **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def settle(platform: Platform) -> None:
    """Return when every event has had its effect."""

    def nobody_is_behind() -> bool:
        told = run_command("events", "lag", "--json", "--data", str(platform.data))
        assert told.returncode == 0, told.stderr
        consumers = json.loads(told.stdout)["consumers"]
        return all(one["unread"] == one["waiting"] == 0 for one in consumers)

    eventually(nobody_is_behind)


def destroyed(platform: Platform) -> None:
    """Kill every process of the platform at once, and delete its data."""
    family = [one.pid for one in tree(platform.process.pid)]
    platform.kill()
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    eventually(lambda: not any(is_alive(pid) for pid in family))
    shutil.rmtree(platform.data)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def drilled(backup: Path, keys: Path, data: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run the drill and give the address of the platform that it has started; end that."""
    command = [str(DRILL), str(backup), str(keys), str(data), str(free_port())]
    try:
        done = subprocess.run(
            command,
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "NOT VALID" not in done.stdout
        yield json.loads((data / "endpoint.json").read_text())["url"]
    finally:
        if data.exists():
            run_command("down", "--data", str(data))


@pytest.mark.timeout(240)
@pytest.mark.promise("OPS-DAY2-01")
def test_what_was_destroyed_is_restored_and_goes_on(
    data_folder: Path, provider_environment: dict[str, str], tmp_path: Path
) -> None:
    backup, restored = (data_folder.with_name(name) for name in ("backup", "restored"))
    keys = tmp_path / "keys.json"
    with counting_effects() as effects:
        environment = provider_environment | {
            "MESHWRIGHT_EGRESS__ALLOWED_HOSTS": json.dumps([effects.address])
        }
        with running_platform(data_folder, environment=environment) as first:
            tenant, busy = new_tenant(first), new_tenant(first)
            placed = run_command(
                "tenants", "move", tenant.tenant_id, "--own-schema", "--data", str(first.data)
            )
            assert placed.returncode == 0, placed.stderr
            with first.client(tenant.api_key) as client:
                world = furnished(client, effects)
                before = world.told(client)
                settle(first)
                before |= counted(client)
                assert before["quota"]["tokens_per_day"]["used"] > 0
            with under_load(first, busy) as load:
                eventually(lambda: len(load.turns) >= 2)
                acknowledged = list(load.turns)
                made = run_command("backup", "create", str(backup), "--data", str(first.data))
                assert made.returncode == 0, made.stderr
                during = len(load.turns)
            assert during > len(acknowledged)
            shutil.copyfile(first.data / "secrets.json", keys)
            destroyed(first)

        with drilled(backup, keys, restored, environment) as url:
            owner = httpx.Client(
                base_url=url, headers={"authorization": f"Bearer {tenant.api_key}"}, timeout=30
            )
            with owner:
                assert world.told(owner) == before
                assert effects.done == {}
                resume_once(owner, world.waiting)
                assert effects.done == {"/after": 1}
                after = ask(
                    owner, "Go on.", model="sim-n3", agent="chat", session_id=world.session_id
                )
                assert after[-1].name == "turn.completed"
            others = {"authorization": f"Bearer {busy.api_key}"}
            with httpx.Client(base_url=url, headers=others, timeout=30) as other:
                for turn_id in acknowledged:
                    assert get(other, f"/api/v1/turns/{turn_id}")["state"] == "completed"


def resume_once(client: httpx.Client, waiting: Json) -> None:
    """Approve what the waiting task asks, twice by one key, and wait for its end."""
    path = f"/api/v1/tasks/{waiting['task_id']}"
    body = {"interrupt_id": waiting["interrupt_id"], "answer": {"approved": True}}
    for _ in range(2):
        answer = client.post(f"{path}/resume", json=body, headers={"idempotency-key": "k"})
        assert answer.status_code == 200, answer.text
    eventually(lambda: get(client, path)["state"] == "completed")
