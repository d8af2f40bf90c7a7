"""Which turns of a session are due to be summarised, and counting them as such, in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters import memory_writing, sealed_messages
from meshwright_session.domain.errors import SessionNotFound
from meshwright_session.domain.memory_models import MemoryDraft, Provenance
from meshwright_session.domain.memory_ports import Remembered, SummaryTurns
from meshwright_session.domain.models import Owner

NOTHING_STORED: Final = Remembered(())


class PostgresSummaries:
    """`SummaryStore` on the tables `sessions`, `turn_commits`, `messages` and `memories`.

    `turns`: how many one summary covers. `most`: memories that a user keeps.
    """

    def __init__(self, database: Database, ring: KeyRing, *, turns: int, most: int) -> None:
        self._database = database
        self._ring = ring
        self._turns = turns
        self._most = most

    async def next_batch(self, owner: Owner, session_id: str) -> SummaryTurns | None:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            session = await connection.fetchrow(
                _SESSION, owner.tenant_id, session_id, owner.user_id
            )
            if session is None:
                raise SessionNotFound
            last = await self._last_of_batch(connection, owner, session_id, session)
            if last is None:
                return None
            rows = await connection.fetch(
                _CONTENTS,
                owner.tenant_id,
                session_id,
                session["create_time"],
                session["update_time"],
                session["summarised_sequence"],
                last,
            )
        keys = await self._ring.keys_of(owner.tenant_id)
        messages = [sealed_messages.opened(keys, row) for row in rows]
        return SummaryTurns(session["summarised_sequence"], messages)

    async def store(
        self,
        owner: Owner,
        session_id: str,
        sequences: tuple[int, int],
        drafts: Sequence[MemoryDraft],
    ) -> Remembered:
        first, last = sequences
        keys = await self._ring.keys_of(owner.tenant_id)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            now = await memory_writing.lock_user(connection, owner)
            session = await connection.fetchrow(
                f"{_SESSION} FOR NO KEY UPDATE", owner.tenant_id, session_id, owner.user_id
            )
            if session is None:
                raise SessionNotFound
            if session["summarised_sequence"] != first - 1:
                return NOTHING_STORED
            if await self._last_of_batch(connection, owner, session_id, session) != last:
                return NOTHING_STORED
            learned = Provenance(session_id)
            done = await memory_writing.write(
                connection, keys, owner, drafts, learned, now=now, most=self._most
            )
            await connection.execute(_SUMMARISED, owner.tenant_id, session_id, last, self._turns)
        return done

    async def _last_of_batch(
        self, connection: Connection, owner: Owner, session_id: str, session: Record
    ) -> int | None:
        """Return the sequence of the last answer of the batch; None when too few turns are open."""
        answers = await connection.fetch(
            _ANSWERS,
            owner.tenant_id,
            session_id,
            session["create_time"],
            session["update_time"],
            session["summarised_sequence"],
            self._turns,
        )
        if len(answers) < self._turns:
            return None
        return int(answers[-1]["sequence"])


_SESSION: Final = """
SELECT summarised_sequence, create_time, update_time FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
"""

# A turn counts by its answer. Times bound the months that are read.
_ANSWERS: Final = """
SELECT m.sequence
  FROM messages m
  JOIN turn_commits c
    ON c.tenant_id = $1 AND c.session_id = $2 AND c.turn_id = m.turn_id
   AND c.message_id = m.message_id
 WHERE m.tenant_id = $1 AND m.session_id = $2 AND m.create_time BETWEEN $3 AND $4
   AND m.sequence > $5
 ORDER BY m.sequence
 LIMIT $6
"""

_CONTENTS: Final = """
SELECT session_id, create_time, sequence, message_id, turn_id, content FROM messages
 WHERE tenant_id = $1 AND session_id = $2 AND create_time BETWEEN $3 AND $4
   AND sequence > $5 AND sequence <= $6
 ORDER BY sequence
"""

_SUMMARISED: Final = """
UPDATE sessions
   SET summarised_sequence = $3, open_turns = greatest(open_turns - $4, 0)
 WHERE tenant_id = $1 AND session_id = $2
"""
