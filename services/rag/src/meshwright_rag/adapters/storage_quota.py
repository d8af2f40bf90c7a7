"""The quotas of documents and of their bytes: exact, in the transaction that adds to them."""

from datetime import UTC, datetime
from typing import Final, NamedTuple

from meshwright_common.quota_alerts import Spent, crossed, tell_reached
from meshwright_common.quotas import QuotaName, TenantQuota, quota_exceeded
from meshwright_common.storage.postgres import Connection
from meshwright_rag.adapters.document_events import SOURCE


class Stored(NamedTuple):
    """Documents that exist, and the bytes of their current versions."""

    documents: int
    storage_bytes: int


async def stored(connection: Connection, tenant_id: str) -> Stored:
    """Return what a tenant stores."""
    row = await connection.fetchrow(_STORED, tenant_id)
    return Stored(0, 0) if row is None else Stored(row["documents"], row["storage_bytes"])


async def make_room(
    connection: Connection, quota: TenantQuota, *, documents: int, storage_bytes: int
) -> None:
    """Let the tenant store so much more, or so many bytes less, in the open transaction.

    Administrators are told in it when a share of a limit is reached. Uploads of a tenant with
    limits take turns until their transactions end. Raises: QuotaExceeded.
    """
    if not (quota.documents or quota.storage_bytes):
        return
    await connection.execute(_TAKE_TURNS, quota.tenant_id)
    # A statement of its own: it sees what those who had their turn before have stored.
    before = await stored(connection, quota.tenant_id)
    await _add(connection, quota, "documents", before.documents, documents, quota.documents)
    await _add(
        connection,
        quota,
        "storage_bytes",
        before.storage_bytes,
        storage_bytes,
        quota.storage_bytes,
    )


async def _add(
    connection: Connection, quota: TenantQuota, name: QuotaName, before: int, more: int, limit: int
) -> None:
    used = before + more
    if more > 0 and 0 < limit < used:
        raise quota_exceeded(
            name, used=before, limit=limit, plan=quota.plan, tenant_id=quota.tenant_id
        )
    if crossed(before, used, limit, quota.alert_percents):
        spent = Spent(name, used, limit, quota.plan, datetime.now(UTC).date())
        await tell_reached(connection, quota.tenant_id, spent, quota.alert_percents, source=SOURCE)


_TAKE_TURNS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('meshwright.rag.storage/' || $1, 0))
"""

_STORED: Final = """
SELECT count(*) AS documents, coalesce(sum(size_bytes), 0)::bigint AS storage_bytes
  FROM documents WHERE tenant_id = $1 AND deleted_at IS NULL
"""
