"""The usage ledger and the audit logs as operators look at them: as the owner of the tables.

Beside the compositions the only module of the command that names the service they belong to.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from meshwright_cli.commands.events.operator import Backbone, operate
from meshwright_cli.environment import EMBEDDED
from meshwright_cli.exits import refused
from meshwright_common.errors import ServiceError
from meshwright_common.identity.keys import KeyFileError
from meshwright_common.identity.signing import PUBLIC_FILE, RecordKeys, load_record_keys
from meshwright_common.ids import parse_id
from meshwright_common.settings import CommonSettings, ObjectSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import (
    JOB_STATEMENT_TIMEOUT_SECONDS,
    Database,
    open_database,
)
from meshwright_common.storage.tenancy import unscoped
from meshwright_session.adapters.postgres_audit import PostgresAuditReader
from meshwright_session.domain.audit_denials import PLATFORM
from meshwright_session.domain.audit_records import AuditFilter, AuditRecord, timestamp
from meshwright_session.domain.audit_verification import Verdict
from meshwright_session.domain.usage_reconciliation import (
    Reconciled,
    ReconciledPeriod,
    Repaired,
)
from meshwright_session.record_parts import make_verifier
from meshwright_session.usage_reconciliation import reconcile, repair

__all__ = [
    "AuditFilter",
    "Reconciled",
    "RecordBooks",
    "Repaired",
    "Tenant",
    "Verdict",
    "open_books",
    "public_keys",
]

T = TypeVar("T")
PLATFORM_NAME: Final = "platform"
"""Stands for the log of what belongs to no tenant."""
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; one that is gone has its id for a name."""

    tenant_id: str
    name: str


@dataclass(frozen=True, slots=True)
class RecordBooks:
    """The tables of the session service, and the log beside them."""

    backbone: Backbone
    database: Database
    data: Path

    async def tenants(self, name: str) -> Sequence[Tenant]:
        """Return the tenant of a slug or id, or all that have records. Raises: CommandError."""
        async with unscoped(self.database) as connection:
            rows = await connection.fetch(_TENANTS, PLATFORM, PLATFORM_NAME)
        found = [Tenant(row["tenant_id"], row["name"]) for row in rows]
        if not name:
            return found
        if name == PLATFORM_NAME:
            return [Tenant(PLATFORM, PLATFORM_NAME)]
        chosen = [one for one in found if name in (one.name, one.tenant_id)]
        if not chosen and (known_id := _id_of(name)):
            chosen = [Tenant(known_id, known_id)]
        if not chosen:
            raise refused(f"there is no tenant {name!r}")
        return chosen

    @asynccontextmanager
    async def objects(self) -> AsyncIterator[ObjectStore]:
        """Open the object store of the platform."""
        settings = self.backbone.settings.objects
        if settings.url == EMBEDDED:
            settings = ObjectSettings(url=(self.data / "objects").absolute().as_uri())
        async with open_objects(settings) as opened:
            yield opened

    async def verify(
        self, tenants: Sequence[Tenant], keys: RecordKeys, tell: Callable[[Tenant, Verdict], None]
    ) -> bool:
        """Verify audit logs, one after the other; return whether all are whole."""
        whole = True
        async with self.objects() as objects:
            verifier = make_verifier(self.database, objects, keys)
            for tenant in tenants:
                verdict = await verifier.verify(tenant.tenant_id)
                tell(tenant, verdict)
                whole = whole and verdict.valid
        return whole

    async def records(
        self, tenant: Tenant, wanted: AuditFilter, most: int
    ) -> Sequence[dict[str, object]]:
        """Return the newest records of a tenant that are wanted."""
        reader = PostgresAuditReader(self.database)
        return [
            shown_record(one) for one in await reader.query(tenant.tenant_id, wanted, None, most)
        ]

    async def all_records(self, tenant: Tenant) -> AsyncIterator[dict[str, object]]:
        """Yield a tenant's records in the order of their chain."""
        reader = PostgresAuditReader(self.database)
        end = (await reader.head(tenant.tenant_id)).last_stored
        after = await reader.first_sequence(tenant.tenant_id) - 1
        while after < end:
            batch = await reader.chain(tenant.tenant_id, after, end, PAGE)
            for record in batch:
                yield shown_record(record)
            if not batch:
                return
            after = batch[-1].sequence

    async def reconcile(
        self, tenant: Tenant | None, since: datetime, until: datetime
    ) -> Reconciled:
        """Compare the usage ledger with the events of a period."""
        return await reconcile(self.database, self.backbone.log, _period(tenant, since, until))

    async def repair(
        self, tenant: Tenant | None, since: datetime, until: datetime, *, operator: str
    ) -> tuple[Repaired, Reconciled]:
        """Put right what can be put right for certain; return that, and what still differs."""
        return await repair(
            self.database, self.backbone.log, _period(tenant, since, until), operator=operator
        )


def open_books(data: Path, work: Callable[[RecordBooks], Awaitable[T]]) -> T:
    """Run `work` on the platform's books. Raises: CommandError with what is wrong."""

    async def run(backbone: Backbone) -> T:
        # As the owner, who sees all tenants, with the service's tables on the search path.
        url = backbone.database_settings.url_for(OWNER_SERVICE)
        async with open_database(
            backbone.database_settings.model_copy(update={"url": url}),
            "session",
            max_size=3,
            statement_timeout_seconds=JOB_STATEMENT_TIMEOUT_SECONDS,
        ) as database:
            return await work(RecordBooks(backbone, database, data))

    return operate(data, run)


def public_keys(settings: CommonSettings, data: Path, file: Path | None) -> RecordKeys:
    """Return the keys of `file`, or those of the platform. Raises: CommandError."""
    named = "keys_dir" in settings.identity.model_fields_set
    folder = settings.identity.keys_dir if named else data / "keys"
    try:
        return load_record_keys(file or folder / PUBLIC_FILE)
    except KeyFileError as error:
        raise refused(f"--public-key: {error}") from None


def shown_record(record: AuditRecord) -> dict[str, object]:
    """Return a record as it is hashed, and its hashes."""
    entry = record.entry
    return {
        "tenant_id": entry.tenant_id,
        "sequence": record.sequence,
        "event_id": entry.event_id,
        "time": timestamp(entry.time),
        "actor": entry.actor,
        "action": entry.action,
        "resource": entry.resource,
        "outcome": entry.outcome,
        "source": entry.source,
        "request_id": entry.request_id,
        "details": _json(entry.details_json),
        "previous_hash": record.previous_hash.hex(),
        "hash": record.hash.hex(),
    }


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _period(tenant: Tenant | None, since: datetime, until: datetime) -> ReconciledPeriod:
    return ReconciledPeriod(None if tenant is None else tenant.tenant_id, since, until)


def _id_of(name: str) -> str:
    try:
        return parse_id(name, "tenant")
    except ServiceError:
        return ""


# house: tenantless-sql: the owner looks at all tenants
_TENANTS: Final = """
SELECT known.tenant_id, CASE WHEN known.tenant_id = $1 THEN $2
                             ELSE coalesce(t.slug, known.tenant_id::text) END AS name
  FROM (SELECT tenant_id FROM tenants UNION SELECT tenant_id FROM audit_heads
         UNION SELECT tenant_id FROM audit_checkpoints) known
  LEFT JOIN tenants t USING (tenant_id)
 ORDER BY name
"""
