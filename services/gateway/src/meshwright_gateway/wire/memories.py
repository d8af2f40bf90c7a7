"""Memories: messages to JSON bodies, and back."""

from collections.abc import Iterable

from meshwright.session.v1 import memory_service_pb2
from meshwright_gateway.http.schemas import memories as schemas
from meshwright_gateway.wire import values

_KINDS = {
    "fact": memory_service_pb2.MEMORY_KIND_FACT,
    "preference": memory_service_pb2.MEMORY_KIND_PREFERENCE,
    "summary": memory_service_pb2.MEMORY_KIND_SUMMARY,
}
_ORIGINS = {
    "user": memory_service_pb2.MEMORY_ORIGIN_USER,
    "model": memory_service_pb2.MEMORY_ORIGIN_MODEL,
    "untrusted": memory_service_pb2.MEMORY_ORIGIN_UNTRUSTED,
}


def memory_view(memory: memory_service_pb2.Memory) -> schemas.Memory:
    """Return a memory as JSON shows it."""
    return schemas.Memory(
        memory_id=memory.memory_id,
        kind=values.enum_name(memory_service_pb2.MemoryKind, memory.kind, "MEMORY_KIND_"),
        text=memory.text,
        origin=values.enum_name(memory_service_pb2.MemoryOrigin, memory.origin, "MEMORY_ORIGIN_"),
        session_id=memory.session_id or None,
        turn_id=memory.turn_id or None,
        confidence=memory.confidence,
        topic=memory.topic,
        metadata=values.object_from(memory.metadata),
        superseded_by=memory.superseded_by or None,
        create_time=values.moment_from(memory.create_time),
        update_time=values.moment_from(memory.update_time),
        expire_time=values.time_from(memory.expire_time),
    )


def memory_views(memories: Iterable[memory_service_pb2.Memory]) -> list[schemas.Memory]:
    """Return memories as JSON shows them."""
    return [memory_view(memory) for memory in memories]


def remember_request(
    body: schemas.MemoriesCreate, batch_id: str
) -> memory_service_pb2.RememberRequest:
    """Return the request that stores memories."""
    return memory_service_pb2.RememberRequest(
        memories=[_new_memory(memory) for memory in body.memories],
        session_id=body.session_id or "",
        turn_id=body.turn_id or "",
        batch_id=batch_id,
    )


def recall_request(body: schemas.MemorySearch) -> memory_service_pb2.RecallRequest:
    """Return the question to memory."""
    return memory_service_pb2.RecallRequest(
        query=body.query,
        top_k=body.top_k,
        kinds=kinds(body.kinds),
        session_id=body.session_id or "",
        min_score=body.min_score,
    )


def kinds(names: Iterable[str]) -> list[memory_service_pb2.MemoryKind.ValueType]:
    """Return kinds by their names."""
    return [_KINDS[name] for name in names]


def search_view(answer: memory_service_pb2.RecallResponse) -> schemas.MemorySearchAnswer:
    """Return what was recalled."""
    return schemas.MemorySearchAnswer(
        memories=[
            schemas.FoundMemory(memory=memory_view(one.memory), score=one.score)
            for one in answer.memories
        ],
        degraded=list(answer.degraded),
    )


def _new_memory(memory: schemas.MemoryCreate) -> memory_service_pb2.NewMemory:
    return memory_service_pb2.NewMemory(
        kind=_KINDS[memory.kind],
        text=memory.text,
        origin=_ORIGINS[memory.origin],
        confidence=memory.confidence,
        metadata=None if memory.metadata is None else values.struct_from(memory.metadata),
        expire_time=values.timestamp_of(memory.expire_time),
        topic=memory.topic,
        supersedes=memory.supersedes,
    )
