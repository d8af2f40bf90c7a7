"""Bring the database of an embedded platform up to date: roles, schemas, all migrations."""

from __future__ import annotations

from urllib.parse import urlsplit

from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE, SERVICES_WITH_TABLES, bootstrap
from meshwright_common.storage.migrations import migrate, migrate_events
from meshwright_common.storage.postgres import schema_of
from meshwright_common.storage.schema_state import is_current


async def migrate_all(settings: DatabaseSettings) -> dict[str, list[str]]:
    """Apply the new migrations of the event log and of every service; return them by schema.

    Idempotent. Raises: MigrationRefused; StorageUnavailable.
    """
    owner_url = settings.url_for(OWNER_SERVICE)
    applied = {"events": await migrate_events(owner_url)}
    for service in SERVICES_WITH_TABLES:
        schema = schema_of(service)
        applied[schema] = await migrate(owner_url, service, f"meshwright_{schema}")
    return {schema: names for schema, names in applied.items() if names}


async def prepare_database(
    superuser_url: str, settings: DatabaseSettings, *, password: str
) -> dict[str, list[str]]:
    """Bootstrap a new or older server, then migrate it; return what was applied, by schema.

    Raises: MigrationRefused; StorageUnavailable.
    """
    if await is_current(settings.url_for(OWNER_SERVICE), SERVICES_WITH_TABLES):
        return {}
    database = urlsplit(settings.url).path.removeprefix("/")
    await bootstrap(superuser_url, password=password, database=database)
    return await migrate_all(settings)
