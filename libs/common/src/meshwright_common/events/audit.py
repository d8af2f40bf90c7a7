"""Audit records: security-relevant acts, written with the act and told to the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from meshwright_common import context
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection

AuditOutcome: TypeAlias = Literal["allowed", "denied", "failed"]


async def record(
    connection: Connection,
    *,
    source: str,
    action: str,
    resource: str,
    outcome: AuditOutcome = "allowed",
    details: Mapping[str, object] | None = None,
    tenant_id: str | None = None,
) -> None:
    """Tell that the current caller did `action` on `resource`, in the caller's open transaction.

    `source` is the reporting service, `action` such as "document.uploaded", `resource` such as
    "document/0192…". `details` are JSON values, never content or secrets. `tenant_id` names whose
    log it is when that is not the caller's tenant: the transaction's tenant has to be the same.
    Raises: Unauthenticated when no caller is bound; EventTooLarge.
    """
    event = recorded(
        *(source, action, resource), outcome=outcome, details=details, tenant_id=tenant_id
    )
    await outbox.append(connection, Topic.AUDIT_LOG, event)


def recorded(
    source: str,
    action: str,
    resource: str,
    *,
    outcome: AuditOutcome = "allowed",
    details: Mapping[str, object] | None = None,
    tenant_id: str | None = None,
) -> Event:
    """Return the event that `record` appends, for a statement that does it beside other work."""
    caller = context.principal()
    tenant = tenant_id or caller.tenant_id
    return Event.new(
        event_type="audit.recorded",
        source=source,
        tenant_id=tenant,
        partition_key=tenant,
        data={
            "actor": caller.subject,
            "action": action,
            "resource": resource,
            "outcome": outcome,
            "request_id": context.current().request_id,
            "details": dict(details or {}),
        },
    )
