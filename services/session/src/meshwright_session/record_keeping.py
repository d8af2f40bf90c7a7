"""Work beside the calls that the audit log needs: checkpoints every so often, months let go."""

import asyncio
from typing import Final

from prometheus_client import Counter, Gauge

from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.telemetry import metric_names
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.audit_keeping import AuditRetention, Checkpointer
from meshwright_session.domain.audit_ports import AuditDoors
from meshwright_session.settings import SessionSection

DROP_ATTEMPTS: Final = 40
DROP_PAUSE_SECONDS: Final = 0.25
"""The table is in use all the time, and waited for so briefly that it takes some attempts."""

CHECKPOINTS: Final = Counter(
    metric_names.AUDIT_CHECKPOINTS, "Checkpoints of audit logs that this process has signed."
)
CONFLICTS: Final = Gauge(
    metric_names.AUDIT_CHECKPOINT_CONFLICTS,
    "Checkpoints whose copy in object storage is another one: the log was set back or changed.",
)

ROUND: Final = Gauge(
    metric_names.AUDIT_CHECKPOINT_ROUND,
    "When this process last looked at all audit logs and signed what had grown, in Unix seconds.",
)
POSTPONED: Final = Gauge(
    metric_names.AUDIT_CHECKPOINTS_POSTPONED,
    "Audit logs that the last round could not sign because they were in use.",
)

logger = get_logger(__name__)


class RecordKeeper:
    """Keeps the audit log. Any number of processes may: what one has done the others find done."""

    def __init__(
        self,
        doors: AuditDoors,
        checkpointer: Checkpointer,
        retention: AuditRetention,
        settings: SessionSection,
    ) -> None:
        self._doors = doors
        self._checkpointer = checkpointer
        self._retention = retention
        self._settings = settings

    async def prepare(self) -> None:
        """Make the months that writing needs: the readiness check of a start after a pause."""
        if made := await self._doors.make_months(self._settings.partition_months_ahead):
            logger.info("audit_months_made", count=made)

    async def run(self) -> None:
        """Keep the log, for ever. Waits out stores that are away."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sign())
            group.create_task(self._let_go())

    async def _sign(self) -> None:
        settings = self._settings
        look = settings.audit_look_seconds
        # A record may come right after a look, and is covered with the last one before its time.
        seconds = max(settings.audit_checkpoint_seconds - look, 0)
        while True:
            try:
                done = await self._checkpointer.round(
                    seconds=seconds, records=settings.audit_checkpoint_records
                )
                CHECKPOINTS.inc(done.signed)
                CONFLICTS.set(len(done.conflicts))
                POSTPONED.set(done.postponed)
                ROUND.set_to_current_time()
                for tenant_id, number in done.conflicts:
                    logger.error(
                        "audit_checkpoint_conflicts", tenant_id=tenant_id, checkpoint=number
                    )
            except (Unavailable, DeadlineExceeded) as error:
                logger.warning("audit_checkpoints_postponed", error=str(error))
            await asyncio.sleep(look)

    async def _let_go(self) -> None:
        while True:
            try:
                await self.prepare()
                await self.let_go()
            except (Unavailable, DeadlineExceeded) as error:
                logger.warning("audit_retention_postponed", error=str(error))
            await asyncio.sleep(self._settings.housekeeping_interval_seconds)

    async def let_go(self) -> None:
        """Drop the months that are over, once. Raises: Unavailable, DeadlineExceeded."""
        await self._retention.anchor()
        if dropped := await self._drop():
            logger.info("audit_months_dropped", count=dropped)
        if pruned := await self._retention.prune():
            logger.info("audit_leftovers_pruned", count=pruned)

    async def _drop(self) -> int:
        for _ in range(DROP_ATTEMPTS):
            dropped = await self._retention.drop_months()
            if dropped is not None:
                return dropped
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        return 0
