"""Goes on with erasures until they are completed. Any number of processes may: leases keep them
apart, and what one left half-way another goes on with.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_common.errors import ServiceError
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.erasure import ErasureRounds
from meshwright_session.domain.erasure_models import ErasureLease
from meshwright_session.domain.errors import LeaseLost

RENEWALS: Final = 3
"""A lease is renewed this many times within its term."""
AT_ONCE: Final = 4

logger = get_logger(__name__)


class ErasureWorker:
    """Does up to AT_ONCE erasures at once; looks every `poll_seconds`, or when nudged.

    `forget` empties what this process remembers of a tenant: at every look, as long as something
    of it is being erased, whoever does that.
    """

    def __init__(
        self,
        rounds: ErasureRounds,
        *,
        lease_seconds: float,
        poll_seconds: float,
        forget: Callable[[str], None],
    ) -> None:
        self._rounds = rounds
        self._forget = forget
        self._renew_seconds = lease_seconds / RENEWALS
        self._poll_seconds = poll_seconds
        self._nudged = asyncio.Event()
        self._stopping = False

    def nudge(self) -> None:
        """Look for work now: somebody has just made some."""
        self._nudged.set()

    def stop(self) -> None:
        """Begin no more rounds; those under way are short."""
        self._stopping = True
        self._nudged.set()

    async def run(self) -> None:
        """Work until `stop` is called. Waits out a database that is away."""
        while not self._stopping:
            if not await self._take():
                await self._wait()

    async def _take(self) -> bool:
        """Do what is due, and return whether anything was."""
        try:
            for tenant_id in await self._rounds.work.tenants():
                self._forget(tenant_id)
            leases = await self._rounds.work.claim(AT_ONCE)
        except ServiceError as error:
            logger.warning("erasures_not_claimed", reason=error.reason)
            return False
        async with asyncio.TaskGroup() as group:
            for lease in leases:
                group.create_task(self._do(lease), name=f"erasure-{lease.erasure_id}")
        return bool(leases)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._nudged.wait()
        except TimeoutError:
            return
        self._nudged.clear()

    async def _do(self, lease: ErasureLease) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep(lease))
                await self._round(lease)
                keeper.cancel()
        except* LeaseLost:
            logger.info("erasure_lease_lost", erasure_id=lease.erasure_id)
        except* ServiceError as errors:
            # Not even the failure could be noted: the lease runs out, and it is tried again.
            logger.warning(
                "erasure_round_lost", erasure_id=lease.erasure_id, errors=str(errors.exceptions)
            )
        # house: broad-except: one erasure that cannot go on must not end the process and all others
        except* Exception:
            logger.exception("erasure_round_failed", erasure_id=lease.erasure_id)

    async def _round(self, lease: ErasureLease) -> None:
        acting = service_context("session", lease.tenant_id, (MESH_INTERNAL,), timeout_seconds=None)
        with bind(acting):
            await self._rounds.run(lease)

    async def _keep(self, lease: ErasureLease) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            await self._rounds.work.renew(lease)
