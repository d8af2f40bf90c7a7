"""Audit logs of tenants on a real database and a real object store, without the rest."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from meshwright_common.clock import ManualClock
from meshwright_common.identity.signing import RecordSigner, ephemeral_record_signer
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, ObjectSettings
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import Connection, Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import PostgresServer
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.domain.audit_records import AuditEntry
from meshwright_session.domain.audit_trail import add_all_to_chain
from meshwright_session.domain.audit_verification import Verdict
from meshwright_session.record_parts import RecordParts, make_verifier, record_parts
from meshwright_session.settings import SessionSection

DAY: Final = timedelta(days=1)


@dataclass
class AuditLogs:
    """The stores, and what works on them. `clock` is that of signatures."""

    database: Database
    objects: ObjectStore
    superuser_url: str
    signer: RecordSigner = field(default_factory=ephemeral_record_signer)
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime.now(UTC)))
    section: SessionSection = field(default_factory=SessionSection)

    @property
    def parts(self) -> RecordParts:
        """What checkpoints and retention are done by."""
        return record_parts(
            self.section, self.database, self.objects, self.signer, clock=self.clock
        )

    async def append(self, tenant_id: str, count: int, *, since: datetime | None = None) -> None:
        """Add so many records, dated a second apart from `since` (an hour ago)."""
        since = since or datetime.now(UTC) - timedelta(hours=1)
        entries = [entry(tenant_id, number, since) for number in range(count)]
        async with unit_of_work(self.database, tenant_id) as connection:
            assert await add_all_to_chain(PostgresAuditChain(connection), entries)

    async def checkpoint(self) -> int:
        """Sign all that has no checkpoint, as if its time had come; return how many."""
        return (await self.parts.checkpointer.round(seconds=0, records=1)).signed

    async def verify(self, tenant_id: str) -> Verdict:
        verifier = make_verifier(self.database, self.objects, self.signer.keys)
        return await verifier.verify(tenant_id)

    @contextlib.asynccontextmanager
    async def as_superuser(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect as nobody of ours may: past row-level security and privileges."""
        connection = await asyncpg.connect(
            self.superuser_url, server_settings={"search_path": "session, public"}
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def query(self, statement: str, *values: object) -> Sequence[asyncpg.Record]:
        """Ask as a superuser."""
        async with self.as_superuser() as connection:
            return await connection.fetch(statement, *values)


def entry(tenant_id: str, number: int, since: datetime) -> AuditEntry:
    """Return something to record."""
    return AuditEntry(
        tenant_id=tenant_id,
        event_id=new_id(),
        time=since + timedelta(seconds=number),
        actor=f"user-{number}",
        action="document.uploaded",
        resource=f"document/{number}",
        outcome="allowed",
        source="rag",
        request_id=f"request-{number}",
        details_json=f'{{"n":{number},"name":"été \\"x\\""}}',
    )


@contextlib.asynccontextmanager
async def open_audit_logs(
    settings: DatabaseSettings, server: PostgresServer, folder: Path
) -> AsyncIterator[AuditLogs]:
    """Open the logs of a fresh database, with objects below `folder`."""
    async with (
        open_database(settings, "session") as database,
        open_objects(ObjectSettings(url=folder.as_uri())) as objects,
    ):
        name = urlsplit(settings.url).path.lstrip("/")
        yield AuditLogs(database, objects, server.superuser_url_of(name))


class OneTransaction:
    """Stands for a `Database` whose every transaction is part of one that is open already.

    What was done to the tables there is seen, and can be rolled back.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def transaction(self, *, opening: str = "") -> AsyncIterator[Connection]:
        """Give the connection, whose tenant is that of the statements."""
        yield self._connection
