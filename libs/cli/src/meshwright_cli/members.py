"""One service as a process of its own: launch, output, end. It dies with us, even on SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshwright_cli.logfile import LogFile
from meshwright_common.settings import ServiceName
from meshwright_common.storage.embedded import launch
from meshwright_common.storage.embedded.process import LOOPBACK

KEPT_LINES: Final = 20
MAX_LINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of a service, where it listens for gRPC, and what `python -m` runs.

    `metrics`: where it tells its metrics.
    """

    service: ServiceName
    port: int
    module: str
    number: int = 1
    metrics: str = ""

    @property
    def name(self) -> str:
        """What the log calls it: "rag", the second one "rag-2"."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"

    @property
    def address(self) -> str:
        """The address for a gRPC channel."""
        return f"{LOOPBACK}:{self.port}"


class MemberProcess:
    """One run of a member. Made by `launch_member`."""

    def __init__(self, member: Member, process: Process, log: LogFile) -> None:
        self.member = member
        self._process = process
        self._log = log
        self._last: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def pid(self) -> int:
        """The pid; it may have ended."""
        return self._process.pid

    @property
    def complaint(self) -> str:
        """What it said last that is no log line: why it refused to start."""
        return "\n".join(line for line in self._last if not line.startswith("{"))

    async def wait(self) -> int:
        """Copy its output to the log until it ends; return its exit status, -N for signal N."""
        output = self._process.stdout
        assert output is not None  # noqa: S101 - asked for at launch
        while True:
            try:
                line = await output.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                self._take(end.partial)
                return await self._process.wait()
            except asyncio.LimitOverrunError as long:
                line = await output.readexactly(long.consumed)
            self._take(line)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\n")
        if text:
            self._last.append(text)
            self._log.write(f"{text}\n")

    async def kill(self) -> None:
        """End it at once, if it still runs, and everything of it in this process."""
        self.signal(signal.SIGKILL)
        if self._process.stdout is not None:
            await self._process.stdout.read()
        await self._process.wait()

    def signal(self, which: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process.returncode is None:
            self._process.send_signal(which)


async def launch_member(
    member: Member, environment: Mapping[str, str], log: LogFile
) -> MemberProcess:
    """Start the process of `member`, whose output goes to `log` as far as `wait` is awaited.

    From the main thread only: the kernel kills the process when that thread ends.
    """
    prelude = (sys.executable, "-I", "-S", launch.__file__)
    ids = (str(os.getpid()), "-1", "-1", str(int(signal.SIGKILL)))
    process = await asyncio.create_subprocess_exec(
        *prelude,
        *ids,
        *(sys.executable, "-m", member.module),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=environment,
        limit=MAX_LINE_BYTES,
        # Ctrl-C in a terminal is for us alone: we stop the members in order.
        start_new_session=True,
    )
    return MemberProcess(member, process, log)
