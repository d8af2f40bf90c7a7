"""Work beside the calls: months ahead of time, what has expired, sessions nobody touches."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from meshwright_common.context import bind, service_context
from meshwright_common.errors import Aborted, DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.acts import Act
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.archive_models import SessionName
from meshwright_session.domain.ports import Housekeeping, SessionStore
from meshwright_session.domain.retention import BUSY, MonthlyTable, RetentionStore
from meshwright_session.settings import SessionSection

SERVICE: Final = "session"
BATCH: Final = 100
BATCHES_A_ROUND: Final = 50
"""What is left after so many waits for the next round: others want the database too."""
PRUNED_AT_ONCE: Final = 1000
BUSY_ATTEMPTS: Final = 200
BUSY_PAUSE_SECONDS: Final = 0.05
"""Between two attempts to have a table for a moment, on average."""

logger = get_logger(__name__)


class Store(Housekeeping, RetentionStore, Protocol):
    """The tables, as housekeeping sees them."""


class Housekeeper:
    """Does a round now and then. Any number of processes may: the rounds are idempotent."""

    def __init__(
        self, store: Store, sessions: SessionStore, archive: Archive, settings: SessionSection
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._archive = archive
        self._settings = settings

    async def prepare(self) -> None:
        """Make the partitions that writing needs: the readiness check of a start after a pause."""
        made = await self._store.make_partitions(self._settings.partition_months_ahead)
        if made:
            logger.info("partitions_made", count=made)

    async def run(self) -> None:
        """Do a round every so often, for ever. Waits out a database that is away."""
        while True:
            for step in (self.prepare, self.prune, self.drop_months, self.put_away):
                try:
                    await step()
                except (Unavailable, DeadlineExceeded, Aborted) as error:
                    logger.warning("housekeeping_postponed", step=step.__name__, error=str(error))
            await asyncio.sleep(self._settings.housekeeping_interval_seconds)

    async def prune(self) -> None:
        """Drop records of requests, notifications and receipts that are too old."""
        dropped = await self._store.prune_requests(self._settings.request_retention_hours)
        logger.debug("requests_pruned", count=dropped)
        dropped = await self._store.prune_notifications(self._settings.notification_retention_days)
        logger.debug("notifications_pruned", count=dropped)
        dropped = await self._store.prune_webhook_deliveries(self._settings.webhooks.retention_days)
        logger.debug("webhook_deliveries_pruned", count=dropped)
        dropped = await self._store.prune_erasures(self._settings.erasure_retention_days)
        logger.debug("erasures_pruned", count=dropped)

    async def drop_months(self) -> None:
        """Drop months that are not kept, and in small batches what hangs on them."""
        own = self._settings
        if months := own.message_retention_months:
            await self._drop_months("messages", months)
            await self._in_batches(
                partial(self._store.prune_turn_commits, months, PRUNED_AT_ONCE), PRUNED_AT_ONCE
            )
            await self._in_batches(partial(self._expire_sessions, months), BATCH)
            await self._in_batches(partial(self._trim_archives, months), BATCH)
        if months := own.usage_retention_months:
            await self._drop_months("usage_ledger", months)
            await self._in_batches(
                partial(self._store.prune_usage_calls, months, PRUNED_AT_ONCE), PRUNED_AT_ONCE
            )

    async def put_away(self) -> None:
        """Move sessions that nobody touches to the archive; remove objects that nobody needs."""
        if days := self._settings.archive_after_days:
            await self._in_batches(partial(self._archive_idle, days), BATCH)
        await self._in_batches(partial(self._archive.sweep, most=BATCH), BATCH)

    async def _drop_months(self, table: MonthlyTable, months: int) -> None:
        for _ in range(BUSY_ATTEMPTS):
            dropped = await self._store.drop_month(table, months)
            if dropped is None:
                return
            if dropped == BUSY:
                await asyncio.sleep(BUSY_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            else:
                logger.info("month_dropped", table=table, month=dropped)
        logger.warning("months_not_dropped", table=table)

    async def _in_batches(self, step: Callable[[], Awaitable[int]], full: int) -> None:
        """Do `step` until it has less to do than `full`, or nothing of it succeeds."""
        for _ in range(BATCHES_A_ROUND):
            if await step() < full:
                return

    async def _expire_sessions(self, months: int) -> int:
        expired = await self._store.expired_sessions(months, BATCH)
        for one in expired:
            removal = partial(
                self._sessions.delete,
                one.owner,
                one.session_id,
                Act("session.expired", f"session/{one.session_id}"),
                unless_used_after=one.update_time,
            )
            # The act is nobody's but the service's own.
            with bind(service_context(SERVICE, one.owner.tenant_id, (), timeout_seconds=None)):
                await self._archive.remove(one.owner, one.session_id, removal)
        if expired:
            logger.info("sessions_expired", count=len(expired))
        return len(expired)

    async def _trim_archives(self, months: int) -> int:
        outgrown = await self._archive.outgrown(months, most=BATCH)
        return sum(
            [
                await _moved(
                    one,
                    self._archive.bring_back(one.owner, one.session_id, wanted=False),
                )
                for one in outgrown
            ]
        )

    async def _archive_idle(self, days: int) -> int:
        idle = await self._archive.idle(days, most=BATCH)
        moved = sum(
            [await _moved(one, self._archive.put_away(one.owner, one.session_id)) for one in idle]
        )
        if moved:
            logger.info("sessions_archived", count=moved)
        return moved


async def _moved(session: SessionName, move: Awaitable[None]) -> bool:
    """Say whether a session could be moved. Raises: Unavailable, when none could be."""
    try:
        await move
    except (Unavailable, DeadlineExceeded):
        raise
    except ServiceError as error:
        # Used or deleted meanwhile, or damaged: that is this session's alone.
        logger.warning(
            "session_not_moved",
            tenant_id=session.owner.tenant_id,
            session_id=session.session_id,
            reason=error.reason,
        )
        return False
    return True
