"""Service processes on this machine: started together, restarted, drained in order."""

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
from meshwright_common.settings import ServiceName
from meshwright_common.telemetry.logging import get_logger

RESTARTS: Final = Backoff(initial_seconds=0.5, factor=2.0, maximum_seconds=30.0)
STEADY_SECONDS: Final = 60.0
"""A member that ran for this long starts with the first pause again when it dies."""
EAGER: Final = tuple(
    (f"grpc.{name}_reconnect_backoff_ms", 50) for name in ("initial", "min", "max")
)
"""A member listens a second after its start: try often, it costs next to nothing here."""
LOOK_EVERY_SECONDS: Final = 0.05
STOP_SECONDS: Final = 75.0
"""How long one member may drain: longer than its own limits together, then SIGKILL."""

_logger = get_logger(__name__)


class Supervisor:
    """Runs the members until it is stopped; whoever dies is started again, ever more slowly."""

    def __init__(
        self,
        members: Sequence[Member],
        environments: Mapping[ServiceName, Mapping[str, str]],
        log: LogFile,
    ) -> None:
        self._members = members
        self._environments = environments
        self._log = log
        self._processes: dict[ServiceName, MemberProcess] = {}
        self._ended: dict[ServiceName, asyncio.Event] = {}
        self._serving: set[ServiceName] = set()
        self._stopping = False

    async def run(self) -> None:
        """Keep every member running until `stop`.

        Raises: CommandError when one refuses its settings or dies before it served.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for member in self._members:
                    self._ended[member.service] = asyncio.Event()
                    group.create_task(self._keep(member), name=f"member-{member.service}")
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
            process = self._processes.get(member.service)
            if process is None:
                continue
            process.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._ended[member.service].wait()
            except TimeoutError:
                _logger.warning("member_killed", member=member.service, pid=process.pid)
                process.signal(signal.SIGKILL)

    async def _keep(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while not self._stopping:
            began = loop.time()
            process = await launch_member(member, self._environments[member.service], self._log)
            self._processes[member.service] = process
            _logger.info("member_started", member=member.service, pid=process.pid)
            try:
                status = await process.wait()
            finally:
                await process.kill()
            if self._stopping:
                break
            self._refuse_if_hopeless(process, status)
            attempt = 1 if loop.time() - began >= STEADY_SECONDS else attempt + 1
            pause = RESTARTS.delay_seconds(attempt)
            _logger.error(
                "member_died", member=member.service, status=status, restart_in_seconds=pause
            )
            await asyncio.sleep(pause)
        self._ended[member.service].set()

    def _refuse_if_hopeless(self, process: MemberProcess, status: int) -> None:
        """A member that never served will not do so at the second try: say why and give up."""
        service = process.member.service
        if service in self._serving:
            return
        code = Exit.REFUSED if status == Exit.REFUSED else Exit.FAILED
        said = process.complaint or f"see {self._log.path}"
        raise CommandError(f"{service} did not start (exit {status}): {said}", code)

    async def _wait_serving(self, member: Member) -> None:
        async with grpc.aio.insecure_channel(member.address, options=EAGER) as channel:
            while True:
                try:
                    # Before it listens, the call itself waits for the connection.
                    if await is_serving(channel, wait_for_ready=True):
                        self._serving.add(member.service)
                        return
                except grpc.aio.AioRpcError as error:
                    # It died while it was asked: `_keep` judges that.
                    _logger.debug("member_gone", member=member.service, code=error.code().name)
                await asyncio.sleep(LOOK_EVERY_SECONDS)
