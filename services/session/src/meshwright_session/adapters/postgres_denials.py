"""Denials become events of the audit log, each in its tenant's transaction."""

import uuid
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.audit_denials import PLATFORM, Denial
from meshwright_session.domain.audit_records import timestamp

_SOURCE: Final = "session"


class PostgresDenialLog:
    """`DenialLog` by the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, request_id: str, denials: Sequence[Denial]) -> None:
        # An id follows from the request and the place in it: told again, it is the same event.
        numbered = sorted(enumerate(denials), key=lambda one: one[1].tenant_id)
        for tenant_id, group in groupby(numbered, key=lambda one: one[1].tenant_id):
            owner = tenant_id if await self._exists(tenant_id) else PLATFORM
            events = [
                _event(owner, str(uuid.uuid5(uuid.UUID(request_id), str(index))), denial)
                for index, denial in group
            ]
            async with unit_of_work(self._database, owner) as connection:
                await outbox.append_all(connection, Topic.AUDIT_LOG, events)

    async def _exists(self, tenant_id: str) -> bool:
        async with unit_of_work(self._database, tenant_id) as connection:
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)", tenant_id
                )
            )


def _event(tenant_id: str, event_id: str, denial: Denial) -> Event:
    return Event.new(
        event_type="audit.recorded",
        source=_SOURCE,
        tenant_id=tenant_id,
        partition_key=tenant_id,
        event_id=event_id,
        data={
            "actor": denial.actor,
            "action": denial.action,
            "resource": denial.resource,
            "outcome": "denied",
            "request_id": "",
            "details": {
                "reason": denial.reason,
                "address": denial.address,
                "count": denial.count,
                "first_time": timestamp(denial.first_time),
                "last_time": timestamp(denial.last_time),
            },
        },
    )
