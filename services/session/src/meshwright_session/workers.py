"""Work beside the calls: keeps partitions ahead of time and drops what has expired."""

import asyncio

from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.ports import Housekeeping
from meshwright_session.settings import SessionSection

logger = get_logger(__name__)


class Housekeeper:
    """Does a round now and then. Any number of processes may: the rounds are idempotent."""

    def __init__(self, store: Housekeeping, settings: SessionSection) -> None:
        self._store = store
        self._settings = settings

    async def prepare(self) -> None:
        """Make the partitions that writing needs: the readiness check of a start after a pause."""
        made = await self._store.make_partitions(self._settings.partition_months_ahead)
        if made:
            logger.info("partitions_made", count=made)

    async def run(self) -> None:
        """Do a round every so often, for ever. Waits out a database that is away."""
        while True:
            try:
                await self.prepare()
                dropped = await self._store.prune_requests(self._settings.request_retention_hours)
                logger.debug("requests_pruned", count=dropped)
                dropped = await self._store.prune_notifications(
                    self._settings.notification_retention_days
                )
                logger.debug("notifications_pruned", count=dropped)
            except (Unavailable, DeadlineExceeded) as error:
                logger.warning("housekeeping_postponed", error=str(error))
            await asyncio.sleep(self._settings.housekeeping_interval_seconds)
