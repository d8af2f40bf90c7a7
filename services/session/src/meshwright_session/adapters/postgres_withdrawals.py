"""Withdrawn turns in PostgreSQL.

The lock on the session's row keeps begins and commits out meanwhile. The mark on the turn's row is
what refuses those that come late: a process that has not noticed that its turn was stopped.
"""

from collections.abc import Sequence
from typing import Final

from meshwright_common.events import audit
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.postgres_sessions import SOURCE
from meshwright_session.domain.acts import Act
from meshwright_session.domain.errors import SessionArchived, SessionNotFound
from meshwright_session.domain.models import Owner
from meshwright_session.domain.withdrawals import Withdrawal


class PostgresWithdrawals:
    """`WithdrawalStore` on the tables `turn_commits`, `messages`, `sessions` and `memories`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def withdraw(self, owner: Owner, wanted: Withdrawal, act: Act) -> int:
        of_session = (owner.tenant_id, wanted.session_id)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            session = await connection.fetchrow(_LOCK, *of_session, owner.user_id)
            if session is None:
                raise SessionNotFound
            if session["archived"]:
                raise SessionArchived
            turn = await connection.fetchrow(_MARK, *of_session, wanted.turn_id)
            if turn is None:
                return 0
            span = (session["create_time"], session["update_time"])
            gone: Sequence[int] = [
                row["sequence"]
                for row in await connection.fetch(_REMOVE, *of_session, wanted.turn_id, *span)
            ]
            if wanted.forget:
                since = turn["create_time"]
                covered = bool(gone) and session["summarised_sequence"] >= min(gone)
                await _forget(connection, owner, wanted, since if covered else None)
            if gone:
                await connection.execute(_MOVE_ASIDE, *of_session, *span, min(gone))
                await connection.execute(_MOVE_UP, *of_session, *span, sorted(gone))
                await connection.execute(_MOVE_QUESTIONS, *of_session, sorted(gone))
                was_open = turn["committed"] and session["summarised_sequence"] < max(gone)
                await connection.execute(
                    _COUNT, *of_session, len(gone), min(gone) - 1, int(was_open)
                )
            await audit.record(
                connection,
                source=SOURCE,
                action=act.action,
                resource=act.resource,
                details={**act.details, "messages": len(gone)},
            )
            return len(gone)


async def _forget(
    connection: Connection, owner: Owner, wanted: Withdrawal, summarised_since: object
) -> None:
    learned = await connection.fetch(
        _FORGET,
        *(owner.tenant_id, owner.user_id, wanted.session_id, wanted.turn_id),
        summarised_since,
    )
    # What those had replaced holds again.
    await connection.execute(
        _HOLD_AGAIN, owner.tenant_id, owner.user_id, [row["memory_id"] for row in learned]
    )


_LOCK: Final = """
SELECT archived, create_time, update_time, summarised_sequence FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
   FOR NO KEY UPDATE
"""

# No row comes back when it was marked before.
_MARK: Final = """
INSERT INTO turn_commits AS t (tenant_id, session_id, turn_id, create_time, withdrawn)
VALUES ($1, $2, $3, clock_timestamp(), true)
ON CONFLICT (tenant_id, session_id, turn_id) DO UPDATE SET withdrawn = true
 WHERE NOT t.withdrawn
RETURNING create_time, message_id IS NOT NULL AS committed
"""

_REMOVE: Final = """
DELETE FROM messages
 WHERE tenant_id = $1 AND session_id = $2 AND turn_id = $3 AND create_time BETWEEN $4 AND $5
RETURNING sequence
"""

# Twice, because keys are looked at row by row: first where no sequence is, then where they belong.
_MOVE_ASIDE: Final = """
UPDATE messages SET sequence = sequence + (1::bigint << 40)
 WHERE tenant_id = $1 AND session_id = $2 AND create_time BETWEEN $3 AND $4 AND sequence > $5
"""

_MOVE_UP: Final = """
UPDATE messages
   SET sequence = sequence - (1::bigint << 40)
       - (SELECT count(*) FROM unnest($5::bigint[]) AS g WHERE g < sequence - (1::bigint << 40))
 WHERE tenant_id = $1 AND session_id = $2 AND create_time BETWEEN $3 AND $4
   AND sequence > 1::bigint << 40
"""

_MOVE_QUESTIONS: Final = """
UPDATE turn_commits
   SET question_sequence = question_sequence
       - (SELECT count(*) FROM unnest($3::bigint[]) AS g WHERE g < question_sequence)
 WHERE tenant_id = $1 AND session_id = $2 AND question_sequence > ($3::bigint[])[1]
"""

# Its time moves in any case: windows of before must not fit, whatever the clock says.
_COUNT: Final = """
UPDATE sessions
   SET message_count = message_count - $3,
       summarised_sequence = least(summarised_sequence, $4),
       open_turns = greatest(open_turns - $5, 0),
       update_time = greatest(clock_timestamp(), update_time + interval '1 microsecond')
 WHERE tenant_id = $1 AND session_id = $2
"""

# A summary that it was part of was written after it began.
_FORGET: Final = """
DELETE FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND session_id = $3 AND origin <> 'user'
   AND (turn_id = $4 OR create_time >= $5::timestamptz)
RETURNING memory_id
"""

_HOLD_AGAIN: Final = """
UPDATE memories SET superseded_by = NULL
 WHERE tenant_id = $1 AND user_id = $2 AND superseded_by = ANY ($3::uuid[])
"""
