"""Events that come after their user or tenant was erased: they bring nobody back.

Each class here is a store of consumers that asks first who was erased, in the event's own
transaction. What an erased user consumed is nobody's; what an erased tenant did is dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Connection
from meshwright_session.adapters.postgres_notifications import PostgresNotificationIntake
from meshwright_session.adapters.postgres_task_statistics import PostgresTaskCounter
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger
from meshwright_session.adapters.webhook_queue import PostgresWebhookIntake
from meshwright_session.domain.kept_copies import NOBODY
from meshwright_session.domain.notification_models import NewNotification
from meshwright_session.domain.task_statistics import TaskEnd
from meshwright_session.domain.usage_models import UsageRow


@dataclass(frozen=True, slots=True)
class _Erased:
    """Who was erased of a tenant, or is being erased."""

    users: frozenset[str]
    tenant: bool


class MindfulUsageLedger:
    """`UsageLedger` that knows who was erased."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ledger = PostgresUsageLedger(connection)

    async def record(self, row: UsageRow) -> bool:
        rows = await self._minded([row])
        return await self._ledger.record(rows[0]) if rows else False

    async def record_all(self, rows: Sequence[UsageRow]) -> None:
        if minded := await self._minded(rows):
            await self._ledger.record_all(minded)

    async def _minded(self, rows: Sequence[UsageRow]) -> Sequence[UsageRow]:
        erased = await _erased(self._connection, (row.tenant_id for row in rows))
        if erased.tenant:
            return ()
        return [
            replace(row, user_id=NOBODY, session_id="") if row.user_id in erased.users else row
            for row in rows
        ]


class MindfulNotificationIntake:
    """`NotificationIntake` that knows who was erased: there is nobody to be told."""

    def __init__(self, connection: Connection, *, kept: int) -> None:
        self._connection = connection
        self._intake = PostgresNotificationIntake(connection, kept=kept)

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        erased = await _erased(self._connection, (one.tenant_id for one in notifications))
        if not erased.tenant:
            await self._intake.add_all(
                [one for one in notifications if one.user_id not in erased.users]
            )


class MindfulWebhookIntake:
    """`WebhookIntake` that knows who was erased: nobody is told of them."""

    def __init__(self, connection: Connection, ring: KeyRing) -> None:
        self._connection = connection
        self._intake = PostgresWebhookIntake(connection, ring)

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        erased = await _erased(self._connection, (one.tenant_id for one in notifications))
        if not erased.tenant:
            await self._intake.add_all(
                [one for one in notifications if one.user_id not in erased.users]
            )


class MindfulTaskCounter:
    """`TaskCounter` that knows who was erased."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counter = PostgresTaskCounter(connection)

    async def count(self, ends: Sequence[TaskEnd]) -> None:
        erased = await _erased(self._connection, (one.tenant_id for one in ends))
        if not erased.tenant:
            await self._counter.count(
                [
                    replace(one, user_id=NOBODY) if one.user_id in erased.users else one
                    for one in ends
                ]
            )


async def _erased(connection: Connection, tenant_ids: Iterable[str]) -> _Erased:
    """Return who was erased of the one tenant that a batch of events is of."""
    tenant_id = next(iter(tenant_ids), None)
    rows = await connection.fetch(_ERASED, tenant_id)
    users = [row["user_id"] for row in rows]
    return _Erased(frozenset(one for one in users if one), None in users)


_ERASED: Final = "SELECT user_id FROM erasures WHERE tenant_id = $1"
