"""Storing memories in an open transaction, by the rules, one user's at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from meshwright_common.encryption import TenantKeys
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection
from meshwright_session.adapters import memory_rows
from meshwright_session.domain.errors import UserNotFound
from meshwright_session.domain.memory_models import Memory, MemoryDraft, Provenance
from meshwright_session.domain.memory_ports import IndexWork, Remembered
from meshwright_session.domain.memory_rules import reconcile
from meshwright_session.domain.models import Owner

HELD_SECONDS: Final = 30.0
"""How long whoever stores memories, or claims work on them, has to bring the index in line."""


async def lock_user(connection: Connection, owner: Owner) -> datetime:
    """Keep others from changing the user's memories until the transaction ends; return the time.

    To be taken before the lock on a session. Raises: UserNotFound.
    """
    now: datetime | None = await connection.fetchval(_LOCK, owner.tenant_id, owner.user_id)
    if now is None:
        raise UserNotFound
    return now


async def write(
    connection: Connection,
    keys: TenantKeys,
    owner: Owner,
    drafts: Sequence[MemoryDraft],
    provenance: Provenance,
    *,
    now: datetime,
    most: int,
) -> Remembered:
    """Store drafts while the user is locked; keep at most `most` memories of the user."""
    rows = await connection.fetch(
        _HELD,
        owner.tenant_id,
        owner.user_id,
        memory_rows.samenesses(keys, owner.user_id, drafts, provenance),
        memory_rows.topics(keys, owner.user_id, drafts),
        [one for draft in drafts for one in draft.supersedes],
    )
    done = reconcile(
        [memory_rows.opened(keys, row) for row in rows],
        drafts,
        user_id=owner.user_id,
        provenance=provenance,
        now=now,
        new_id=new_id,
    )
    for statement, memories in ((memory_rows.ADD, done.added), (memory_rows.CHANGE, done.changed)):
        if memories:
            await connection.executemany(
                statement,
                [(owner.tenant_id, *memory_rows.arguments(keys, memory)) for memory in memories],
            )
    work = await _index_work(connection, owner, done.added, done.changed)
    if done.added:
        await connection.execute(_TRIM, owner.tenant_id, owner.user_id, most)
    return Remembered(done.stored, work)


async def _index_work(
    connection: Connection, owner: Owner, added: Sequence[Memory], changed: Sequence[Memory]
) -> Sequence[IndexWork]:
    """Note what the index has to learn: new ones that hold, older ones that do so no longer."""
    looked_at = [memory for memory in added if memory.superseded_by is None]
    looked_at += [memory for memory in changed if memory.superseded_by is not None]
    if not looked_at:
        return ()
    epochs = await memory_rows.enqueue(
        connection, owner.tenant_id, looked_at, held_seconds=HELD_SECONDS
    )
    # Others may hold those that were there before; theirs come to them again.
    mine = {memory.memory_id for memory in added}
    return [
        IndexWork(owner.tenant_id, owner.user_id, memory_id, epoch)
        for memory_id, epoch in epochs.items()
        if epoch == 1 or memory_id in mine
    ]


_LOCK: Final = """
SELECT clock_timestamp() FROM users WHERE tenant_id = $1 AND user_id = $2 FOR NO KEY UPDATE
"""

_HELD: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND {memory_rows.HOLDS}
   AND (sameness = ANY ($3::bytea[]) OR topic = ANY ($4::bytea[]) OR memory_id = ANY ($5::uuid[]))
"""  # noqa: S608 - constants of ours

# Superseded ones go first, then expired ones, then those not stored again for longest.
_TRIM: Final = """
DELETE FROM memories
 WHERE tenant_id = $1 AND memory_id IN (
     SELECT memory_id FROM memories
      WHERE tenant_id = $1 AND user_id = $2
      ORDER BY superseded_by IS NULL, coalesce(expire_time > now(), true), update_time, memory_id
      LIMIT greatest((SELECT count(*) FROM memories WHERE tenant_id = $1 AND user_id = $2) - $3, 0)
 )
"""
