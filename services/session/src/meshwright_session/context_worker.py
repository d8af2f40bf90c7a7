"""Beside the calls: contexts are copied to the object store, and their past is kept short."""

import asyncio

from meshwright_common.errors import DataLoss, DeadlineExceeded, Unavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.adapters.context_exports import ContextExports
from meshwright_session.context_settings import ContextSection

logger = get_logger(__name__)


class ContextKeeper:
    """Does a round now and then. Any number of processes may: the rounds are idempotent."""

    def __init__(
        self, exports: ContextExports, settings: ContextSection, interval_seconds: float
    ) -> None:
        self._exports = exports
        self._settings = settings
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Do a round every so often, for ever. Waits out stores that are away."""
        while True:
            for step in (self.export, self.prune):
                try:
                    await step()
                except (Unavailable, DeadlineExceeded, DataLoss) as error:
                    logger.warning("contexts_postponed", step=step.__name__, error=str(error))
            await asyncio.sleep(self._interval_seconds)

    async def export(self) -> None:
        """Copy what was written since the last round."""
        if exported := await self._exports.export_changed():
            logger.info("contexts_exported", count=exported)

    async def prune(self) -> None:
        """Drop versions and copies that are too old."""
        dropped = await self._exports.prune_versions(self._settings.retention_days)
        logger.debug("context_versions_pruned", count=dropped)
        dropped = await self._exports.drop_old(self._settings.export_retention_days)
        logger.debug("context_copies_dropped", count=dropped)
