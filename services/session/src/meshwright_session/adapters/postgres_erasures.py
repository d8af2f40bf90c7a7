"""Erasures as they are asked for and read, in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.events import audit
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.postgres_sessions import LAST_ID, SOURCE
from meshwright_session.domain.acts import Act
from meshwright_session.domain.erasure_models import Erasure, StoreReport
from meshwright_session.domain.errors import (
    ErasureNotFound,
    LastOwner,
    TenantNotFound,
    UserNotFound,
)


class PostgresErasures:
    """`ErasureRegister` on the tables `erasures` and `erasure_stores`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_user(
        self, tenant_id: str, user_id: str, erasure_id: str, *, keep_documents: bool, act: Act
    ) -> Erasure:
        async with unit_of_work(self._database, tenant_id) as connection:
            # Whoever else removes, disables or changes owners of this tenant waits here.
            await connection.execute(_LOCK_OWNERS, tenant_id)
            begun = await connection.fetchrow(_BEGUN_USER, tenant_id, user_id)
            if begun is not None:
                return await read_erasure(connection, tenant_id, begun["erasure_id"])
            state = await connection.fetchrow(_ONLY_OWNER, tenant_id, user_id)
            if state is None:
                raise UserNotFound
            if state["is_only_owner"]:
                raise LastOwner
            await connection.execute(
                _BEGIN, tenant_id, erasure_id, user_id, principal().subject, keep_documents
            )
            await connection.execute(_DISABLE_USER, tenant_id, user_id)
            await connection.execute(_REVOKE_KEYS, tenant_id, user_id)
            await report(connection, tenant_id, act)
            return await read_erasure(connection, tenant_id, erasure_id)

    async def begin_tenant(
        self, tenant_id: str, confirm_slug: str, erasure_id: str, *, act: Act
    ) -> Erasure:
        async with unit_of_work(self._database, tenant_id) as connection:
            slug = await connection.fetchval(_LOCK_SLUG, tenant_id)
            if slug is None:
                raise TenantNotFound
            begun = await connection.fetchrow(_BEGUN_TENANT, tenant_id)
            if begun is not None:
                return await read_erasure(connection, tenant_id, begun["erasure_id"])
            if slug != confirm_slug:
                raise invalid("confirm_slug", "must be the slug of the tenant to erase")
            await connection.execute(
                _BEGIN, tenant_id, erasure_id, None, principal().subject, False
            )
            await connection.execute(_CLOSE_TENANT, tenant_id)
            await report(connection, tenant_id, act)
            return await read_erasure(connection, tenant_id, erasure_id)

    async def get(self, tenant_id: str, erasure_id: str) -> Erasure:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await read_erasure(connection, tenant_id, erasure_id)

    async def list(self, tenant_id: str, before_id: str | None, limit: int) -> Sequence[Erasure]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, before_id or LAST_ID, limit)
        return [_erasure(row, ()) for row in rows]


async def read_erasure(connection: Connection, tenant_id: str, erasure_id: str) -> Erasure:
    """Return an erasure with its stores, in the open transaction. Raises: ErasureNotFound."""
    row = await connection.fetchrow(_GET, tenant_id, erasure_id)
    if row is None:
        raise ErasureNotFound
    stores = await connection.fetch(_STORES, tenant_id, erasure_id)
    return _erasure(
        row,
        [
            StoreReport(one["service"], one["store"], one["removed_count"], one["remaining_count"])
            for one in stores
        ],
    )


async def report(connection: Connection, tenant_id: str, act: Act) -> None:
    """Tell the audit of an act in the open transaction."""
    await audit.record(
        connection,
        source=SOURCE,
        action=act.action,
        resource=act.resource,
        details=act.details,
        tenant_id=tenant_id,
    )


def _erasure(row: Record, stores: Sequence[StoreReport]) -> Erasure:
    return Erasure(
        tenant_id=row["tenant_id"],
        erasure_id=row["erasure_id"],
        user_id=row["user_id"] or "",
        state=row["state"],
        requested_by=row["requested_by"],
        keep_documents=row["keep_documents"],
        create_time=row["create_time"],
        due_time=row["due_time"],
        complete_time=row["complete_time"],
        attempts=row["attempts"],
        last_error=row["last_error"],
        receipt=row["receipt"],
        stores=stores,
    )


# The tenant's row, as whoever counts its owners has it.
_LOCK_OWNERS: Final = "SELECT FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE"

_LOCK_SLUG: Final = """
SELECT slug FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE
"""

_BEGUN_USER: Final = """
SELECT erasure_id FROM erasures WHERE tenant_id = $1 AND user_id = $2
"""

_BEGUN_TENANT: Final = """
SELECT erasure_id FROM erasures WHERE tenant_id = $1 AND user_id IS NULL
"""

_ONLY_OWNER: Final = """
SELECT 'owner' = ANY (u.roles) AND NOT u.disabled AND NOT EXISTS (
           SELECT FROM users o
            WHERE o.tenant_id = $1 AND o.user_id <> $2 AND 'owner' = ANY (o.roles)
              AND NOT o.disabled) AS is_only_owner
  FROM users u
 WHERE u.tenant_id = $1 AND u.user_id = $2
"""

_BEGIN: Final = """
INSERT INTO erasures (tenant_id, erasure_id, user_id, requested_by, keep_documents)
VALUES ($1, $2, $3, $4, $5)
"""

_DISABLE_USER: Final = """
UPDATE users SET disabled = true WHERE tenant_id = $1 AND user_id = $2
"""

_REVOKE_KEYS: Final = """
UPDATE api_keys SET revoke_time = now()
 WHERE tenant_id = $1 AND user_id = $2 AND revoke_time IS NULL
"""

_CLOSE_TENANT: Final = "UPDATE tenants SET state = 'deleting' WHERE tenant_id = $1"

_GET: Final = "SELECT * FROM erasures WHERE tenant_id = $1 AND erasure_id = $2"

_STORES: Final = """
SELECT service, store, removed_count, remaining_count FROM erasure_stores
 WHERE tenant_id = $1 AND erasure_id = $2 ORDER BY "number"
"""

# Ids are made in the order of time.
_LIST: Final = """
SELECT * FROM erasures
 WHERE tenant_id = $1 AND erasure_id < $2 ORDER BY erasure_id DESC LIMIT $3
"""
