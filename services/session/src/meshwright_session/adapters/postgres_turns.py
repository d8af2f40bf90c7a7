"""Turns in PostgreSQL: begun and committed in one statement each, on the usual way.

The lock on the session's row keeps everybody else out until the transaction ends; the statement
that takes it also tells the session's stamp. So what a window needs in order to be current can be
read afterwards, in the same transaction, and is nothing at all when its stamp fits.

A begun turn does not wait for the disk (ADR 0016): its transactions are gathered apart from those
that do.
"""

from collections.abc import Sequence
from typing import Final

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_session.adapters import sealed_messages
from meshwright_session.adapters.context_cells import seal_context
from meshwright_session.adapters.context_history import (
    ContextHistory,
    SealedContext,
    write_context,
)
from meshwright_session.adapters.window_rows import CONTEXT, WindowRows, read_context, stamp_of
from meshwright_session.domain.context_ports import TurnBegun, TurnStored
from meshwright_session.domain.context_schema import ContextSchema
from meshwright_session.domain.errors import (
    SessionArchived,
    SessionNotFound,
    TurnWithdrawn,
)
from meshwright_session.domain.models import (
    Context,
    ContextChanges,
    JsonObject,
    NewMessage,
    Owner,
    StoredMessage,
)
from meshwright_session.domain.windows import Memory, Read, Stamp, Window


class PostgresTurns:
    """`TurnStore` on the tables `turn_commits`, `messages` and `contexts`."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        schema: ContextSchema,
        history: ContextHistory,
        *,
        summary_turns: int,
    ) -> None:
        self._ring = ring
        self._schema = schema
        self._history = history
        self._summary_turns = summary_turns
        self._gathering = Gathering(database)
        self._without_disk = Gathering(database)

    async def begin(
        self,
        owner: Owner,
        session_id: str,
        turn_id: str,
        question: NewMessage,
        *,
        most: int,
        known: Window | None,
    ) -> TurnBegun:
        columns = await sealed_messages.sealed(self._ring, owner, session_id, [question])
        keys = await self._ring.keys_of(owner.tenant_id)

        async def begin(connection: Connection) -> TurnBegun:
            found = await connection.fetchrow(
                _BEGIN,
                owner.tenant_id,
                session_id,
                owner.user_id,
                turn_id,
                columns.ids[0],
                columns.roles[0],
                columns.contents[0],
                columns.words[0],
                columns.title,
            )
            row = _checked(found)
            rows = WindowRows(connection, keys, self._schema, owner, session_id)
            if not row["begun"]:
                begun_before = await connection.fetchrow(
                    _QUESTION, owner.tenant_id, session_id, turn_id
                )
                if begun_before is not None and begun_before["withdrawn"]:
                    raise TurnWithdrawn
                sequence = begun_before and begun_before["question_sequence"]
                window, read = await rows.window(stamp_of(row), row, known, most)
                # A turn of a client that appended the question itself has none to end with.
                end = sequence or window.stamp.message_count
                return TurnBegun(window, await rows.up_to(window, row, end, most), read)
            count = row["message_count"] + 1
            stored = StoredMessage(
                message_id=question.message_id,
                session_id=session_id,
                sequence=count,
                turn_id=turn_id,
                content=question.content,
                create_time=row["moment"],
            )
            after = Stamp(count, row["context_version"], row["moment"])
            before = _nothing_before(row, session_id) if known is None else known
            if before is not None and before.stamp == stamp_of(row):
                # Known from the row alone: nobody had it, so it counts as read.
                read = Read.ALL if known is None else Read.NOTHING
                window = before.moved_on(after, [stored])
            else:
                window, read = await rows.window(after, row, known, most)
            return TurnBegun(window, await rows.up_to(window, row, count, most), read)

        return await self._without_disk.run(owner.tenant_id, begin, order=session_id)

    async def commit(
        self,
        owner: Owner,
        session_id: str,
        turn_id: str,
        messages: Sequence[NewMessage],
        changes: ContextChanges,
        *,
        question: NewMessage | None,
        known: Window | None,
    ) -> TurnStored:
        asked = [] if question is None else [question]
        new = [*asked, *messages]
        columns = await sealed_messages.sealed(self._ring, owner, session_id, new)
        keys = await self._ring.keys_of(owner.tenant_id)
        changed = bool(changes.written or changes.removed)

        async def commit(connection: Connection) -> TurnStored:
            data: JsonObject | None = None
            if changed:
                data = await self._merged(connection, keys, owner, session_id, changes, known)
            found = await connection.fetchrow(
                _COMMIT,
                owner.tenant_id,
                session_id,
                owner.user_id,
                columns.ids,
                columns.roles,
                columns.contents,
                columns.words,
                columns.title,
                turn_id,
                messages[-1].message_id,
                None if question is None else question.message_id,
                len(asked),
            )
            row = _checked(found)
            version: int | None = row["committed_version"]
            if version is None:
                return await self._committed_before(connection, owner, session_id, turn_id, row)
            memory = None
            if data is not None:
                sealed = seal_context(keys, session_id, version, data)
                await write_context(
                    connection,
                    self._history,
                    owner.tenant_id,
                    session_id,
                    SealedContext(version, self._schema.current, sealed),
                    row["moment"],
                )
                context = Context(session_id, version, data, row["moment"])
                memory = Memory(context, version, len(sealed))
            first = 0 if row["asks"] else len(asked)
            count = row["message_count"]
            stored = [
                StoredMessage(
                    message_id=message.message_id,
                    session_id=session_id,
                    sequence=sequence,
                    turn_id=turn_id,
                    content=message.content,
                    create_time=row["moment"],
                )
                for sequence, message in enumerate(new[first:], start=count + 1)
            ]
            return TurnStored(
                message_id=messages[-1].message_id,
                context_version=version,
                summary_due=row["open_turns"] + 1 >= self._summary_turns,
                before=stamp_of(row),
                after=Stamp(count + len(stored), version, row["moment"]),
                messages=stored,
                memory=memory,
            )

        return await self._gathering.run(owner.tenant_id, commit, order=session_id)

    async def _committed_before(
        self, connection: Connection, owner: Owner, session_id: str, turn_id: str, row: Record
    ) -> TurnStored:
        before = await connection.fetchrow(_COMMITTED_BEFORE, owner.tenant_id, session_id, turn_id)
        if before is None:
            # The session, and the turn with it, was deleted between the two statements.
            raise SessionNotFound
        if before["withdrawn"]:
            raise TurnWithdrawn
        due = row["open_turns"] >= self._summary_turns
        return TurnStored(before["message_id"], before["context_version"], due)

    async def _merged(
        self,
        connection: Connection,
        keys: TenantKeys,
        owner: Owner,
        session_id: str,
        changes: ContextChanges,
        known: Window | None,
    ) -> JsonObject:
        """Return the context's data with the changes, the session's row locked from here on."""
        version = await connection.fetchval(_LOCK, owner.tenant_id, session_id, owner.user_id)
        if version is None:
            raise SessionNotFound
        if known is not None and known.stamp.context_version == version:
            data = known.context.data
        else:
            row = await connection.fetchrow(CONTEXT, owner.tenant_id, session_id)
            data, _ = read_context(keys, self._schema, session_id, row)
        merged = {**data, **changes.written}
        gone = frozenset(changes.removed)
        return {key: merged[key] for key in merged if key not in gone}

    async def current(
        self, owner: Owner, session_id: str, known: Window | None
    ) -> tuple[Window, Read]:
        keys = await self._ring.keys_of(owner.tenant_id)

        async def look(connection: Connection) -> tuple[Window, Read]:
            rows = WindowRows(connection, keys, self._schema, owner, session_id)
            return await rows.current(known, most=1)

        return await self._gathering.run(owner.tenant_id, look)


def _nothing_before(row: Record, session_id: str) -> Window | None:
    """Return the window of a session in which nothing was said or written; else None."""
    if row["message_count"] or row["context_version"]:
        return None
    context = Context(session_id, 0, {}, row["context_time"])
    return Window(stamp_of(row), (), context, reaches_back=True)


def _checked(row: Record | None) -> Record:
    if row is None:
        raise SessionNotFound
    if row["archived"]:
        raise SessionArchived
    return row


# A second begin of the turn finds its row and stores nothing. The last column is what makes the
# commit of this transaction not wait for the disk.
_BEGIN: Final = """
WITH locked AS (
    SELECT message_count, context_version, update_time, context_time, create_time, archived,
           greatest(clock_timestamp(), update_time) AS moment
      FROM sessions
     WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
       FOR NO KEY UPDATE
), begun AS (
    INSERT INTO turn_commits
           (tenant_id, session_id, turn_id, question_id, question_sequence, create_time)
    SELECT $1, $2, $4, $5, l.message_count + 1, l.moment FROM locked l WHERE NOT l.archived
    ON CONFLICT DO NOTHING
    RETURNING question_id
), counted AS (
    UPDATE sessions s
       SET message_count = l.message_count + 1,
           title = CASE WHEN s.message_count = 0 AND s.title IS NULL THEN $9 ELSE s.title END,
           update_time = l.moment
      FROM locked l, begun
     WHERE s.tenant_id = $1 AND s.session_id = $2
), stored AS (
    INSERT INTO messages
           (tenant_id, session_id, create_time, sequence, message_id, turn_id, role, content, words)
    SELECT $1, $2, l.moment, l.message_count + 1, b.question_id, $4, $6, $7,
           string_to_array($8, ' ')
      FROM locked l, begun b
)
SELECT l.*, EXISTS (SELECT FROM begun) AS begun, set_config('synchronous_commit', 'off', true)
  FROM locked l
"""

_QUESTION: Final = """
SELECT question_sequence, withdrawn FROM turn_commits
 WHERE tenant_id = $1 AND session_id = $2 AND turn_id = $3
"""

# No committed_version comes back when the turn was committed before. The question is the first of
# the messages given, and stored only if this statement is the first to name it.
_COMMIT: Final = """
WITH locked AS (
    SELECT message_count, context_version, update_time, archived, open_turns,
           greatest(clock_timestamp(), update_time) AS moment
      FROM sessions
     WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
       FOR NO KEY UPDATE
), committed AS (
    INSERT INTO turn_commits AS t
           (tenant_id, session_id, turn_id, message_id, context_version, create_time,
            question_id, question_sequence)
    SELECT $1, $2, $9, $10, l.context_version + 1, l.moment,
           $11, CASE WHEN $11::uuid IS NULL THEN NULL ELSE l.message_count + 1 END
      FROM locked l
     WHERE NOT l.archived
    ON CONFLICT (tenant_id, session_id, turn_id) DO UPDATE
       SET message_id = excluded.message_id, context_version = excluded.context_version
     WHERE t.message_id IS NULL AND NOT t.withdrawn
    RETURNING context_version, coalesce(question_id = $11, false) AS asks
), admitted AS (
    SELECT l.message_count, l.moment, c.context_version, c.asks,
           CASE WHEN c.asks THEN 0 ELSE $12::integer END AS skipped
      FROM locked l, committed c
), counted AS (
    UPDATE sessions s
       SET message_count = a.message_count + cardinality($4::uuid[]) - a.skipped,
           title = CASE WHEN s.message_count = 0 AND s.title IS NULL THEN $8 ELSE s.title END,
           context_version = a.context_version,
           context_time = a.moment,
           open_turns = s.open_turns + 1,
           update_time = a.moment
      FROM admitted a
     WHERE s.tenant_id = $1 AND s.session_id = $2
), stored AS (
    INSERT INTO messages
           (tenant_id, session_id, create_time, sequence, message_id, turn_id, role, content, words)
    SELECT $1, $2, a.moment, a.message_count + m.ordinal - a.skipped, m.message_id, $9, m.role,
           m.content, string_to_array(m.words, ' ')
      FROM admitted a,
           unnest($4::uuid[], $5::text[], $6::bytea[], $7::text[])
               WITH ORDINALITY AS m (message_id, role, content, words, ordinal)
     WHERE m.ordinal > a.skipped
)
SELECT l.*, c.context_version AS committed_version, c.asks
  FROM locked l
  LEFT JOIN committed c ON true
"""

_COMMITTED_BEFORE: Final = """
SELECT message_id, context_version, withdrawn FROM turn_commits
 WHERE tenant_id = $1 AND session_id = $2 AND turn_id = $3
   AND (message_id IS NOT NULL OR withdrawn)
"""

_LOCK: Final = """
SELECT context_version FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
   FOR NO KEY UPDATE
"""
