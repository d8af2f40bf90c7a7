"""The one way to PostgreSQL: pools with safe time limits, and driver errors as service errors.

Values: `uuid` columns are canonical strings, `json`/`jsonb` columns are plain Python values (by
orjson) in both directions; everything else is asyncpg's own mapping.

Services reach tables through `tenancy.unit_of_work` or `tenancy.unscoped`, not through a pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import asyncpg
import orjson

from meshwright_common.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    ServiceError,
    Unavailable,
)
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage import announcements, metrics
from meshwright_common.storage.announcements import Announcer
from meshwright_common.storage.connection import ServiceConnection, give_back

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record
    Connection: TypeAlias = (
        asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
    )
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Record = asyncpg.Record
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CONNECT_TIMEOUT_SECONDS: Final = 10.0
"""For a login that no user waits for: of an operator, of migrations."""
JOB_STATEMENT_TIMEOUT_SECONDS: Final = 30.0
"""For `open_database(statement_timeout_seconds=…)` of work no user waits for."""
IDLE_IN_TRANSACTION_TIMEOUT_SECONDS: Final = 10.0
IDLE_CONNECTION_SECONDS: Final = 60.0
"""An unused connection is closed after this: each costs the server 3 to 10 MB."""
CONNECTION_LIFETIME_SECONDS: Final = 1800.0
"""Connections are renewed after this, ±10 %, so that a failover or new grants reach everybody."""


class TransactionConflict(Aborted):
    """The transaction lost against a concurrent one and was rolled back: run it again."""


class StorageUnavailable(Unavailable):
    """PostgreSQL is away, full, read-only, or too busy: nothing was written."""


class StorageTimeout(DeadlineExceeded):
    """A statement took longer than its limit and was rolled back."""


class UnsafeRole(FailedPrecondition):
    """The role a service logs in with could pass row-level security by."""


RETRY_AFTER_SECONDS: Final = 1.0

_CONFLICTS: Final = frozenset({"40001", "40P01"})
_TIMEOUTS: Final = frozenset({"57014", "25P04"})
_UNAVAILABLE_CLASSES: Final = ("08", "53", "57P")
"""Connection lost; out of memory, disk or connections; shutting down or starting up."""
_UNAVAILABLE: Final = frozenset({"55P03", "25006", "25P03"})
"""A lock not had in time; read-only after a failover; idle in a transaction for too long."""
MOVING_PREFIX: Final = "moving_tenant_"
"""Begins the names of the constraints that hold up the writes of a tenant while it moves."""


@dataclass(frozen=True, slots=True)
class Database:
    """One service's connections to its schema. Made by `open_database`."""

    service: str
    pool: Pool
    announcer: Announcer
    acquire_timeout_seconds: float
    """How long a caller waits for a free connection: a full pool is overload, not a queue."""

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Give a connection outside any transaction. Raises: StorageUnavailable when none is free.

        Session state (SET, advisory locks, LISTEN) must not be left behind: it is not reset.
        """
        # With a connection at hand there is nothing to wait for, nor to time.
        if self.pool.get_idle_size():
            connection = await self._acquire(None)
        else:
            with metrics.DATABASE_WAITING.labels(self.service).track_inprogress():
                connection = await self._acquire(self.acquire_timeout_seconds)
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            with translated_errors(connection):
                yield connection
        except ServiceError as error:
            # The roll-back failed of a caller who left: to be told to go on would be a loss.
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError from error
            raise
        finally:
            await self._release(connection)

    async def _acquire(
        self, timeout_seconds: float | None
    ) -> asyncpg.pool.PoolConnectionProxy[asyncpg.Record]:
        try:
            return await self.pool.acquire(timeout=timeout_seconds)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            metrics.DATABASE_REFUSED.labels(self.service).inc()
            raise _unavailable(error) from error

    async def _release(self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        # A connection that broke during the release was terminated by the pool: nothing to do.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await give_back(connection, CONNECT_TIMEOUT_SECONDS)

    @contextlib.asynccontextmanager
    async def transaction(self, *, opening: str = "") -> AsyncIterator[Connection]:
        """Give a connection in a transaction that commits when the block is left normally.

        `opening` is sent with the BEGIN: a statement without parameters, never with foreign text.
        """
        async with self.connection() as connection:
            if opening:
                # The pool's proxy passes it on to the connection behind it.
                cast("ServiceConnection", connection).open_with(opening)
            try:
                async with connection.transaction():
                    yield connection
            except BaseException:
                announcements.take(connection)
                raise
            self.announcer.send(announcements.take(connection))

    async def probe(self) -> None:
        """Do nothing when PostgreSQL answers and our role is confined, as readiness requires.

        Raises: StorageUnavailable; UnsafeRole for a superuser, BYPASSRLS, or an owner of tables.
        """
        async with self.connection() as connection:
            role = await connection.fetchrow(_ROLE_FACTS)
        if role is None or role["rolsuper"] or role["rolbypassrls"] or role["owns_tables"]:
            raise UnsafeRole(
                f"The service {self.service} logs in as a superuser, with BYPASSRLS, or as an "
                "owner of tables: give it its own application role.",
                service=self.service,
            )


_ROLE_FACTS: Final = """
    SELECT r.rolsuper, r.rolbypassrls,
           EXISTS (SELECT FROM pg_class c
                    WHERE c.relowner = r.oid AND c.relkind IN ('r', 'p')) AS owns_tables
      FROM pg_roles r
     WHERE r.rolname = current_user
"""


@contextlib.asynccontextmanager
async def open_database(
    settings: DatabaseSettings,
    service: str,
    *,
    min_size: int = 0,
    max_size: int = 10,
    statement_timeout_seconds: float | None = None,
) -> AsyncIterator[Database]:
    """Open the pool of `service`, logged in as its role, its schema first on the search path.

    Connects when first used, so a service starts while PostgreSQL is away; `Database.probe` is its
    readiness check. Unused connections above `min_size` are closed after a minute. The limits are
    those of `settings`; `statement_timeout_seconds` is for statements that no user waits for.
    """
    statement_seconds = statement_timeout_seconds or settings.statement_timeout_seconds
    async with asyncpg.create_pool(
        settings.url_for(service),
        min_size=min_size,
        max_size=max_size,
        max_inactive_connection_lifetime=IDLE_CONNECTION_SECONDS,
        timeout=settings.connect_timeout_seconds,
        # A server that is paused answers nothing, not even a time-out of its own.
        command_timeout=statement_seconds + 2.0,
        init=prepare_connection,
        reset=_nothing_to_reset,
        connection_class=ServiceConnection,
        server_settings=session_settings(service, statement_seconds, settings.lock_timeout_seconds),
    ) as pool:
        announcer = Announcer()
        announcing = announcer.run(pool, acquire_timeout_seconds=settings.acquire_timeout_seconds)
        # Not in a TaskGroup: it would wrap every error of the block, and the blocks of a process
        # lie in each other. Both run until they are cancelled here.
        # house: naked-task: ended and awaited below
        beside = [asyncio.create_task(_renew(pool)), asyncio.create_task(announcing)]
        try:
            with metrics.watched(service, pool):
                yield Database(service, pool, announcer, settings.acquire_timeout_seconds)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


def session_settings(
    service: str, statement_timeout_seconds: float, lock_timeout_seconds: float
) -> dict[str, str]:
    """Return the run-time parameters of every session of `service` (milliseconds)."""
    return {
        "application_name": f"meshwright-{service}",
        "search_path": f"{schema_of(service)}, public",
        "statement_timeout": _milliseconds(statement_timeout_seconds),
        "lock_timeout": _milliseconds(lock_timeout_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_IN_TRANSACTION_TIMEOUT_SECONDS),
        "timezone": "UTC",
    }


def schema_of(service: str) -> str:
    """Return the schema of a service: "model-router" owns `model_router`."""
    return service.replace("-", "_")


async def prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Set the value mapping described at the top of this module on a new connection."""
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", encoder=str, decoder=str, format="text"
    )
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=orjson.dumps, decoder=orjson.loads, format="binary"
    )


@contextlib.contextmanager
def translated_errors(connection: Connection | None = None) -> Iterator[None]:
    """Turn what the driver raises for a lost, full, busy or conflicting server into service errors.

    Errors that only the caller can judge (unique violations and the like) pass unchanged.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error
    except asyncpg.InternalClientError as error:
        # The roll-back over a connection that was lost in the middle of a statement.
        raise _unavailable(error) from error
    except asyncpg.InterfaceError as error:
        if connection is None or not is_lost(connection):
            raise
        raise _unavailable(error) from error


def is_lost(connection: Connection) -> bool:
    """Return whether the connection is closed, or gone back to the pool because it broke."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # How the driver's proxy answers once the pool took the broken connection away.
        return True


def _translate(error: asyncpg.PostgresError) -> ServiceError | None:
    state = error.sqlstate or ""
    if state in _CONFLICTS:
        return TransactionConflict("A concurrent transaction came first.", sqlstate=state)
    if state in _TIMEOUTS:
        return StorageTimeout("The database took too long.", sqlstate=state)
    if state in _UNAVAILABLE or state.startswith(_UNAVAILABLE_CLASSES) or _is_moving(error):
        return _unavailable(error, state)
    return None


def _is_moving(error: asyncpg.PostgresError) -> bool:
    """Return whether a row was refused because its tenant moves (see `placement`)."""
    constraint = getattr(error, "constraint_name", None) or ""
    return isinstance(error, asyncpg.CheckViolationError) and constraint.startswith(MOVING_PREFIX)


def _unavailable(error: Exception, state: str = "") -> StorageUnavailable:
    return StorageUnavailable(
        "The database cannot serve this now.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        sqlstate=state or str(getattr(error, "sqlstate", "") or ""),
        cause=type(error).__name__,
    )


async def _nothing_to_reset(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Save the round trip of RESET ALL: nothing here sets session state, all is per transaction.

    The driver itself has rolled back a transaction left open before it calls this.
    """


async def _renew(pool: Pool) -> None:
    while True:
        await asyncio.sleep(CONNECTION_LIFETIME_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
        await pool.expire_connections()


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _encode_jsonb(value: object) -> bytes:
    return b"\x01" + orjson.dumps(value)


def _decode_jsonb(data: bytes) -> object:
    # The first byte is the version of jsonb's wire form, always 1.
    decoded: object = orjson.loads(memoryview(data)[1:])
    return decoded
