"""The last steps of a tenant: its own schema dropped, keys destroyed, a tombstone left."""

from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work


class PostgresTenantEnd:
    """`TenantEnd`."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def end(self, tenant_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.fetchval("SELECT drop_empty_placement($1)", tenant_id)
        await self._keys.forget_tenant(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_BURY, tenant_id)


# The slug is free again: it is made of the id. The id stays, so that it never is anybody else's.
_BURY: Final = """
UPDATE tenants
   SET slug = 'erased-' || replace(tenant_id::text, '-', ''), display_name = '',
       create_request_id = NULL, create_request_digest = NULL,
       erase_time = coalesce(erase_time, now())
 WHERE tenant_id = $1
"""
