"""What a superuser does once per server, before migrations: database, schemas, roles, grants.

Everything is idempotent and brings an older installation up to date. In production the same
statements may be run by an operator (`meshwright migrate --bootstrap`); services never do.

The administrator of a managed server is no superuser, but may create roles and databases: that is
enough, too. What it may not set for a role (deadlock_timeout) must then be so for the whole server.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import asyncpg

from meshwright_common.settings import SERVICE_NAMES, SettingsError
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    Connection,
    schema_of,
    translated_errors,
)
from meshwright_common.telemetry.logging import get_logger

logger = get_logger(__name__)

DATABASE: Final = "meshwright"
OWNER: Final = "meshwright_owner"
SERVICES: Final = "meshwright_services"
"""Group of all service roles: what every service may do with the event log is granted to it."""
OWNER_SERVICE: Final = "owner"
"""What `{service}` in the database URL becomes for migrations."""
EVENTS_SCHEMA: Final = "events"
SERVICES_WITH_TABLES: Final = tuple(name for name in SERVICE_NAMES if name != "gateway")
TRANSACTION_TIMEOUT: Final = "30s"
"""Ends a transaction that holds back the event log's cursor and vacuum (PostgreSQL 17 on)."""
DEADLOCK_TIMEOUT: Final = "200ms"
"""Shorter than the services' lock_timeout, so that a deadlock is told apart from a busy lock."""
OWNER_DEADLOCK_TIMEOUT: Final = "50ms"
"""Shorter than the owner waits for a lock beside running services (`moves.LOCK_PATIENCE`): it is
the owner who gives way to them, and vacuum, which is told only then, to the owner."""


def role_of(service: str) -> str:
    """Return the role a service logs in with: `meshwright_model_router`."""
    return f"meshwright_{schema_of(service)}"


async def bootstrap(superuser_url: str, *, password: str, database: str = DATABASE) -> None:
    """Create or update database, roles, schemas and grants; pgvector where the server has it.

    `superuser_url` names any existing database. `password` becomes that of the owner and of every
    service role. Raises: StorageUnavailable; SettingsError when server or roles are not as they
    have to be; the driver's error when the login may not do this.
    """
    with translated_errors():
        connection = await asyncpg.connect(superuser_url, timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            await connection.execute("SELECT pg_advisory_lock(hashtext('meshwright.bootstrap'))")
            by_superuser = await _is_superuser(connection)
            await _create_roles(connection, password, by_superuser=by_superuser)
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database
            ):
                await connection.execute(
                    f'CREATE DATABASE "{database}" OWNER {OWNER} TEMPLATE template0'
                )
        finally:
            await connection.close()
        connection = await asyncpg.connect(
            superuser_url, database=database, timeout=CONNECT_TIMEOUT_SECONDS
        )
        try:
            async with connection.transaction():
                await connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtext('meshwright.bootstrap'))"
                )
                await _create_schemas(connection, database)
                await _create_vector_extension(connection)
                await connection.execute(f"COMMENT ON DATABASE \"{database}\" IS '{fingerprint()}'")
        finally:
            await connection.close()


def fingerprint() -> str:
    """Return what `bootstrap` writes as the database's comment: the version of its statements."""
    return f"meshwright bootstrap {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


async def _is_superuser(connection: Connection) -> bool:
    return bool(
        await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    )


async def _create_roles(connection: Connection, password: str, *, by_superuser: bool) -> None:
    existing = {
        str(row["rolname"])
        for row in await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'meshwright\\_%'"
        )
    }
    secret = await connection.fetchval("SELECT quote_literal($1::text)", password)
    newer = connection.get_server_version().major >= 17
    if SERVICES not in existing:
        await connection.execute(f"CREATE ROLE {SERVICES} NOLOGIN NOSUPERUSER NOBYPASSRLS")
    for role in (OWNER, *(role_of(service) for service in SERVICES_WITH_TABLES)):
        if role in existing and not by_superuser:
            # It may not even say again what is so.
            await _check_rights(connection, role)
            await connection.execute(f"ALTER ROLE {role} LOGIN INHERIT PASSWORD {secret}")
        else:
            verb = "ALTER" if role in existing else "CREATE"
            await connection.execute(
                f"{verb} ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"
                f" NOREPLICATION INHERIT PASSWORD {secret}"
            )
        if role == OWNER:
            if not by_superuser:
                # To make a database and schemas that are another's.
                await connection.execute(f"GRANT {role} TO CURRENT_USER")
            await _set_deadlock_timeout(connection, role, OWNER_DEADLOCK_TIMEOUT)
            continue
        await connection.execute(f"GRANT {SERVICES} TO {role}")
        await _set_deadlock_timeout(connection, role, DEADLOCK_TIMEOUT)
        if newer:
            await connection.execute(
                f"ALTER ROLE {role} SET transaction_timeout = '{TRANSACTION_TIMEOUT}'"
            )


async def _check_rights(connection: Connection, role: str) -> None:
    """Raises: SettingsError for a role that could pass by row-level security."""
    too_much = await connection.fetchval(
        "SELECT rolsuper OR rolbypassrls OR rolreplication OR rolcreatedb OR rolcreaterole"
        " FROM pg_roles WHERE rolname = $1",
        role,
    )
    if too_much:
        raise SettingsError(
            f"MESHWRIGHT_BOOTSTRAP_URL: the role {role} has rights that it must not have: drop it,"
            f" or ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEDB NOCREATEROLE"
            " as a superuser."
        )


async def _set_deadlock_timeout(connection: Connection, role: str, wanted: str) -> None:
    """Set it for the role; where only a superuser may, see that the whole server has it short.

    Raises: SettingsError.
    """
    try:
        await connection.execute(f"ALTER ROLE {role} SET deadlock_timeout = '{wanted}'")
    except asyncpg.InsufficientPrivilegeError:
        longest = int(re.sub(r"\D", "", DEADLOCK_TIMEOUT))
        milliseconds = await connection.fetchval(
            "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"
        )
        if milliseconds > longest:
            raise SettingsError(
                "MESHWRIGHT_BOOTSTRAP_URL: this login may not set deadlock_timeout for roles, and"
                f" the server's is {milliseconds} ms: set it to {DEADLOCK_TIMEOUT} in its"
                " parameters."
            ) from None


async def _create_schemas(connection: Connection, database: str) -> None:
    statements = [
        f'ALTER DATABASE "{database}" OWNER TO {OWNER}',
        f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        # The doors across tenants are functions: none is open unless a migration grants it.
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        f"CREATE SCHEMA IF NOT EXISTS {EVENTS_SCHEMA} AUTHORIZATION {OWNER}",
        f"GRANT USAGE ON SCHEMA {EVENTS_SCHEMA} TO {SERVICES}",
        f'GRANT CONNECT ON DATABASE "{database}" TO {SERVICES}',
    ]
    for service in SERVICES_WITH_TABLES:
        role, schema = role_of(service), schema_of(service)
        mine = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA {schema} GRANT"
        statements += [
            f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {OWNER}",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"{mine} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
            f"{mine} USAGE, SELECT ON SEQUENCES TO {role}",
        ]
    for statement in statements:
        await connection.execute(statement)


async def _create_vector_extension(connection: Connection) -> None:
    available = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
    )
    if not available:
        return
    try:
        async with connection.transaction():
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            await connection.execute("ALTER EXTENSION vector UPDATE")
    except asyncpg.InsufficientPrivilegeError as error:
        # Only the vector index in PostgreSQL needs it; managed servers that have it let us.
        logger.warning("vector_extension_refused", cause=str(error))
