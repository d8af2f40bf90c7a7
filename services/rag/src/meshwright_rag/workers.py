"""Background work: takes leases, keeps them while working, tries again what failed."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from meshwright_common.errors import Internal, ServiceError
from meshwright_common.telemetry.logging import get_logger
from meshwright_rag.domain.errors import IndexUnavailable, LeaseLost
from meshwright_rag.domain.models import Lease, WorkKind
from meshwright_rag.domain.ports import WorkQueue
from meshwright_rag.metrics import WORK_SECONDS

RENEWALS: Final = 3
"""A lease is renewed this many times within its term."""

_FIRST_DELAY_SECONDS: Final = 1.0
_LONGEST_DELAY_SECONDS: Final = 60.0
_PARKED_SECONDS: Final = 5.0
"""How soon work is tried again that waits for the store of an index."""

_SOON_SECONDS: Final = (0.02, 0.05, 0.1, 0.2)
"""When to look after a nudge: it may come a moment before the work is committed."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """A kind of work this process does.

    `attempts`: after so many failures `give_up` is called; None: tried until it succeeds. Waiting
    for the store of an index is no failure.
    """

    run: Callable[[Lease], Awaitable[None]]
    give_up: Callable[[Lease, ServiceError], Awaitable[None]] | None = None
    attempts: int | None = None


class Workers:
    """Does up to `most` pieces of work at once; looks every `poll_seconds`, or when nudged."""

    def __init__(
        self,
        queue: WorkQueue,
        duties: dict[WorkKind, Duty],
        *,
        most: int,
        lease_seconds: float,
        poll_seconds: float,
    ) -> None:
        self._queue = queue
        self._duties = duties
        self._most = most
        self._renew_seconds = lease_seconds / RENEWALS
        self._poll_seconds = poll_seconds
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def nudge(self) -> None:
        """Look for work now: somebody has just made some."""
        self._nudged.set()

    def stop(self) -> None:
        """Take no more work; what is running is given back, for another process to go on with."""
        self._stopping.set()
        self._nudged.set()

    async def run(self) -> None:
        """Work until `stop` is called."""
        try:
            while not self._stopping.is_set():
                taken = await self._take()
                if not taken:
                    await self._wait()
        finally:
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def _take(self) -> bool:
        """Start what can be started; return whether anything was."""
        free = self._most - len(self._running)
        if free <= 0:
            return False
        try:
            leases = await self._queue.claim(tuple(self._duties), most=free)
        except ServiceError as error:
            logger.warning("work_not_claimed", reason=error.reason)
            return False
        for lease in leases:
            # house: naked-task: kept in _running; stopping waits for it
            task = asyncio.create_task(self._do(lease), name=f"rag-{lease.kind}")
            self._running.add(task)
            task.add_done_callback(self._finished)
        return bool(leases)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._nudged.set()

    async def _wait(self) -> None:
        """Wait for a nudge or for the next look; after a nudge, look a few times in a row."""
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._nudged.wait()
        except TimeoutError:
            return
        self._nudged.clear()
        for seconds in _SOON_SECONDS:
            if self._stopping.is_set() or await self._take():
                return
            await asyncio.sleep(seconds)

    async def _do(self, lease: Lease) -> None:
        try:
            await self._leased(self._duties[lease.kind], lease)
        except asyncio.CancelledError:
            # Stopped, not failed. When the database is away too, the lease just runs out.
            with contextlib.suppress(ServiceError):
                await self._queue.release(lease)
            raise

    async def _leased(self, duty: Duty, lease: Lease) -> None:
        """Do the work while another task keeps the lease; whoever loses it ends both."""
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep(lease))
                await self._attempt(duty, lease)
                keeper.cancel()
        except* LeaseLost:
            logger.info("work_lease_lost", **_named(lease))
        except* ServiceError as errors:
            # Not even the failure could be noted: the lease runs out and the work comes again.
            logger.warning("work_abandoned", kind=lease.kind, errors=str(errors.exceptions))

    async def _attempt(self, duty: Duty, lease: Lease) -> None:
        if duty.attempts is not None and lease.attempt > duty.attempts:
            # Nobody lived to note the failures: what is to be done ends the process that does it.
            await self._failed(duty, lease, Internal("indexing was interrupted too often"))
            return
        started = time.perf_counter()
        outcome = "done"
        try:
            await duty.run(lease)
        except LeaseLost:
            outcome = "lost"
            raise
        except IndexUnavailable as error:
            outcome = "parked"
            logger.warning("work_parked", **_named(lease), error=error.message)
            await self._queue.release(lease, delay_seconds=_jittered(_PARKED_SECONDS))
        except ServiceError as error:
            outcome = "failed"
            await self._failed(duty, lease, error)
        except Exception:
            outcome = "failed"
            # The outermost frame of the work: a defect must not end the other work.
            logger.exception("work_crashed", **_named(lease))
            await self._failed(duty, lease, Internal("indexing failed: see the log"))
        finally:
            WORK_SECONDS.labels(lease.kind, outcome).observe(time.perf_counter() - started)

    async def _failed(self, duty: Duty, lease: Lease, error: ServiceError) -> None:
        final = duty.attempts is not None and lease.attempt >= duty.attempts
        logger.warning(
            "work_failed",
            **_named(lease),
            reason=error.reason,
            attempt=lease.attempt,
            final=final,
        )
        if final and duty.give_up:
            await duty.give_up(lease, error)
            return
        delay = min(_FIRST_DELAY_SECONDS * 2.0 ** (lease.attempt - 1), _LONGEST_DELAY_SECONDS)
        await self._queue.retry(lease, delay_seconds=_jittered(delay), error=error.reason)

    async def _keep(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                await self._queue.renew(lease)
            except LeaseLost:
                raise
            except ServiceError as error:
                # Not renewed is not lost: as long as nobody took it, the next renewal counts.
                logger.warning("work_lease_not_renewed", reason=error.reason)


def _named(lease: Lease) -> dict[str, str]:
    """Return what a line of the log says about the work: nobody called, so it names the tenant."""
    return {
        "tenant_id": lease.tenant_id,
        "kind": lease.kind,
        "subject_id": lease.subject_id,
    }


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
