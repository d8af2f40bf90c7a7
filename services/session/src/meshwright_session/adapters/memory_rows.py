"""Memories as their table keeps them: what they say sealed, what is compared as digests."""

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from meshwright_common.encryption import Place, TenantKeys
from meshwright_common.storage.postgres import Connection, Record
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    MemoryKind,
    MemoryOrigin,
    Provenance,
)
from meshwright_session.domain.memory_rules import sameness

COLUMNS: Final = (
    "memory_id, user_id, kind, origin, content, session_id, turn_id, confidence, superseded_by,"
    " create_time, update_time, expire_time"
)
HOLDS: Final = "superseded_by IS NULL AND (expire_time IS NULL OR expire_time > now())"
FITS: Final = (
    "(cardinality({0}::text[]) = 0 OR kind = ANY ({0})) AND ({1}::uuid IS NULL OR session_id = {1})"
)


def opened(keys: TenantKeys, row: Record) -> Memory:
    """Return the memory of a row with COLUMNS. Raises: SealBroken."""
    memory_id = row["memory_id"]
    content = orjson.loads(keys.open(_place(memory_id), row["content"]))
    return Memory(
        memory_id=memory_id,
        user_id=row["user_id"],
        kind=MemoryKind(row["kind"]),
        text=content["text"],
        origin=MemoryOrigin(row["origin"]),
        provenance=Provenance(row["session_id"], row["turn_id"]),
        confidence=row["confidence"],
        metadata=content["metadata"],
        topic=content["topic"],
        superseded_by=row["superseded_by"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        expire_time=row["expire_time"],
    )


def arguments(keys: TenantKeys, memory: Memory) -> tuple[object, ...]:
    """Return the values of ADD and CHANGE, after the tenant."""
    content = {"text": memory.text, "topic": memory.topic, "metadata": memory.metadata}
    same = sameness(memory.kind, memory.provenance, memory.text)
    return (
        memory.memory_id,
        memory.user_id,
        memory.kind.value,
        memory.origin.value,
        keys.seal(_place(memory.memory_id), orjson.dumps(content)),
        digest(keys, memory.user_id, same),
        topic_digest(keys, memory.user_id, memory.topic) if memory.topic else None,
        memory.provenance.session_id,
        memory.provenance.turn_id,
        memory.confidence,
        memory.superseded_by,
        memory.create_time,
        memory.update_time,
        memory.expire_time,
    )


def samenesses(
    keys: TenantKeys, user_id: str, drafts: Iterable[MemoryDraft], provenance: Provenance
) -> list[bytes]:
    """Return the digests by which memories that say the same as these are found."""
    return [digest(keys, user_id, sameness(draft.kind, provenance, draft.text)) for draft in drafts]


def topics(keys: TenantKeys, user_id: str, drafts: Iterable[MemoryDraft]) -> list[bytes]:
    """Return the digests by which memories of the same topics are found."""
    return [topic_digest(keys, user_id, draft.topic) for draft in drafts if draft.topic]


def topic_digest(keys: TenantKeys, user_id: str, topic: str) -> bytes:
    """Return what stands for a topic of a user."""
    return digest(keys, user_id, f"topic {topic}")


def digest(keys: TenantKeys, user_id: str, what: str) -> bytes:
    """Return what stands for something a user's memory says. Another user's is another one."""
    return keys.digest(f"memory {user_id} {what}".encode())


def filter_arguments(wanted: MemoryFilter) -> tuple[list[str], str | None]:
    """Return the values of FITS."""
    return [kind.value for kind in wanted.kinds], wanted.session_id


async def enqueue(
    connection: Connection, tenant_id: str, memories: Sequence[Memory], *, held_seconds: float
) -> dict[str, int]:
    """Note that the index has to look at memories again; return the epochs by their ids.

    The caller holds them for so long, if nobody else does.
    """
    rows = await connection.fetch(
        _ENQUEUE,
        tenant_id,
        [memory.memory_id for memory in memories],
        [memory.user_id for memory in memories],
        held_seconds,
    )
    return {row["memory_id"]: row["epoch"] for row in rows}


def _place(memory_id: str) -> Place:
    return Place("session.memories", "content", memory_id)


ADD: Final = """
INSERT INTO memories
       (tenant_id, memory_id, user_id, kind, origin, content, sameness, topic, session_id, turn_id,
        confidence, superseded_by, create_time, update_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""

CHANGE: Final = """
UPDATE memories
   SET kind = $4, origin = $5, content = $6, sameness = $7, topic = $8, session_id = $9,
       turn_id = $10, confidence = $11, superseded_by = $12, create_time = $13, update_time = $14,
       expire_time = $15
 WHERE tenant_id = $1 AND memory_id = $2 AND user_id = $3
"""

# Work that somebody holds stays held: what they write last is looked at again after them.
_ENQUEUE: Final = """
INSERT INTO memory_index_work AS w (tenant_id, memory_id, user_id, available_time)
SELECT $1, m.memory_id, m.user_id, now() + make_interval(secs => $4)
  FROM unnest($2::uuid[], $3::uuid[]) AS m (memory_id, user_id)
ON CONFLICT (tenant_id, memory_id) DO UPDATE SET epoch = w.epoch + 1
RETURNING memory_id, epoch
"""
