"""Whichever process dies, whenever: each accepted task ends once, each of its steps counts once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.storm_recovery import Death, DeathLog
from bench.task_storm import Killer, Submitting, Verdict, all_ended, verdict
from meshwright_common.settings import SERVICE_NAMES
from tests.platform_process import Platform, running_platform
from tests.security.rows import superuser_url

TASKS = 300
PER_SECOND = 20.0
KILL_AFTER_SECONDS = 1.0
LIMIT_SECONDS = 90.0
POINTS = "task-claimed,step-journaled,task-ended,task-enqueued,model-answered,tool-answered"
"""Where the orchestrator kills itself, too, in three of a thousand passes."""


@pytest.mark.timeout(170)
@pytest.mark.promise("TASK-01")
def test_no_task_is_lost_or_done_twice_while_all_kinds_of_processes_die(
    data_folder: Path, provider_environment: dict[str, str]
) -> None:
    environment = provider_environment | {
        "MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true",
        "MESHWRIGHT_ORCHESTRATOR__BACKLOG_LIMIT": "100000",
        "MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS": "3",
        "MESHWRIGHT_ORCHESTRATOR__LEASE_RENEW_SECONDS": "1",
        "MESHWRIGHT_ORCHESTRATOR__MAX_ATTEMPTS": "20",
        "MESHWRIGHT_FAILPOINTS": ",".join(f"{point}=kill:0.003" for point in POINTS.split(",")),
    }
    with running_platform(data_folder, split=True, environment=environment) as platform:
        accepted, deaths, found = asyncio.run(storm(platform))
    assert len(accepted) == TASKS
    assert {death.service for death in deaths} == set(SERVICE_NAMES)
    assert found.states.keys() == accepted
    # Also those whose service was away for longer than providers are tried: it is waited for.
    assert Counter(found.states.values()) == {"completed": TASKS}
    assert found.ends == dict.fromkeys(accepted, 1)
    assert found.results == dict.fromkeys(accepted, 1)
    assert (found.doubled_steps, found.doubled_charges, found.doubled_tools) == (0, 0, 0)


async def storm(platform: Platform) -> tuple[set[str], Sequence[Death], Verdict]:
    """Submit while processes die; return what was accepted, who died, and what the stores say."""
    submitting = Submitting(platform.url, platform.api_key, "storm")
    killer = Killer(platform.process.pid, SERVICE_NAMES, random.Random(6))  # noqa: S311
    async with asyncio.TaskGroup() as group:
        group.create_task(killer.kill_each(KILL_AFTER_SECONDS))
        await submitting.submit(TASKS, per_second=PER_SECOND, limit_seconds=LIMIT_SECONDS)
    await all_ended(superuser_url(platform), TASKS, LIMIT_SECONDS)
    deaths = DeathLog(platform.data).look()
    found = await verdict(superuser_url(platform), deaths)
    return set(submitting.accepted.values()), deaths, found
