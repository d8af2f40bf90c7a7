"""One transaction, one tenant: the only door to tenant tables.

Row-level security reads `app.tenant_id`, which is set for the transaction and never for the
session: a pooled connection cannot carry it to the next caller, with or without a transaction
pooler in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

import stamina

from meshwright_common.ids import parse_id
from meshwright_common.storage import announcements
from meshwright_common.storage.postgres import Connection, Database, TransactionConflict

T = TypeVar("T")

CONFLICT_ATTEMPTS: Final = 3


@contextlib.asynccontextmanager
async def unit_of_work(database: Database, tenant_id: str) -> AsyncIterator[Connection]:
    """Give a connection in a transaction that sees and writes rows of `tenant_id` only.

    Leaving the block normally commits; any exception rolls back and passes on.
    Raises: InvalidArgument when `tenant_id` is not a UUID; StorageUnavailable, StorageTimeout and
    TransactionConflict, each after a roll-back (see `retry_conflicts` for the last).
    """
    tenant = parse_id(tenant_id, "tenant_id")
    # parse_id has left nothing in it but hexadecimal digits and dashes.
    async with database.transaction(opening=f"SET LOCAL app.tenant_id = '{tenant}'") as connection:
        yield connection


@contextlib.asynccontextmanager
async def unscoped(database: Database) -> AsyncIterator[Connection]:
    """Give a connection in a transaction with no tenant: tenant tables look empty in it.

    For tables without tenants and for the functions that are the doors across tenants.
    """
    async with database.transaction() as connection:
        yield connection


@contextlib.asynccontextmanager
async def unflushed(database: Database) -> AsyncIterator[Connection]:
    """Do as `unscoped`, without waiting for the disk at the commit, nor making others wait for it.

    Everybody sees what was committed at once, and a crash of a process takes none of it; that of
    the machine may take the last moments, in order: of two commits never the earlier one alone. For
    what is found again without, such as which task was offered to whom.
    """
    async with database.transaction(opening="SET LOCAL synchronous_commit = off") as connection:
        yield connection


@contextlib.asynccontextmanager
async def one_statement(database: Database) -> AsyncIterator[Connection]:
    """Give a connection for one call of a function that sets its tenant itself.

    The statement is its own transaction, in one round trip instead of three. When the block ends
    with StorageUnavailable or a time-out nobody knows whether it was committed: for writes that may
    be made again. Raises: as `unit_of_work`.
    """
    async with database.connection() as connection:
        try:
            yield connection
        finally:
            announced = announcements.take(connection)
        database.announcer.send(announced)


async def enter_tenant(connection: Connection, tenant_id: str) -> None:
    """Make `tenant_id` the tenant for the rest of the open transaction.

    For code that handles rows of several tenants in one transaction, one after the other.
    """
    await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant_id)


async def retry_conflicts(operation: Callable[[], Awaitable[T]]) -> T:
    """Run `operation`, whole, up to 3 times while it raises TransactionConflict.

    It has to open its transaction itself and have no other effects. Waits 10 to 80 ms in between.
    """
    async for attempt in stamina.retry_context(
        on=TransactionConflict,
        attempts=CONFLICT_ATTEMPTS,
        timeout=None,
        wait_initial=0.01,
        wait_jitter=0.02,
        wait_max=0.08,
    ):
        with attempt:
            return await operation()
    raise AssertionError("stamina returns or raises")


async def security_violations(connection: Connection, schemas: Sequence[str]) -> list[str]:
    """Return one line for each thing in `schemas` that weakens tenant isolation; empty is good.

    A table with `tenant_id` without forced row-level security, without both policies or with a key
    that does not start with the tenant; a SECURITY DEFINER function without a fixed search path or
    open to everybody; a view that runs with its owner's rights. In the schemas of tenants that hold
    partitions of such tables: the same, and anything that a service could reach directly. A foreign
    key or a trigger that would not survive a tenant's move to its own schema.
    """
    rows = await connection.fetch(_VIOLATIONS, list(schemas))
    return [str(row["violation"]) for row in rows]


_VIOLATIONS: Final = """
WITH tenant_tables AS (
    SELECT c.oid, n.oid AS schema_id, n.nspname || '.' || c.relname AS name,
           c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.relacl, c.relispartition,
           n.nspname ~ '^tenant_[0-9a-f]{32}$' AS of_one_tenant
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
     WHERE (n.nspname = ANY ($1::text[]) OR n.nspname ~ '^tenant_[0-9a-f]{32}$')
       AND c.relkind IN ('r', 'p')
), placed AS (
    -- Tables that are partitioned by tenant, and their shared partitions.
    SELECT t.oid, t.oid AS parent, t.name FROM tenant_tables t
     WHERE t.oid IN (SELECT p.partrelid FROM pg_partitioned_table p
                      JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                     WHERE p.partstrat = 'l' AND a.attname = 'tenant_id')
     UNION ALL
    SELECT i.inhrelid, p.partrelid, p.partrelid::regclass::text
      FROM pg_partitioned_table p
      JOIN pg_inherits i ON i.inhparent = p.partrelid
     WHERE p.partstrat = 'l' AND p.partrelid IN (SELECT oid FROM tenant_tables)
)
SELECT name || ': row-level security is not forced' AS violation
  FROM tenant_tables
 WHERE NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT t.name || ': no policy ' || wanted.policy || ' with USING and WITH CHECK'
  FROM tenant_tables t
 CROSS JOIN (VALUES ('tenant_isolation'), ('owner_access')) AS wanted (policy)
 WHERE NOT EXISTS (SELECT FROM pg_policy p
                    WHERE p.polrelid = t.oid AND p.polname = wanted.policy AND p.polcmd = '*'
                      AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL)
UNION ALL
SELECT t.name || ': the primary key does not start with tenant_id'
  FROM tenant_tables t
 WHERE NOT EXISTS (SELECT FROM pg_index i
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = t.oid AND i.indisprimary AND a.attname = 'tenant_id')
UNION ALL
SELECT t.name || ': a partition that ' || pg_get_userbyid(grants.grantee) || ' may use directly'
  FROM tenant_tables t, aclexplode(t.relacl) AS grants
 WHERE (t.relispartition OR t.of_one_tenant) AND grants.grantee <> t.relowner
UNION ALL
SELECT n.nspname || ': a schema of one tenant that ' || pg_get_userbyid(grants.grantee)
       || ' may use directly'
  FROM pg_namespace n, aclexplode(n.nspacl) AS grants
 WHERE n.oid IN (SELECT schema_id FROM tenant_tables WHERE of_one_tenant)
   AND grants.grantee <> n.nspowner
UNION ALL
SELECT k.conrelid::regclass || ': refers to ' || p.name || ', which is partitioned by tenant,'
       || ' and is not placed with it (place_by_tenant)'
  FROM pg_constraint k
  JOIN placed p ON p.oid = k.confrelid
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND NOT EXISTS (SELECT FROM pg_class mine
                     JOIN pg_class named ON named.oid = k.confrelid
                     JOIN pg_inherits i ON i.inhrelid = k.conrelid
                    WHERE mine.oid = k.conrelid AND mine.relnamespace = named.relnamespace
                      AND i.inhparent IN (SELECT parent FROM placed))
UNION ALL
SELECT p.name || ': its trigger ' || g.tgname || ' on DELETE would fire for rows that only move'
       || ' (WHEN app.moving)'
  FROM placed p
  JOIN pg_trigger g ON g.tgrelid = p.oid
 WHERE p.oid = p.parent AND NOT g.tgisinternal
   -- For each row, on delete.
   AND g.tgtype & 9 = 9 AND pg_get_triggerdef(g.oid) NOT LIKE '%app.moving%'
UNION ALL
SELECT n.nspname || '.' || p.proname || ': SECURITY DEFINER without a fixed search_path'
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = ANY ($1::text[]) AND p.prosecdef
   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search_path=%')
UNION ALL
SELECT n.nspname || '.' || p.proname || ': SECURITY DEFINER and PUBLIC may execute it'
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = ANY ($1::text[]) AND p.prosecdef
   AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS grants
                WHERE grants.grantee = 0)
UNION ALL
SELECT n.nspname || '.' || c.relname || ': view without security_invoker'
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'v'
   AND NOT coalesce(c.reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']
 ORDER BY 1
"""
