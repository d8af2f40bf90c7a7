"""What this service does on events: usage goes to the ledger, audit records to the chain."""

from collections.abc import Callable, Sequence
from typing import Final

from meshwright_common.events.consumer import EventRejected
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection
from meshwright_session.domain.audit_denials import PLATFORM
from meshwright_session.domain.audit_ports import AuditChain
from meshwright_session.domain.audit_trail import add_all_to_chain, add_to_chain
from meshwright_session.domain.ports import TenantRegister, UsageLedger
from meshwright_session.domain.tenant_ports import TokenWatch
from meshwright_session.domain.usage_models import UsageRow
from meshwright_session.wire import audit, usage

CONSUMER: Final = "session-ledgers"
"""Owns the position in both topics. One consumer, for it holds one connection to be woken by."""
TOPICS: Final = (Topic.USAGE_STATS, Topic.AUDIT_LOG)
USAGE_RECORDED: Final = "model.usage.recorded"
AUDIT_RECORDED: Final = "audit.recorded"
KNOWN_TENANTS: Final = 10_000
"""Tenants that are not asked about again: none is ever removed."""


class Ledgers:
    """Handles events of both topics; the stores write in the event's own transaction.

    Others may write to a topic: with `tenants`, an event of a tenant that there is not is refused.
    `tokens` looks at what the ledger's new rows come to.
    """

    def __init__(
        self,
        usage_ledger: Callable[[Connection], UsageLedger],
        audit_chain: Callable[[Connection], AuditChain],
        tenants: Callable[[Connection], TenantRegister] | None = None,
        tokens: Callable[[Connection], TokenWatch] | None = None,
    ) -> None:
        self._usage_ledger = usage_ledger
        self._audit_chain = audit_chain
        self._tenants = tenants
        self._tokens = tokens
        self._known: set[str] = set()

    async def record(self, connection: Connection, event: Event) -> None:
        """Apply one event in its transaction. Types that later versions add are left alone.

        Raises: EventRejected when the data is not of the type that the event names, when the tenant
        does not exist, or when an audit record is not keyed by its tenant.
        """
        await self._refuse_strangers(connection, [event])
        try:
            if event.event_type == USAGE_RECORDED:
                row = usage.row_of(event)
                if await self._usage_ledger(connection).record(row):
                    await self._look(connection, [row])
            elif event.event_type == AUDIT_RECORDED:
                _refuse_other_keys(event)
                await add_to_chain(self._audit_chain(connection), audit.entry_of(event))
        except ValueError as error:
            raise EventRejected(f"{event.event_type}: {error}") from error

    async def record_all(self, connection: Connection, events: Sequence[Event]) -> None:
        """Do as `record`, for events of one tenant at once.

        Raises: EventRejected when one of them has to be looked at alone.
        """
        await self._refuse_strangers(connection, events)
        try:
            rows = [usage.row_of(one) for one in events if one.event_type == USAGE_RECORDED]
            records = [one for one in events if one.event_type == AUDIT_RECORDED]
            for one in records:
                _refuse_other_keys(one)
            entries = [audit.entry_of(one) for one in records]
        except ValueError as error:
            raise EventRejected(str(error)) from error
        if rows:
            await self._usage_ledger(connection).record_all(rows)
            await self._look(connection, rows)
        if entries and not await add_all_to_chain(self._audit_chain(connection), entries):
            raise EventRejected("the chain has one of the events already")

    async def _look(self, connection: Connection, rows: Sequence[UsageRow]) -> None:
        if self._tokens is not None:
            await self._tokens(connection).look(rows)

    async def _refuse_strangers(self, connection: Connection, events: Sequence[Event]) -> None:
        tenant_id = events[0].tenant_id
        if self._tenants is None or tenant_id in self._known:
            return
        # The platform's own log: it is no tenant, and consumes nothing.
        if tenant_id == PLATFORM and all(one.event_type == AUDIT_RECORDED for one in events):
            return
        if not await self._tenants(connection).has(tenant_id):
            raise EventRejected(f"there is no tenant {tenant_id}")
        if len(self._known) >= KNOWN_TENANTS:
            self._known.clear()
        self._known.add(tenant_id)


def _refuse_other_keys(event: Event) -> None:
    """Order in the chain is that of its tenant's key alone."""
    if event.partition_key != event.tenant_id:
        raise EventRejected("the key of an audit record is not its tenant")
