"""Members: started, restarted, drained in order, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meshwright_cli.exits import CommandError, Exit
from meshwright_cli.logfile import LogFile
from meshwright_cli.members import Member
from meshwright_cli.supervisor import RESTARTS, Supervisor
from meshwright_common.settings import ServiceName
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

HERE = Path(__file__).parent


class Members:
    """Sample members in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.log_file = folder / "platform.log"
        self.ends_file = folder / "ends"
        self.log = LogFile(self.log_file)

    @property
    def ends(self) -> list[str]:
        """Who ended in peace, in order."""
        return self.ends_file.read_text().split() if self.ends_file.exists() else []

    @property
    def serving(self) -> list[tuple[str, int]]:
        """Who said that it serves, and its pid, in order."""
        said = (line.split() for line in self.log_file.read_text().splitlines())
        return [(words[1], int(words[2])) for words in said if words[0] == "serving"]

    def have_started(self, count: int) -> bool:
        return len(self.serving) == count

    def supervisor(self, plans: dict[ServiceName, str], *, steady: float = 60) -> Supervisor:
        members = [Member(service, free_port(), "sample_member") for service in plans]
        environments = {
            member: {
                **os.environ,
                "PYTHONPATH": str(HERE),
                "MESHWRIGHT_RPC__LISTEN": member.address,
                "SAMPLE_PLAN": plans[member.service],
                "SAMPLE_NAME": member.service,
                "SAMPLE_ENDS": str(self.ends_file),
            }
            for member in members
        }
        return Supervisor(members, environments, self.log, steady_seconds=steady)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path)
    yield made
    made.log.close()


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(supervisor.run())
        try:
            async with asyncio.timeout(20):
                await supervisor.wait_serving()
            yield
        finally:
            await supervisor.stop()
            task.cancel()


async def test_members_end_in_reverse_order_of_dependence(members: Members) -> None:
    supervisor = members.supervisor({"session": "serve", "chat": "serve", "gateway": "serve"})
    async with running(supervisor):
        await eventually(lambda: len(members.serving) == 3)
    assert members.ends == ["gateway", "chat", "session"]


async def test_a_member_that_dies_is_started_again_at_its_address(members: Members) -> None:
    supervisor = members.supervisor({"session": "serve", "chat": "serve"})
    async with running(supervisor):
        await eventually(lambda: len(members.serving) == 2)
        os.kill(dict(members.serving)["chat"], signal.SIGKILL)
        await eventually(lambda: len(members.serving) == 3)
        await supervisor.wait_serving()
    assert members.serving[2][0] == "chat"
    assert members.ends == ["chat", "session"]


@pytest.mark.parametrize(
    ("steady", "at_once"),
    [
        pytest.param(0.0, True, id="ran well"),
        pytest.param(60.0, False, id="died soon"),
    ],
)
async def test_what_ran_well_is_restarted_at_once_and_what_dies_soon_after_a_pause(
    members: Members, steady: float, at_once: bool
) -> None:
    supervisor = members.supervisor({"chat": "serve"}, steady=steady)
    with capture_logs() as said:
        async with running(supervisor):
            for deaths in (1, 2):
                os.kill(members.serving[-1][1], signal.SIGKILL)
                await eventually(partial(members.have_started, 1 + deaths))
                await supervisor.wait_serving()
    pauses = [entry["restart_in_seconds"] for entry in said if entry["event"] == "member_died"]
    assert len(pauses) == 2
    assert all((pause == 0) is at_once for pause in pauses)


async def test_pauses_before_a_member_that_keeps_dying_stay_short() -> None:
    """The lease, the pause and a start together are to stay below 35 s (reliability goal)."""
    assert max(RESTARTS.delay_seconds(attempt) for attempt in range(1, 60)) <= 5


async def test_members_are_rolled_one_after_the_other(members: Members) -> None:
    supervisor = members.supervisor({"session": "serve", "chat": "serve"})
    async with running(supervisor):
        await eventually(lambda: len(members.serving) == 2)
        before = dict(members.serving)
        await supervisor.roll()
        await eventually(lambda: len(members.serving) == 4)
        rolled = members.serving[2:]
        assert [name for name, _ in rolled] == ["session", "chat"]
        assert not set(dict(rolled).values()) & set(before.values())
        assert members.ends == ["session", "chat"]


async def test_a_member_that_never_served_ends_the_start_with_its_own_words(
    members: Members,
) -> None:
    supervisor = members.supervisor({"session": "serve", "chat": "refuse"})
    with pytest.raises(CommandError, match="MESHWRIGHT_CHAT__SWEEP_SECONDS") as refusal:
        await supervisor.run()
    assert refusal.value.code == Exit.FAILED
    async with asyncio.timeout(20):
        await supervisor.stop()


async def test_members_die_with_their_supervisor_even_by_sigkill(members: Members) -> None:
    program = (
        "import asyncio, pathlib; import test_supervisor as t;"
        f"m = t.Members(pathlib.Path({str(members.log_file.parent)!r}));"
        "asyncio.run(m.supervisor({'session': 'serve', 'chat': 'serve'}).run())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": str(HERE)}
    )
    try:
        await eventually(lambda: len(members.serving) == 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
    await eventually(lambda: not any(is_alive(pid) for _, pid in members.serving))
    assert members.ends == []


def is_alive(pid: int) -> bool:
    """A zombie, which nobody waits for in some containers, is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
