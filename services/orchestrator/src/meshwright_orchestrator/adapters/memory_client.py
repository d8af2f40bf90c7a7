"""Memory over the session service's stub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.journal import Remembered
from meshwright_orchestrator.domain.memory_ports import KnownMemory, Learned, SummaryBatch

if TYPE_CHECKING:
    from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub

_KINDS: Final = {
    pb.MEMORY_KIND_FACT: "fact",
    pb.MEMORY_KIND_PREFERENCE: "preference",
    pb.MEMORY_KIND_SUMMARY: "summary",
}
_WIRE_KINDS: Final = {name: kind for kind, name in _KINDS.items()}
_ROLES: Final = {message_pb2.ROLE_USER: Role.USER, message_pb2.ROLE_ASSISTANT: Role.ASSISTANT}
_TRUSTED: Final = frozenset({pb.MEMORY_ORIGIN_USER, pb.MEMORY_ORIGIN_MODEL})


class MemoryClient:
    """Memory: see the port. What an answer waits for takes `recall_seconds` at most."""

    def __init__(self, stub: MemoryServiceAsyncStub, *, recall_seconds: float) -> None:
        self._stub = stub
        self._recall_seconds = recall_seconds

    async def recall(self, query: str, *, top_k: int) -> Sequence[Remembered]:
        response = await self._stub.Recall(
            pb.RecallRequest(query=query, top_k=top_k), timeout=self._recall_seconds
        )
        return [_remembered(one.memory) for one in response.memories]

    async def summaries(self, session_id: str, *, most: int) -> Sequence[Remembered]:
        response = await self._stub.ListMemories(
            pb.ListMemoriesRequest(
                kinds=[pb.MEMORY_KIND_SUMMARY],
                session_id=session_id,
                page=page_pb2.PageRequest(page_size=most),
            ),
            timeout=self._recall_seconds,
        )
        newest_first = [_remembered(memory, of_session=True) for memory in response.memories]
        return newest_first[::-1]

    async def next_batch(self, session_id: str) -> SummaryBatch:
        response = await self._stub.ReadSummaryBatch(
            pb.ReadSummaryBatchRequest(session_id=session_id)
        )
        return SummaryBatch(
            response.batch_id,
            [_said(stored.message) for stored in response.messages if _is_said(stored.message)],
            [KnownMemory(one.memory_id, one.text, one.topic) for one in response.known],
        )

    async def store_summary(
        self, session_id: str, batch_id: str, summary: str, learned: Sequence[Learned]
    ) -> None:
        await self._stub.StoreSummary(
            pb.StoreSummaryRequest(
                session_id=session_id,
                batch_id=batch_id,
                summary=summary,
                learned=[_new_memory(one) for one in learned],
            )
        )


def _is_said(message: message_pb2.Message) -> bool:
    return message.role in _ROLES and any(part.text for part in message.parts)


def _said(message: message_pb2.Message) -> Message:
    """Return what was said; what tools were asked and returned is not."""
    texts = (Text(part.text) for part in message.parts if part.WhichOneof("kind") == "text")
    return Message(_ROLES[message.role], tuple(texts))


def _remembered(memory: pb.Memory, *, of_session: bool = False) -> Remembered:
    return Remembered(
        memory_id=memory.memory_id,
        kind=_KINDS.get(memory.kind, "fact"),
        text=memory.text,
        trusted=memory.origin in _TRUSTED,
        of_session=of_session,
    )


def _new_memory(learned: Learned) -> pb.NewMemory:
    return pb.NewMemory(
        kind=_WIRE_KINDS[learned.kind],
        text=learned.text,
        origin=pb.MEMORY_ORIGIN_MODEL if learned.from_user else pb.MEMORY_ORIGIN_UNTRUSTED,
        confidence=learned.confidence,
        topic=learned.topic,
        supersedes=learned.supersedes,
    )
