"""The stored turns in PostgreSQL. Each write of a running turn checks its lease epoch."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import asyncpg
import orjson

from meshwright_chat.adapters import metrics
from meshwright_chat.adapters.turn_rows import (
    COLUMNS,
    sealed_outcome,
    sealed_request,
    turn_from,
)
from meshwright_chat.domain.errors import (
    LeaseLost,
    RequestIdReused,
    TurnInProgress,
    TurnNotEnded,
    TurnNotFound,
    TurnWaits,
)
from meshwright_chat.domain.models import (
    Cancelled,
    Citation,
    Completed,
    Ending,
    Turn,
    TurnRequest,
    TurnState,
    Usage,
)
from meshwright_chat.domain.ports import Opened, Quota
from meshwright_common.encryption import DIGEST_OF_BEFORE, KeyRing, TenantKeys
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped

_INSERT: Final = """
INSERT INTO chat.turns (tenant_id, turn_id, session_id, subject, owner, agent, model,
    knowledge_base_ids, request, request_id, request_digest, regenerates, lease_expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    clock_timestamp() + make_interval(secs => $13)
FROM (SELECT CASE WHEN $14::bigint = 0 THEN -1 ELSE chat.running_turns($1) END AS running) AS beside
WHERE beside.running < $14
"""

_WITHDRAW: Final = """
UPDATE chat.turns SET withdrawn = true
WHERE tenant_id = $1 AND turn_id = $2 AND NOT withdrawn
    AND state IN ('completed', 'failed', 'cancelled')
"""

INSERTED: Final = "INSERT 0 1"
UPDATED: Final = "UPDATE 1"

_SET_TASK: Final = """
UPDATE chat.turns SET task_id = $4
WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'running'
"""

_END: Final = """
UPDATE chat.turns SET state = $4, outcome = $5, message_id = $6, context_version = $7,
    usage = $8, error_reason = $9, error_retryable = $10, last_sequence = $11,
    ended_at = clock_timestamp()
WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'running'
"""


class PostgresTurns:
    """Turns: see the port. `lease_seconds` counts on the database's clock."""

    def __init__(self, database: Database, ring: KeyRing, *, lease_seconds: float) -> None:
        self._database = database
        self._ring = ring
        self._gathering = Gathering(database)
        self._lease_seconds = lease_seconds

    async def open(self, turn: Turn, request: TurnRequest, quota: Quota | None = None) -> Opened:
        keys = await self._ring.keys_of(turn.tenant_id)
        digest = keys.digest(canonical(request))
        sealed = sealed_request(keys, turn, request)
        owner = (turn.tenant_id, turn.owner.subject)

        async def insert(connection: Connection) -> Opened:
            if request.request_id:
                known = await by_request(connection, owner, request, keys)
                if known is not None:
                    return Opened(known, existed=True)
            most = 0 if quota is None else quota.concurrent_turns
            row = row_of(turn, request.request_id, sealed, digest)
            done = await connection.execute(_INSERT, *row, self._lease_seconds, most)
            if done != INSERTED and quota is not None:
                quota.refuse_turns(most)
            if turn.regenerates:
                gone = await connection.execute(_WITHDRAW, turn.tenant_id, turn.regenerates)
                if gone != UPDATED:
                    raise TurnNotEnded
            return Opened(turn, existed=False)

        try:
            return await self._gathering.run(turn.tenant_id, insert)
        except asyncpg.UniqueViolationError as error:
            return await self._explain(turn, request, keys, error)

    async def known(self, tenant_id: str, subject: str, request: TurnRequest) -> Turn | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await by_request(connection, (tenant_id, subject), request, keys)

    async def _explain(
        self,
        turn: Turn,
        request: TurnRequest,
        keys: TenantKeys,
        error: asyncpg.UniqueViolationError,
    ) -> Opened:
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            if request.request_id:
                owner = (turn.tenant_id, turn.owner.subject)
                known = await by_request(connection, owner, request, keys)
                if known is not None:
                    return Opened(known, existed=True)
            row = await connection.fetchrow(
                f"SELECT {COLUMNS} FROM chat.turns"  # noqa: S608 - constant columns
                " WHERE tenant_id = $1 AND session_id = $2"
                " AND state IN ('running', 'waiting', 'stopping')",
                turn.tenant_id,
                turn.session_id,
            )
        before = None if row is None else turn_from(row, keys)
        if before is not None and before.pause is not None and before.pause.interrupts:
            raise TurnWaits(
                turn_id=before.turn_id,
                task_id=before.task_id,
                interrupt_id=before.pause.interrupts[0].interrupt_id,
            ) from error
        raise TurnInProgress(turn_id="" if before is None else before.turn_id) from error

    async def find(self, tenant_id: str, turn_id: str) -> Turn:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await self._find(connection, keys, turn_id)

    async def _find(self, connection: Connection, keys: TenantKeys, turn_id: str) -> Turn:
        row = await connection.fetchrow(
            f"SELECT {COLUMNS} FROM chat.turns"  # noqa: S608 - constant columns
            " WHERE tenant_id = $1 AND turn_id = $2",
            keys.tenant_id,
            turn_id,
        )
        if row is None:
            raise TurnNotFound
        return turn_from(row, keys)

    async def list_of_session(
        self, tenant_id: str, subject: str, session_id: str, *, before: str, limit: int
    ) -> Sequence[Turn]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM chat.turns"  # noqa: S608 - constant columns
                " WHERE tenant_id = $1 AND subject = $2 AND session_id = $3"
                " AND ($4::uuid IS NULL OR turn_id < $4) ORDER BY turn_id DESC LIMIT $5",
                tenant_id,
                subject,
                session_id,
                before or None,
                limit,
            )
        return [turn_from(row, keys) for row in rows]

    async def count_running(self, tenant_id: str) -> int:
        async with unit_of_work(self._database, tenant_id) as connection:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM chat.turns"
                    " WHERE tenant_id = $1 AND state IN ('running', 'stopping')",
                    tenant_id,
                )
            )

    async def set_task(self, turn: Turn, task_id: str) -> None:
        await self._write(turn, _SET_TASK, task_id)

    async def end(
        self,
        turn: Turn,
        ending: Ending,
        *,
        usage: Usage,
        citations: Sequence[Citation],
        last_sequence: int,
    ) -> None:
        completed = ending if isinstance(ending, Completed) else None
        failed = ending if not isinstance(ending, Completed | Cancelled) else None
        outcome = sealed_outcome(
            await self._ring.keys_of(turn.tenant_id),
            turn,
            answer=completed.answer if completed else "",
            citations=citations,
            error_message=failed.message if failed else "",
        )
        await self._write(
            turn,
            _END,
            _state(ending).value,
            outcome,
            completed.message_id if completed else None,
            completed.context_version if completed else 0,
            asdict(usage),
            failed.reason if failed else "",
            failed.retryable if failed else False,
            last_sequence,
        )
        metrics.TURN_ENDS.labels(_state(ending).value).inc()

    async def _write(self, turn: Turn, statement: str, *values: object) -> None:
        async def update(connection: Connection) -> str:
            return await connection.execute(
                statement, turn.tenant_id, turn.turn_id, turn.lease_epoch, *values
            )

        if await self._gathering.run(turn.tenant_id, update) != UPDATED:
            raise LeaseLost

    async def cancel(self, tenant_id: str, turn_id: str, cancelled_by: str) -> Turn:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            done = await connection.execute(
                "UPDATE chat.turns SET state = 'cancelled', cancelled_by = $3,"
                " lease_epoch = lease_epoch + 1, ended_at = clock_timestamp()"
                " WHERE tenant_id = $1 AND turn_id = $2"
                " AND state IN ('running', 'waiting', 'queued')",
                tenant_id,
                turn_id,
                cancelled_by,
            )
            turn = await self._find(connection, keys, turn_id)
        if done == UPDATED:
            metrics.TURN_ENDS.labels(TurnState.CANCELLED.value).inc()
        return turn

    async def renew(self, turns: Sequence[Turn]) -> frozenset[str]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT chat.renew_leases($1, $2, $3, $4) AS turn_id",
                [turn.tenant_id for turn in turns],
                [turn.turn_id for turn in turns],
                [turn.lease_epoch for turn in turns],
                self._lease_seconds,
            )
        return frozenset(row["turn_id"] for row in rows)

    async def take_over(self, limit: int) -> Sequence[Turn]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, turn_id FROM chat.take_over_turns($1, $2)",
                limit,
                self._lease_seconds,
            )
        taken = [await self.find(row["tenant_id"], row["turn_id"]) for row in rows]
        metrics.TURN_TAKEOVERS.inc(sum(turn.attempt > 1 for turn in taken))
        return taken


async def by_request(
    connection: Connection, owner: tuple[str, str], request: TurnRequest, keys: TenantKeys
) -> Turn | None:
    """Return the turn of a request by its owner's tenant and subject. Raises: RequestIdReused."""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS}, request_digest FROM chat.turns"  # noqa: S608 - constant columns
        " WHERE tenant_id = $1 AND subject = $2 AND request_id = $3",
        *owner,
        request.request_id,
    )
    if row is None:
        return None
    if row["request_digest"] not in (keys.digest(canonical(request)), DIGEST_OF_BEFORE):
        raise RequestIdReused
    return turn_from(row, keys)


def row_of(turn: Turn, request_id: str, sealed: bytes, digest: bytes) -> tuple[object, ...]:
    """Return the first values of an INSERT of a turn."""
    return (
        turn.tenant_id,
        turn.turn_id,
        turn.session_id,
        turn.owner.subject,
        {
            "kind": turn.owner.kind,
            "permissions": sorted(turn.owner.permissions),
            "roles": list(turn.owner.roles),
        },
        turn.agent,
        turn.model,
        list(turn.knowledge_base_ids),
        sealed,
        request_id,
        digest,
        turn.regenerates or None,
    )


def _state(ending: Ending) -> TurnState:
    if isinstance(ending, Completed):
        return TurnState.COMPLETED
    return TurnState.CANCELLED if isinstance(ending, Cancelled) else TurnState.FAILED


def canonical(request: TurnRequest) -> bytes:
    """Return what has to be equal in two requests with one id. How to begin is not part of it."""
    asked = asdict(request)
    if not asked["regenerates"]:
        # As it was told apart before turns could be answered again.
        del asked["regenerates"]
    return orjson.dumps({**asked, "request_id": ""}, option=orjson.OPT_SORT_KEYS)
