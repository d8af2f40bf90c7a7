"""Which sessions are archived where, and their messages on the way there and back."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import asyncpg

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Connection, Database, TransactionConflict
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters.sealed_messages import content_place, opened_content
from meshwright_session.domain.archive_models import (
    ArchiveBegun,
    ArchiveFacts,
    ArchiveName,
    KeptMessage,
    KeptMessages,
    ReadArchive,
    SessionName,
)
from meshwright_session.domain.errors import ArchiveDamaged, SessionNotFound
from meshwright_session.domain.models import Owner

MESSAGES_AT_ONCE: Final = 100
MOVE_SECONDS: Final = 30
"""How long one statement may take that moves a session: it may have 100 000 messages."""
MOVES_AT_ONCE: Final = 4
"""Each holds a connection for as long as an object is read: others need some, too."""
WAIT_SECONDS: Final = 10
"""How long whoever comes second waits for the first one to bring a session back."""
_NOT_LIMITED: Final = 12_000
"""Months, when messages are kept for ever."""


class PostgresArchive:
    """`ArchiveRegister` on the tables `session_archives`, `sessions` and `messages`."""

    def __init__(self, database: Database, ring: KeyRing, *, keep_months: int) -> None:
        self._database = database
        self._ring = ring
        self._keep_months = keep_months or _NOT_LIMITED
        self._moving = asyncio.Semaphore(MOVES_AT_ONCE)

    async def begin(self, owner: Owner, session_id: str, archive_id: str) -> ArchiveBegun | None:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            session = await connection.fetchrow(
                _LOCK_SESSION, owner.tenant_id, session_id, owner.user_id
            )
            if session is None:
                raise SessionNotFound
            if session["archived"]:
                return None
            await connection.execute(_NOTE, owner.tenant_id, archive_id, owner.user_id, session_id)
        return ArchiveBegun(
            name=ArchiveName(owner, archive_id),
            session_id=session_id,
            message_count=session["message_count"],
            start=session["create_time"],
            end=session["update_time"],
        )

    async def messages(self, begun: ArchiveBegun) -> KeptMessages:
        owner = begun.name.owner
        keys = await self._ring.keys_of(owner.tenant_id)
        for first in range(1, begun.message_count + 1, MESSAGES_AT_ONCE):
            async with unit_of_work(self._database, owner.tenant_id) as connection:
                rows = await connection.fetch(
                    _MESSAGES,
                    owner.tenant_id,
                    begun.session_id,
                    begun.start,
                    begun.end,
                    first,
                    min(first + MESSAGES_AT_ONCE - 1, begun.message_count),
                )
            if not rows:
                # Of a month that was dropped.
                continue
            yield [
                KeptMessage(
                    message_id=row["message_id"],
                    sequence=row["sequence"],
                    turn_id=row["turn_id"],
                    role=row["role"],
                    content=opened_content(keys, row["message_id"], row["content"]),
                    words=row["words"],
                    create_time=row["create_time"],
                )
                for row in rows
            ]

    async def finish(self, begun: ArchiveBegun, facts: ArchiveFacts) -> bool:
        owner = begun.name.owner
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            await _be_patient(connection)
            # Also keeps out who copies its messages just now.
            session = await connection.fetchrow(
                _LOCK_ALONE, owner.tenant_id, begun.session_id, owner.user_id
            )
            unchanged = (
                session is not None
                and not session["archived"]
                and session["message_count"] == begun.message_count
            )
            if not unchanged or not await connection.fetchval(
                _FINISH,
                owner.tenant_id,
                begun.name.archive_id,
                begun.session_id,
                facts.sha256,
                facts.size_bytes,
                facts.message_count,
                facts.oldest,
            ):
                return False
            await connection.execute(
                _REMOVE_MESSAGES,
                owner.tenant_id,
                begun.session_id,
                begun.start,
                begun.end,
                timeout=MOVE_SECONDS,
            )
            await connection.execute(_MARK, owner.tenant_id, begun.session_id)
        return True

    async def bring_back(
        self, owner: Owner, session_id: str, read: ReadArchive, *, wanted: bool
    ) -> ArchiveName | None:
        keys = await self._ring.keys_of(owner.tenant_id)
        try:
            async with (
                self._moving,
                unit_of_work(self._database, owner.tenant_id) as connection,
            ):
                await _be_patient(connection)
                session = await connection.fetchrow(
                    _LOCK_SESSION,
                    owner.tenant_id,
                    session_id,
                    owner.user_id,
                    timeout=WAIT_SECONDS + 1,
                )
                if session is None:
                    raise SessionNotFound
                if not session["archived"]:
                    return None
                found = await connection.fetchrow(_FACTS, owner.tenant_id, session_id)
                if found is None:
                    raise ArchiveDamaged
                name = ArchiveName(owner, found["archive_id"])
                facts = ArchiveFacts(
                    found["sha256"], found["size_bytes"], found["message_count"], None
                )
                since = await connection.fetchval(_SINCE, owner.tenant_id, self._keep_months)
                async with contextlib.aclosing(read(name, facts)) as batches:
                    async for batch in batches:
                        kept = [message for message in batch if message.create_time >= since]
                        await connection.execute(
                            _STORE,
                            owner.tenant_id,
                            session_id,
                            [message.create_time for message in kept],
                            [message.sequence for message in kept],
                            [message.message_id for message in kept],
                            [message.turn_id for message in kept],
                            [message.role for message in kept],
                            [
                                keys.seal(content_place(message.message_id), message.content)
                                for message in kept
                            ],
                            [message.words for message in kept],
                        )
                await connection.execute(_UNMARK, owner.tenant_id, session_id, wanted)
                await connection.execute(_LOOSEN, owner.tenant_id, name.archive_id, session_id)
        except asyncpg.CheckViolationError as error:
            # A month was dropped since we looked which there are.
            raise TransactionConflict("Months of messages were dropped just now.") from error
        return name

    async def of_session(self, owner: Owner, session_id: str) -> Sequence[ArchiveName]:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            rows = await connection.fetch(_OF_SESSION, owner.tenant_id, session_id, owner.user_id)
        return [ArchiveName(owner, row["archive_id"]) for row in rows]

    async def loosen(self, name: ArchiveName) -> bool:
        tenant_id = name.owner.tenant_id
        async with unit_of_work(self._database, tenant_id) as connection:
            return bool(await connection.fetchval(_LOOSEN_UNFINISHED, tenant_id, name.archive_id))

    async def forget(self, name: ArchiveName) -> None:
        tenant_id = name.owner.tenant_id
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_FORGET, tenant_id, name.archive_id)

    async def idle(self, days: int, limit: int) -> Sequence[SessionName]:
        return await self._sessions("SELECT * FROM find_idle_sessions($1, $2)", days, limit)

    async def outgrown(self, months: int, limit: int) -> Sequence[SessionName]:
        return await self._sessions("SELECT * FROM find_outgrown_archives($1, $2)", months, limit)

    async def loose(self, minutes: int, limit: int) -> Sequence[ArchiveName]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM find_loose_archives($1, $2)", minutes, limit
            )
        return [
            ArchiveName(Owner(row["tenant_id"], row["user_id"]), row["archive_id"]) for row in rows
        ]

    async def _sessions(self, query: str, age: int, limit: int) -> Sequence[SessionName]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(query, age, limit)
        return [
            SessionName(Owner(row["tenant_id"], row["user_id"]), row["session_id"]) for row in rows
        ]


async def _be_patient(connection: Connection) -> None:
    await connection.execute(
        f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s';"
        f" SET LOCAL statement_timeout = '{MOVE_SECONDS}s'"
    )


_LOCK_SESSION: Final = """
SELECT archived, message_count, create_time, update_time FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
   FOR NO KEY UPDATE
"""

_LOCK_ALONE: Final = _LOCK_SESSION.replace("FOR NO KEY UPDATE", "FOR UPDATE")

_NOTE: Final = """
INSERT INTO session_archives (tenant_id, archive_id, user_id, session_id) VALUES ($1, $2, $3, $4)
"""

_MESSAGES: Final = """
SELECT create_time, sequence, message_id, turn_id, role, content,
       array_to_string(words, ' ') AS words
  FROM messages
 WHERE tenant_id = $1 AND session_id = $2
   AND create_time BETWEEN $3 AND $4 AND sequence BETWEEN $5 AND $6
 ORDER BY sequence
"""

_FINISH: Final = """
UPDATE session_archives
   SET sha256 = $4, size_bytes = $5, message_count = $6, oldest_message_time = $7
 WHERE tenant_id = $1 AND archive_id = $2 AND session_id = $3 AND sha256 IS NULL
RETURNING true
"""

_REMOVE_MESSAGES: Final = """
DELETE FROM messages
 WHERE tenant_id = $1 AND session_id = $2 AND create_time BETWEEN $3 AND $4
"""

_MARK: Final = """
UPDATE sessions SET archived = true, restore_time = NULL WHERE tenant_id = $1 AND session_id = $2
"""

_UNMARK: Final = """
UPDATE sessions
   SET archived = false, restore_time = CASE WHEN $3 THEN now() END
 WHERE tenant_id = $1 AND session_id = $2
"""

_FACTS: Final = """
SELECT archive_id, sha256, size_bytes, message_count FROM session_archives
 WHERE tenant_id = $1 AND session_id = $2 AND sha256 IS NOT NULL
"""

# Looking at the months keeps them from being dropped until the transaction ends.
_SINCE: Final = "SELECT greatest(messages_since($1), kept_since($2))"

_STORE: Final = """
INSERT INTO messages
       (tenant_id, session_id, create_time, sequence, message_id, turn_id, role, content, words)
SELECT $1, $2, m.create_time, m.sequence, m.message_id, m.turn_id, m.role, m.content,
       string_to_array(m.words, ' ')
  FROM unnest($3::timestamptz[], $4::bigint[], $5::uuid[], $6::uuid[], $7::text[], $8::bytea[],
              $9::text[])
    AS m (create_time, sequence, message_id, turn_id, role, content, words)
"""

_LOOSEN: Final = """
UPDATE session_archives SET session_id = NULL
 WHERE tenant_id = $1 AND archive_id = $2 AND session_id = $3
"""

_LOOSEN_UNFINISHED: Final = """
UPDATE session_archives SET session_id = NULL
 WHERE tenant_id = $1 AND archive_id = $2 AND (session_id IS NULL OR sha256 IS NULL)
RETURNING true
"""

_FORGET: Final = """
DELETE FROM session_archives
 WHERE tenant_id = $1 AND archive_id = $2 AND session_id IS NULL
"""

_OF_SESSION: Final = """
SELECT archive_id FROM session_archives
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
"""
