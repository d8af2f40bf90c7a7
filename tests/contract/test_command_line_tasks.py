"""`meshwright tasks`, on the real platform: in every arrangement one of them, they call alike."""

from __future__ import annotations

import json
import subprocess

import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.platform_process import Platform, run_command


def tasks(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command about tasks."""
    return run_command("tasks", *words, "--url", platform.url, "--key", platform.api_key)


@pytest.mark.promise("CLI-11")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_a_task_is_submitted_watched_and_listed(platform: Platform) -> None:
    words = ("Count.", "--model", "sim-n5", "--priority", "low")
    submitted = tasks(platform, "submit", *words)
    assert submitted.returncode == Exit.OK, submitted.stderr
    task_id = submitted.stdout.strip()

    watched = tasks(platform, "watch", task_id)
    listed = json.loads(tasks(platform, "list", "--state", "completed", "--json").stdout)
    shown = json.loads(tasks(platform, "show", task_id).stdout)
    late = tasks(platform, "cancel", task_id)

    assert watched.returncode == Exit.OK, watched.stderr
    assert watched.stdout == shown["result"]["answer"] + "\n"
    assert task_id in [task["task_id"] for task in listed]
    assert late.stdout.strip() == "completed"


@pytest.mark.promise("CLI-11")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_a_cancelled_task_ends_its_watching_with_the_reason(platform: Platform) -> None:
    task_id = tasks(platform, "submit", "Count.", "--model", "sim-n500-tps20").stdout.strip()
    cancelled = tasks(platform, "cancel", task_id)
    watched = tasks(platform, "watch", task_id)
    assert cancelled.stdout.strip() == "cancelled"
    assert watched.returncode == Exit.FAILED
    assert "TASK_CANCELLED" in watched.stderr


@pytest.mark.promise("CLI-11")
def test_a_task_that_is_not_there_is_told(platform: Platform) -> None:
    done = tasks(platform, "watch", new_id())
    assert done.returncode == Exit.FAILED
    assert "TASK_NOT_FOUND" in done.stderr
