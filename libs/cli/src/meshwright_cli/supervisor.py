"""Service processes on this machine: started together, restarted, drained in order.

What dies after it ran well is started again at once, as systemd does by default; what dies again
and again waits ever longer in between, as in Kubernetes, but never for minutes: nobody else serves
its callers here.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Final

import grpc.aio

from meshwright_cli.exits import CommandError, Exit
from meshwright_cli.health import is_serving
from meshwright_cli.logfile import LogFile
from meshwright_cli.members import Member, MemberProcess, launch_member
from meshwright_common.resilience.retry import Backoff
from meshwright_common.rpc.transport import Transport
from meshwright_common.telemetry.logging import get_logger

RESTARTS: Final = Backoff(initial_seconds=0.5, factor=2.0, maximum_seconds=5.0)
"""Pauses before a member that keeps dying: with a lease of 10 s and a start of some seconds, what a
dead process had goes on within 35 s all the same."""
STEADY_SECONDS: Final = 10.0
"""A member that ran for this long is started again at once when it dies."""
EAGER: Final = tuple((f"grpc.{name}_reconnect_backoff_ms", 50) for name in ("initial", "max"))
"""A member listens a second after its start: try often, it costs next to nothing here."""
LOOK_EVERY_SECONDS: Final = 0.05
STOP_SECONDS: Final = 75.0
"""How long one member may drain: longer than its own limits together, then SIGKILL."""

_logger = get_logger(__name__)


class Supervisor:
    """Runs the members until it is stopped; whoever dies is started again."""

    def __init__(
        self,
        members: Sequence[Member],
        environments: Mapping[Member, Mapping[str, str]],
        log: LogFile,
        transport: Transport | None = None,
        *,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self._members = members
        self._environments = environments
        self._log = log
        self._transport = transport or Transport()
        self._steady_seconds = steady_seconds
        self._processes: dict[Member, MemberProcess] = {}
        self._ended: dict[Member, asyncio.Event] = {}
        self._serving: set[Member] = set()
        self._rolling: Member | None = None
        self._stopping = False

    async def run(self) -> None:
        """Keep every member running until `stop`.

        Raises: CommandError when one refuses its settings or dies before it served.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for member in self._members:
                    self._ended[member] = asyncio.Event()
                    group.create_task(self._keep_until_end(member), name=f"member-{member.name}")
        except* CommandError as errors:
            raise errors.exceptions[0] from None

    async def wait_serving(self) -> None:
        """Return when every member takes calls. Waits for ever: the caller sets the limit."""
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(self._wait_serving(member))

    async def stop(self) -> None:
        """Drain the members one by one, the gateway first, so that nobody loses a peer it needs."""
        self._stopping = True
        for member in reversed(self._members):
            process = self._processes.get(member)
            if process is not None:
                await self._drain(process)

    async def roll(self) -> None:
        """Restart the members one after the other, each when the one before takes calls again.

        A service of several instances always has one that serves. Ends early when all are stopped.
        """
        for member in self._members:
            process = self._processes.get(member)
            if process is None or self._stopping:
                return
            self._rolling = member
            self._ended[member].clear()
            await self._drain(process)
            await self._wait_serving(member)
            _logger.info("member_rolled", member=member.name)

    async def _drain(self, process: MemberProcess) -> None:
        """Ask a process to end and see to it that it does."""
        process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._ended[process.member].wait()
        except TimeoutError:
            _logger.warning("member_killed", member=process.member.name, pid=process.pid)
            process.signal(signal.SIGKILL)

    async def _keep_until_end(self, member: Member) -> None:
        try:
            await self._keep(member)
        finally:
            # Also when it is given up because another one did not start: `stop` waits for this.
            self._ended[member].set()

    async def _keep(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while not self._stopping:
            began = loop.time()
            process = await launch_member(member, self._environments[member], self._log)
            self._processes[member] = process
            _logger.info("member_started", member=member.name, pid=process.pid)
            try:
                status = await process.wait()
            finally:
                await process.kill()
            if self._stopping:
                break
            if member is self._rolling:
                self._rolling = None
                self._ended[member].set()
                continue
            self._refuse_if_hopeless(process, status)
            attempt = 0 if loop.time() - began >= self._steady_seconds else attempt + 1
            pause = RESTARTS.delay_seconds(attempt) if attempt else 0.0
            _logger.error(
                "member_died", member=member.name, status=status, restart_in_seconds=pause
            )
            await asyncio.sleep(pause)

    def _refuse_if_hopeless(self, process: MemberProcess, status: int) -> None:
        """A member that never served will not do so at the second try: say why and give up."""
        member = process.member
        if member in self._serving:
            return
        code = Exit.REFUSED if status == Exit.REFUSED else Exit.FAILED
        said = process.complaint or f"see {self._log.path}"
        raise CommandError(f"{member.name} did not start (exit {status}): {said}", code)

    async def _wait_serving(self, member: Member) -> None:
        async with self._transport.open_channel(member.service, member.address, EAGER) as channel:
            while True:
                try:
                    # Before it listens, the call itself waits for the connection.
                    if await is_serving(channel, wait_for_ready=True):
                        self._serving.add(member)
                        return
                except grpc.aio.AioRpcError as error:
                    # It died while it was asked: `_keep` judges that.
                    _logger.debug("member_gone", member=member.service, code=error.code().name)
                await asyncio.sleep(LOOK_EVERY_SECONDS)
