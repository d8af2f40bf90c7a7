"""Work queues of `embedded:` dispatch: a table in PostgreSQL, rows taken with SKIP LOCKED.

A taken item is hidden for a while instead of locked: a taker that dies keeps no transaction open,
and its items show up again when the time is over. Settling checks that the item was not delivered
to somebody else meanwhile.

Putting, taking and settling do not wait for the disk: whoever puts work keeps the truth elsewhere
and puts it again when it is not taken, and whoever takes it twice finds it done. A crash of the
machine never loses a put and keeps the mark that was made after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshwright_common.dispatch import bodies
from meshwright_common.dispatch.lanes import (
    MAX_RETRIES,
    Lane,
    WeightedLanes,
    retry_delay_seconds,
)
from meshwright_common.dispatch.ports import (
    DELIVERY_LIMIT,
    DeadLetter,
    Delivery,
    Taking,
    Unroutable,
    WorkItem,
    check_item,
)
from meshwright_common.errors import ServiceError
from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unflushed, unscoped
from meshwright_common.telemetry.logging import get_logger

CHANNEL: Final = "meshwright_work"
HIDDEN_SECONDS: Final = 10.0
"""How long a taken item waits for its taker."""
LOOK_AGAIN_SECONDS: Final = 1.0
"""Retries come due, and takers die, without a sound."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _TableDelivery(Delivery):
    number: int
    deliveries: int


class EmbeddedWorkQueue:
    """Work queues in the service's own PostgreSQL. `kinds`: those that somebody takes."""

    def __init__(
        self, database: Database, kinds: Sequence[str], *, hidden_seconds: float = HIDDEN_SECONDS
    ) -> None:
        self._database = database
        self._kinds = tuple(kinds)
        self._hidden_seconds = hidden_seconds

    @property
    def losses(self) -> int:
        """Never any: the table is where the truth is, too."""
        return 0

    async def put(self, items: Sequence[WorkItem]) -> None:
        for item in items:
            check_item(item)
            if item.kind not in self._kinds:
                raise Unroutable(kind=item.kind)
        if not items:
            return
        async with unflushed(self._database) as connection:
            await connection.execute(
                "SELECT events.put_work($1, $2, $3, $4, $5, $6, $7)",
                [item.tenant_id for item in items],
                [item.item_id for item in items],
                [item.kind for item in items],
                [item.lane.value for item in items],
                [item.attempt for item in items],
                [item.expires_in_seconds for item in items],
                [item.trace for item in items],
            )
            announce_after_commit(connection, Announcement(CHANNEL, ""))

    @contextlib.asynccontextmanager
    async def taking(self) -> AsyncIterator[Taking]:
        woken = asyncio.Event()
        # house: naked-task: ended and awaited below; a group would wrap the block's errors
        listening = asyncio.create_task(
            listen(self._database, CHANNEL, lambda _: woken.set()), name="dispatch-taking"
        )
        try:
            yield _TableTaking(self._database, self._kinds, self._hidden_seconds, woken)
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def dead_letters(self, most: int) -> Sequence[DeadLetter]:
        async with unscoped(self._database) as connection:
            await _bury(connection)
            rows = await connection.fetch("SELECT * FROM events.take_dead_work($1)", most)
        items = [(_item_from(row), row["reason"]) for row in rows]
        return [DeadLetter(item, reason, bodies.encode(item)) for item, reason in items]


@dataclass(slots=True)
class _TableTaking:
    database: Database
    kinds: tuple[str, ...]
    hidden_seconds: float
    woken: asyncio.Event
    lanes: WeightedLanes = field(default_factory=WeightedLanes)

    async def take(self, most: int) -> Sequence[Delivery]:
        while True:
            # Cleared first: what commits while we look sets it again.
            self.woken.clear()
            try:
                if taken := await self._taken(most):
                    return taken
            except ServiceError as error:
                logger.info("dispatch_taking_interrupted", reason=error.reason)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    await self.woken.wait()

    async def _taken(self, most: int) -> Sequence[Delivery]:
        async with unflushed(self.database) as connection:
            await _bury(connection)
            rows = await connection.fetch(
                "SELECT lane, waiting FROM events.waiting_work($1, $2)", list(self.kinds), most
            )
            waiting = {Lane(row["lane"]): row["waiting"] for row in rows}
            shares = self.lanes.shares(waiting, most)
            if not shares:
                return ()
            taken = await connection.fetch(
                "SELECT * FROM events.take_work($1, $2, $3, $4)",
                list(self.kinds),
                [lane.value for lane in shares],
                list(shares.values()),
                self.hidden_seconds,
            )
        return [_delivery(row) for row in taken]

    async def ack(self, deliveries: Collection[Delivery]) -> None:
        rows = [_row_of(delivery) for delivery in deliveries]
        async with self._settling() as connection:
            await connection.execute(
                "SELECT events.settle_work($1, $2, $3)",
                [row.item.tenant_id for row in rows],
                [row.number for row in rows],
                [row.deliveries for row in rows],
            )

    async def retry(self, delivery: Delivery, reason: str) -> None:
        row = _row_of(delivery)
        attempt = row.item.attempt + 1
        if attempt > MAX_RETRIES:
            await self.reject(delivery, f"failed {attempt} times: {reason}")
            return
        async with self._settling() as connection:
            await connection.execute(
                "SELECT events.retry_work($1, $2, $3, $4)",
                row.item.tenant_id,
                row.number,
                row.deliveries,
                retry_delay_seconds(attempt),
            )

    async def reject(self, delivery: Delivery, reason: str) -> None:
        row = _row_of(delivery)
        async with self._settling() as connection:
            await connection.execute(
                "SELECT events.reject_work($1, $2, $3, $4)",
                row.item.tenant_id,
                row.number,
                row.deliveries,
                reason,
            )

    @contextlib.asynccontextmanager
    async def _settling(self) -> AsyncIterator[Connection]:
        try:
            async with unflushed(self.database) as connection:
                yield connection
        except ServiceError as error:
            # The item comes again when its time is over.
            logger.warning("dispatch_not_settled", reason=error.reason)


async def _bury(connection: Connection) -> None:
    """Make dead letters of what expired and of what was delivered too often."""
    await connection.execute("SELECT events.bury_work($1)", DELIVERY_LIMIT)


def _row_of(delivery: Delivery) -> _TableDelivery:
    assert isinstance(delivery, _TableDelivery)  # noqa: S101 - we gave it out
    return delivery


def _delivery(row: Record) -> _TableDelivery:
    deliveries = row["deliveries"]
    return _TableDelivery(_item_from(row), deliveries > 1, row["number"], deliveries)


def _item_from(row: Record) -> WorkItem:
    return WorkItem(
        tenant_id=row["tenant_id"],
        item_id=row["item_id"],
        kind=row["kind"],
        lane=Lane(row["lane"]),
        attempt=row["attempt"],
        trace=row["traceparent"],
    )
