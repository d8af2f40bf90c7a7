"""What an operator did to the events of a tenant goes to that tenant's audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection
from meshwright_common.storage.tenancy import enter_tenant

SOURCE: Final = "operator"


async def record_act(
    connection: Connection,
    *,
    action: str,
    tenant_id: str,
    consumer: str,
    operator: str,
    details: Mapping[str, object],
) -> None:
    """Tell the tenant's audit log, in the act's own transaction, what `operator` did."""
    await enter_tenant(connection, tenant_id)
    await outbox.append(
        connection,
        Topic.AUDIT_LOG,
        Event.new(
            event_type="audit.recorded",
            source=SOURCE,
            tenant_id=tenant_id,
            partition_key=tenant_id,
            data={
                "actor": operator,
                "action": action,
                "resource": f"consumer/{consumer}",
                "outcome": "allowed",
                "request_id": "",
                "details": dict(details),
            },
        ),
    )
