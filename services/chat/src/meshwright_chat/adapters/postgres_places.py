"""Places of sessions in PostgreSQL: who has one, who is next, who waits for a person.

The trigger `place_is_free` gives a place on, whoever frees it. Here is what comes before: a turn is
put behind another one under a lock of their session, so that positions are in the order in which
their callers came, and the one that has the place cannot end unseen meanwhile.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

import asyncpg

from meshwright_chat.adapters import metrics
from meshwright_chat.adapters import place_statements as statements
from meshwright_chat.adapters.postgres_turns import (
    UPDATED,
    by_request,
    canonical,
    row_of,
)
from meshwright_chat.adapters.turn_rows import (
    emptied_request,
    sealed_comment,
    sealed_outcome,
    sealed_pause,
    sealed_request,
    turn_from,
)
from meshwright_chat.domain.concurrency import ConcurrencyPolicy, Joined, Settled
from meshwright_chat.domain.errors import LeaseLost, TurnNotEnded, TurnQueueFull
from meshwright_chat.domain.models import Completed, Ending, Failed, Turn, TurnRequest, TurnState
from meshwright_chat.domain.ports import Quota
from meshwright_chat.domain.waiting import Pause, Queued
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped

FIRST_LOOK_SECONDS: Final = 1.0
LOOK_SHARE: Final = 0.1
MOST_LOOK_SECONDS: Final = 60.0
"""A turn that has waited for an hour is looked at once a minute, one that waits for ten seconds
each second."""
_TAKES_PLACE: Final = 1
_WAITS: Final = 2


class PostgresPlaces:
    """Places: see the port. Seconds count on the database's clock."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        *,
        lease_seconds: float,
        most_queued: int,
        wait_seconds: float,
    ) -> None:
        self._database = database
        self._ring = ring
        self._lease_seconds = lease_seconds
        self._most_queued = most_queued
        self._wait_seconds = wait_seconds

    async def join(
        self, turn: Turn, request: TurnRequest, policy: ConcurrencyPolicy, quota: Quota
    ) -> Joined | None:
        keys = await self._ring.keys_of(turn.tenant_id)
        try:
            async with unit_of_work(self._database, turn.tenant_id) as connection:
                return await self._join(connection, keys, turn, request, policy, quota)
        except asyncpg.UniqueViolationError:
            # The same request, at the same time.
            return None

    async def _join(
        self,
        connection: Connection,
        keys: TenantKeys,
        turn: Turn,
        request: TurnRequest,
        policy: ConcurrencyPolicy,
        quota: Quota,
    ) -> Joined | None:
        await connection.execute(statements.LOCK_SESSION, turn.session_id)
        if request.request_id:
            owner = (turn.tenant_id, turn.owner.subject)
            known = await by_request(connection, owner, request, keys)
            if known is not None:
                return Joined(known, existed=True)
        row = await connection.fetchrow(statements.HOLDER, turn.tenant_id, turn.session_id)
        if row is None:
            return None
        holder = turn_from(row, keys)
        takes = policy is not ConcurrencyPolicy.QUEUE
        place = _TAKES_PLACE if takes else _WAITS
        queue = await connection.fetchrow(statements.QUEUE, turn.tenant_id, turn.session_id, place)
        assert queue is not None  # noqa: S101 - an aggregate has a row
        if queue["ahead"] >= self._most_queued:
            raise TurnQueueFull(limit=str(self._most_queued))
        stopping = None
        if takes:
            await self._refuse(connection, turn.tenant_id, holder, quota)
            stopping = await self._stop(connection, keys, turn, holder, policy)
        digest = keys.digest(canonical(request))
        values = row_of(turn, request.request_id, sealed_request(keys, turn, request), digest)
        added = await connection.fetchrow(
            statements.JOIN, *values, place, queue["last"] + 1, self._wait_seconds
        )
        assert added is not None  # noqa: S101 - inserted or raised
        queued = Queued(
            turn.session_id, queue["ahead"] + 1, holder.turn_id, added["queue_expires_at"]
        )
        return Joined(turn, queued=queued, stopping=stopping)

    async def _refuse(
        self, connection: Connection, tenant_id: str, holder: Turn, quota: Quota
    ) -> None:
        """Raises: QuotaExceeded when a turn that waited for nobody's work would be one too many."""
        if holder.state is TurnState.WAITING and quota.concurrent_turns:
            running = await connection.fetchval("SELECT chat.running_turns($1)", tenant_id)
            if running >= quota.concurrent_turns:
                quota.refuse_turns(running)

    async def _stop(
        self,
        connection: Connection,
        keys: TenantKeys,
        turn: Turn,
        holder: Turn,
        policy: ConcurrencyPolicy,
    ) -> Turn | None:
        """Fence the turn that is replaced, and own it; or have the one that is next end at once."""
        by = (policy.value, turn.owner.subject)
        if holder.state is TurnState.STOPPING:
            await connection.execute(statements.STOP_NEXT, turn.tenant_id, turn.session_id, *by)
            return None
        row = await connection.fetchrow(
            statements.STOP, turn.tenant_id, holder.turn_id, *by, self._lease_seconds
        )
        return None if row is None else turn_from(row, keys)

    async def settled(self, turn: Turn, how: Settled) -> None:
        keys = await self._ring.keys_of(turn.tenant_id)
        completed = how.ending if isinstance(how.ending, Completed) else None
        outcome = sealed_outcome(
            keys, turn, answer=how.answer, citations=how.citations, error_message=""
        )
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            done = await connection.execute(
                statements.SETTLED,
                turn.tenant_id,
                turn.turn_id,
                turn.lease_epoch,
                (TurnState.COMPLETED if completed else TurnState.CANCELLED).value,
                outcome,
                completed.message_id if completed else None,
                completed.context_version if completed else 0,
                asdict(how.usage),
                how.last_sequence,
                how.withdrawn,
                emptied_request(keys, turn.turn_id) if how.withdrawn else None,
            )
        if done != UPDATED:
            raise LeaseLost
        ended = TurnState.COMPLETED if completed else TurnState.CANCELLED
        metrics.TURN_ENDS.labels(ended.value).inc()

    async def pause(self, turn: Turn, pause: Pause, *, last_sequence: int) -> None:
        keys = await self._ring.keys_of(turn.tenant_id)
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            done = await connection.execute(
                statements.PAUSE,
                turn.tenant_id,
                turn.turn_id,
                turn.lease_epoch,
                sealed_pause(keys, turn.turn_id, pause),
                last_sequence,
                FIRST_LOOK_SECONDS,
            )
        if done != UPDATED:
            raise LeaseLost

    async def due(self, limit: int) -> Sequence[Turn]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, turn_id FROM chat.due_turns($1)", limit
            )
        found = []
        for row in rows:
            keys = await self._ring.keys_of(row["tenant_id"])
            async with unit_of_work(self._database, row["tenant_id"]) as connection:
                stored = await connection.fetchrow(
                    statements.FIND, row["tenant_id"], row["turn_id"]
                )
            if stored is not None:
                found.append(turn_from(stored, keys))
        return found

    async def looked(self, turn: Turn, pause: Pause) -> None:
        keys = await self._ring.keys_of(turn.tenant_id)
        changed = pause != turn.pause
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            await connection.execute(
                statements.LOOKED,
                turn.tenant_id,
                turn.turn_id,
                turn.lease_epoch,
                sealed_pause(keys, turn.turn_id, pause) if changed else None,
                LOOK_SHARE,
                FIRST_LOOK_SECONDS,
                MOST_LOOK_SECONDS,
            )

    async def resume(self, turn: Turn) -> Turn | None:
        keys = await self._ring.keys_of(turn.tenant_id)
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            row = await connection.fetchrow(
                statements.RESUME,
                turn.tenant_id,
                turn.turn_id,
                turn.lease_epoch,
                self._lease_seconds,
            )
        return None if row is None else replace(turn_from(row, keys), pause=turn.pause)

    async def give_up(self, turn: Turn, ending: Ending) -> bool:
        assert isinstance(ending, Failed)  # noqa: S101 - nothing else ends a turn that never began
        keys = await self._ring.keys_of(turn.tenant_id)
        outcome = sealed_outcome(keys, turn, answer="", citations=(), error_message=ending.message)
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            done = await connection.execute(
                statements.GIVE_UP,
                turn.tenant_id,
                turn.turn_id,
                outcome,
                ending.reason,
                ending.retryable,
                turn.last_sequence,
            )
        if done != UPDATED:
            return False
        metrics.TURN_ENDS.labels(TurnState.FAILED.value).inc()
        return True

    async def is_last(self, turn: Turn) -> bool:
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            later = await connection.fetchval(
                statements.LATER, turn.tenant_id, turn.session_id, turn.created_at, turn.turn_id
            )
        return not later

    async def rate(self, turn: Turn, rating: int, comment: str) -> Turn:
        keys = await self._ring.keys_of(turn.tenant_id)
        async with unit_of_work(self._database, turn.tenant_id) as connection:
            row: Record | None = await connection.fetchrow(
                statements.RATE,
                turn.tenant_id,
                turn.turn_id,
                rating,
                sealed_comment(keys, turn.turn_id, comment),
            )
        if row is None:
            raise TurnNotEnded
        return turn_from(row, keys)
