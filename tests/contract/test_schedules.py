"""What starts by the clock, through the public API of a running platform."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant

PATH: Final = "/api/v1/schedules"
TASK: Final = {"agent": "chat", "message": "Count.", "model": "sim-n2"}


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


def create(client: httpx.Client, key: str = "", **fields: Any) -> httpx.Response:
    """Ask for a schedule of one task."""
    body = {"name": f"s-{new_id()}", "task": TASK, **fields}
    return client.post(PATH, json=body, headers={"idempotency-key": key} if key else {})


def listed(client: httpx.Client) -> list[dict[str, Any]]:
    schedules: list[dict[str, Any]] = client.get(PATH).json()["schedules"]
    return schedules


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def member_of(platform: Platform, client: httpx.Client) -> tuple[str, httpx.Client]:
    """Make a member of the client's tenant; return its id and client."""
    user = client.post("/api/v1/users", json={"name": f"u-{new_id()}", "roles": ["member"]}).json()
    key = client.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()["secret"]
    return user["user_id"], platform.client(key)


@pytest.mark.promise("CLOCK-01")
def test_a_schedule_is_made_listed_paused_resumed_and_deleted(
    platform: Platform, client: httpx.Client
) -> None:
    fields = {"name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
    made = create(client, "k1", **fields)
    again = create(client, "k1", **fields)
    taken = create(client, **fields)
    path = f"{PATH}/{made.json()['schedule_id']}"
    _, other = member_of(platform, client)
    with other:
        hidden = listed(other), other.post(f"{path}/pause").status_code
    paused = client.post(f"{path}/pause").json()
    resumed = client.post(f"{path}/resume").json()
    shown = listed(client)
    gone = client.delete(path)

    assert (made.status_code, taken.status_code) == (201, 409)
    assert made.json() == again.json()
    assert hidden == ([], 404)
    assert (paused["paused"], paused["next_run_time"]) == (True, None)
    assert shown == [resumed] == [made.json()]
    assert (gone.status_code, listed(client)) == (204, [])
    following = datetime.fromisoformat(resumed["next_run_time"])
    assert following.minute == 30
    assert following > datetime.now(UTC)


@pytest.mark.promise("CLOCK-02")
def test_a_firing_starts_one_task_of_its_user(client: httpx.Client) -> None:
    moment = soon(2)
    made = create(client, once=moment.isoformat())
    assert made.status_code == 201, made.text
    eventually(lambda: listed(client)[0]["last_run_id"] != "", timeout_seconds=20)
    (schedule,) = listed(client)
    tasks = client.get("/api/v1/tasks").json()["tasks"]
    assert [task["task_id"] for task in tasks] == [schedule["last_run_id"]]
    assert tasks[0]["created_by"] == schedule["created_by"] == made.json()["created_by"]
    assert datetime.fromisoformat(tasks[0]["create_time"]) >= moment
    assert (schedule["next_run_time"], schedule["paused"]) == (None, False)


@pytest.mark.promise("CLOCK-03")
def test_a_delayed_task_begins_at_its_time(client: httpx.Client) -> None:
    moment = soon(1.5)
    later = client.post("/api/v1/tasks", json={**TASK, "start_time": moment.isoformat()}).json()
    tomorrow = client.post(
        "/api/v1/tasks", json={**TASK, "start_time": soon(86_400).isoformat()}
    ).json()
    path = f"/api/v1/tasks/{later['task_id']}"
    cancelled = client.post(f"/api/v1/tasks/{tomorrow['task_id']}/cancel").json()
    eventually(lambda: client.get(path).json()["state"] == "completed", timeout_seconds=20)

    assert (later["state"], tomorrow["state"]) == ("queued", "queued")
    assert datetime.fromisoformat(later["start_time"]) == moment
    assert datetime.fromisoformat(client.get(path).json()["end_time"]) >= moment
    assert (cancelled["state"], cancelled["attempt"]) == ("cancelled", 0)


@pytest.mark.promise("CLOCK-04")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_what_cannot_fire_is_refused_by_its_field(client: httpx.Client) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("cron", {"cron": "61 * * * *"}),
        ("cron", {"cron": "0 0 30 2 *"}),
        ("time_zone", {"cron": "0 0 * * *", "time_zone": "Mars/Base"}),
        ("interval_seconds", {"interval_seconds": 59}),
        ("once", {"once": soon(-1).isoformat()}),
        ("cron", {}),
        ("cron", {"cron": "0 0 * * *", "interval_seconds": 60}),
    ]
    for field, fields in wrong:
        refused = create(client, **fields)
        assert refused.status_code in (400, 422), fields
        assert field in refused.json()["errors"][0]["field"], refused.text


@pytest.mark.promise("CLOCK-05")
def test_the_schedule_of_a_disabled_user_is_paused(
    platform: Platform, client: httpx.Client
) -> None:
    user_id, member = member_of(platform, client)
    with member:
        made = create(member, once=soon(2.5).isoformat())
        assert made.status_code == 201, made.text
    answer = client.patch(f"/api/v1/users/{user_id}", json={"disabled": True})
    assert answer.status_code == 200, answer.text
    eventually(lambda: listed(client)[0]["paused"], timeout_seconds=20)

    def kinds() -> list[str]:
        told = client.get("/api/v1/notifications").json()["notifications"]
        return [one["kind"] for one in told]

    eventually(lambda: "schedule.paused" in kinds())
    assert listed(client)[0]["pause_reason"] == "PERMISSION_DENIED"
    assert client.get("/api/v1/tasks").json()["tasks"] == []


@pytest.mark.promise("CLOCK-06")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_schedules_by_command(platform: Platform) -> None:
    api_key = new_tenant(platform).api_key

    def schedules(*words: str) -> subprocess.CompletedProcess[str]:
        return run_command("schedules", *words, "--url", platform.url, "--key", api_key)

    words = ("--cron", "30 7 * * MON-FRI", "--zone", "Europe/Berlin")
    made = schedules("create", "report", "Write the report.", *words)
    shown = schedules("list").stdout
    paused = schedules("pause", "report").stdout
    later = schedules("list").stdout
    resumed = schedules("resume", "report").stdout
    deleted = schedules("delete", "report").stdout
    wrong = schedules("create", "x", "y", "--cron", "99 * * * *")
    assert made.returncode == Exit.OK, made.stderr
    assert "30 7 * * MON-FRI Europe/Berlin" in shown
    assert "(in " in shown
    assert (paused, deleted) == ("paused\n", "deleted\n")
    assert "paused" in later
    assert resumed.startswith("next: ")
    assert wrong.returncode == Exit.FAILED
    assert "cron" in wrong.stderr
