"""Whatever is killed or away half-way: an erasure goes on, and ends with one receipt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
import pytest

from tests.asking import ask, eventually, indexed
from tests.contract.erasing import erase_user, followed, is_signed, rows
from tests.platform_process import Platform, member_pid, running_platform

pytestmark = pytest.mark.timeout(240)

AWAY_SECONDS: Final = 3.0
"""Longer than it takes to ask all services twice."""
SETTINGS: Final = {
    "MESHWRIGHT_SESSION__ERASURE_SETTLE_SECONDS": "2",
    "MESHWRIGHT_SESSION__ERASURE_LEASE_SECONDS": "2",
}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of processes that may be killed."""
    folder = tmp_path_factory.mktemp("fragile") / "data"
    with running_platform(folder, split=True, environment=SETTINGS) as running:
        yield running


def furnished(platform: Platform, owner: httpx.Client, name: str) -> str:
    """Make a user who has something in every service; return the id."""
    user = owner.post("/api/v1/users", json={"name": name}).json()
    key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
    with platform.client(key["secret"]) as client:
        indexed(client, f"{name}.txt", f"About {name}.".encode())
        ask(client, f"I am {name}.")
    return str(user["user_id"])


def kill(platform: Platform, service: str) -> None:
    """End a member at once; return when another process is in its place and serves."""
    before = member_pid(platform, service)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid_of(platform, service) not in (0, before), timeout_seconds=60)


def pid_of(platform: Platform, service: str) -> int:
    try:
        return member_pid(platform, service)
    except (AssertionError, FileNotFoundError, ProcessLookupError):
        return 0


@contextmanager
def standing_still(platform: Platform, service: str) -> Iterator[None]:
    """Keep a member from answering inside the block."""
    pid = member_pid(platform, service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def check(platform: Platform, owner: httpx.Client, user_id: str, erasure_id: str) -> None:
    """Wait for the receipt, and look that there is one, and nothing else."""
    done = followed(owner, erasure_id, "completed", seconds=90)
    assert is_signed(platform, done["receipt"])
    assert all(one["remaining_count"] == 0 for one in done["stores"])
    told = "SELECT count(*) FROM events.outbox WHERE position(convert_to($1, 'UTF8') IN body) > 0"
    receipts = rows(platform, f"{told} AND headers ->> 'ce_type' = 'erasure.completed'", erasure_id)
    assert receipts[0]["count"] == 1
    for table, column in (
        *(("session.sessions", "user_id"), ("chat.turns", "subject")),
        *(("orchestrator.tasks", "subject"), ("rag.documents", "uploaded_by")),
    ):
        left = f"SELECT count(*) FROM {table} WHERE {column}::text = $1"  # noqa: S608
        assert rows(platform, left, user_id)[0]["count"] == 0, table


@pytest.mark.promise("ERASE-09")
def test_the_process_that_erases_is_killed_at_every_stage(fragile: Platform) -> None:
    with fragile.client() as owner:
        user_id = furnished(fragile, owner, "killed")
        begun = erase_user(owner, user_id)
        kill(fragile, "session")
        found = wait_for(owner, begun["erasure_id"], "settling", "completed")
        if found == "settling":
            kill(fragile, "session")
        check(fragile, owner, user_id, begun["erasure_id"])


@pytest.mark.promise("ERASE-09")
def test_a_service_that_is_killed_or_away_is_waited_for(fragile: Platform) -> None:
    with fragile.client() as owner:
        user_id = furnished(fragile, owner, "away")
        with standing_still(fragile, "rag"):
            begun = erase_user(owner, user_id)
            # The process that works on it dies while it waits.
            kill(fragile, "session")
            until = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < until:
                state = wait_for(owner, begun["erasure_id"], "erasing", "settling", "completed")
                assert state == "erasing", "never completed while a service has not answered"
        kill(fragile, "rag")
        kill(fragile, "chat")
        check(fragile, owner, user_id, begun["erasure_id"])


def wait_for(owner: httpx.Client, erasure_id: str, *states: str) -> str:
    """Return the state of an erasure when it is one of these, over a restart of who tells it."""
    seen: list[str] = []

    def is_there() -> bool:
        answer = owner.get(f"/api/v1/erasures/{erasure_id}")
        seen[:] = [str(answer.json().get("state"))]
        return seen[0] in states

    eventually(is_there, timeout_seconds=60)
    return seen[0]
