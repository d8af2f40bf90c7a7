"""Memories: checked on their way in, shown as stored. And what messages say, for summaries."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message as ProtoMessage

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.session.v1 import session_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    MemoryKind,
    MemoryOrigin,
    Provenance,
    RecallQuery,
    Selection,
)
from meshwright_session.domain.models import Request, StoredMessage
from meshwright_session.wire import values

MAX_TEXT_CHARACTERS: Final = 4_000
MAX_MEMORIES: Final = 100
MAX_LEARNED: Final = 20
MAX_SUPERSEDED: Final = 20
MAX_METADATA_BYTES: Final = 4 * 1024
MAX_TOP_K: Final = 50
DEFAULT_TOP_K: Final = 5
_TOPIC: Final = re.compile(r"[a-z0-9_.-]{1,100}")

_KINDS: Final[dict[int, MemoryKind]] = {
    pb.MEMORY_KIND_FACT: MemoryKind.FACT,
    pb.MEMORY_KIND_PREFERENCE: MemoryKind.PREFERENCE,
    pb.MEMORY_KIND_SUMMARY: MemoryKind.SUMMARY,
}
_ORIGINS: Final[dict[int, MemoryOrigin]] = {
    pb.MEMORY_ORIGIN_UNSPECIFIED: MemoryOrigin.MODEL,
    pb.MEMORY_ORIGIN_USER: MemoryOrigin.USER,
    pb.MEMORY_ORIGIN_MODEL: MemoryOrigin.MODEL,
    pb.MEMORY_ORIGIN_UNTRUSTED: MemoryOrigin.UNTRUSTED,
}
_WIRE_KINDS: Final = {
    MemoryKind.FACT: pb.MEMORY_KIND_FACT,
    MemoryKind.PREFERENCE: pb.MEMORY_KIND_PREFERENCE,
    MemoryKind.SUMMARY: pb.MEMORY_KIND_SUMMARY,
}
_WIRE_ORIGINS: Final = {
    MemoryOrigin.USER: pb.MEMORY_ORIGIN_USER,
    MemoryOrigin.MODEL: pb.MEMORY_ORIGIN_MODEL,
    MemoryOrigin.UNTRUSTED: pb.MEMORY_ORIGIN_UNTRUSTED,
}


def drafts(messages: Sequence[pb.NewMemory], field: str, *, now: datetime) -> list[MemoryDraft]:
    """Return memories to store. Raises: InvalidArgument naming the field."""
    return [_draft(message, f"{field}[{index}]", now) for index, message in enumerate(messages)]


def remembered(request: pb.RememberRequest, *, now: datetime) -> list[MemoryDraft]:
    """Return the memories of a request. Raises: InvalidArgument."""
    if not 1 <= len(request.memories) <= MAX_MEMORIES:
        raise invalid("memories", f"must be 1 to {MAX_MEMORIES}")
    return drafts(request.memories, "memories", now=now)


def learned(request: pb.StoreSummaryRequest, *, now: datetime) -> list[MemoryDraft]:
    """Return what was learned from a batch. Raises: InvalidArgument."""
    if len(request.learned) > MAX_LEARNED:
        raise invalid("learned", f"must be at most {MAX_LEARNED}")
    for index, message in enumerate(request.learned):
        if message.kind == pb.MEMORY_KIND_SUMMARY:
            raise invalid(f"learned[{index}].kind", "must be a fact or a preference")
    return drafts(request.learned, "learned", now=now)


def summary_text(request: pb.StoreSummaryRequest) -> str:
    """Return a batch's summary. Raises: InvalidArgument."""
    return _said(request.summary, "summary")


def provenance(request: pb.RememberRequest) -> Provenance:
    """Return where memories were learned. Raises: InvalidArgument."""
    return Provenance(
        parse_id(request.session_id, "session_id") if request.session_id else None,
        parse_id(request.turn_id, "turn_id") if request.turn_id else None,
    )


def batch_of(request: pb.RememberRequest, subject: str) -> Request:
    """Return what makes a batch repeatable. Raises: InvalidArgument without an id."""
    values.text(request.batch_id, "batch_id", most=values.MAX_REQUEST_ID_CHARACTERS, least=1)
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return Request(subject, request.batch_id, digest)


def recall_query(request: pb.RecallRequest) -> RecallQuery:
    """Return a question to memory. Raises: InvalidArgument."""
    if not 0 <= request.top_k <= MAX_TOP_K:
        raise invalid("top_k", f"must be 0 to {MAX_TOP_K}")
    if not 0 <= request.min_score <= 1:
        raise invalid("min_score", "must be 0 to 1")
    return RecallQuery(
        text=_said(request.query, "query"),
        top_k=request.top_k or DEFAULT_TOP_K,
        wanted=wanted(request.kinds, request.session_id),
        min_score=request.min_score,
    )


def wanted(kinds: Iterable[int], session_id: str) -> MemoryFilter:
    """Return a filter. Raises: InvalidArgument."""
    named = []
    for index, kind in enumerate(kinds):
        if kind not in _KINDS:
            raise invalid(f"kinds[{index}]", "must be a fact, a preference or a summary")
        named.append(_KINDS[kind])
    return MemoryFilter(
        tuple(dict.fromkeys(named)), parse_id(session_id, "session_id") if session_id else None
    )


def selection(request: pb.ForgetRequest) -> Selection:
    """Return what to forget. Raises: InvalidArgument when it names nothing."""
    match request.WhichOneof("selection"):
        case "memory_ids":
            ids = values.identifiers(
                request.memory_ids.values, "memory_ids.values", most=MAX_MEMORIES
            )
            if not ids:
                raise invalid("memory_ids.values", f"must be 1 to {MAX_MEMORIES}")
            return Selection(memory_ids=ids)
        case "session_id":
            return Selection(session_id=parse_id(request.session_id, "session_id"))
        case "all" if request.all:
            return Selection(all=True)
        case "all":
            raise invalid("all", "must be true when given")
        case _:
            raise invalid("selection", "must be memory_ids, session_id or all")


def memory_message(memory: Memory) -> pb.Memory:
    """Return a memory as the wire shows it."""
    return pb.Memory(
        memory_id=memory.memory_id,
        user_id=memory.user_id,
        kind=_WIRE_KINDS[memory.kind],
        text=memory.text,
        origin=_WIRE_ORIGINS[memory.origin],
        session_id=memory.provenance.session_id or "",
        turn_id=memory.provenance.turn_id or "",
        confidence=memory.confidence,
        metadata=values.struct(memory.metadata),
        superseded_by=memory.superseded_by or "",
        create_time=values.timestamp(memory.create_time),
        update_time=values.timestamp(memory.update_time),
        expire_time=values.timestamp(memory.expire_time),
        topic=memory.topic,
    )


def memory_messages(memories: Iterable[Memory]) -> list[pb.Memory]:
    """Return memories as the wire shows them."""
    return [memory_message(memory) for memory in memories]


class WireReading:
    """`MessageReading` of messages in their wire form."""

    def said_by_user(self, messages: Sequence[StoredMessage]) -> str:
        said = (_parsed(message).message for message in messages)
        return "\n".join(_text(one) for one in said if one.role == message_pb2.ROLE_USER)

    def rest_on_sources(self, messages: Sequence[StoredMessage]) -> bool:
        parsed = [_parsed(message) for message in messages]
        return any(one.citations or one.message.role == message_pb2.ROLE_TOOL for one in parsed)


def _draft(message: pb.NewMemory, field: str, now: datetime) -> MemoryDraft:
    if message.kind not in _KINDS:
        raise invalid(f"{field}.kind", "must be a fact, a preference or a summary")
    if message.origin not in _ORIGINS:
        raise invalid(f"{field}.origin", "must be user, model or untrusted")
    confidence = message.confidence if message.HasField("confidence") else 1.0
    if not 0 <= confidence <= 1:
        raise invalid(f"{field}.confidence", "must be 0 to 1")
    kind = _KINDS[message.kind]
    if message.topic and not _TOPIC.fullmatch(message.topic):
        raise invalid(f"{field}.topic", "must be 1 to 100 of a-z, 0-9, _, . and -")
    if message.topic and kind is MemoryKind.SUMMARY:
        raise invalid(f"{field}.topic", "belongs to facts and preferences")
    return MemoryDraft(
        kind=kind,
        text=_said(message.text, f"{field}.text"),
        origin=_ORIGINS[message.origin],
        confidence=confidence,
        metadata=_metadata(message, field),
        expire_time=_expire_time(message, field, now),
        topic=message.topic,
        supersedes=values.identifiers(
            message.supersedes, f"{field}.supersedes", most=MAX_SUPERSEDED
        ),
    )


def _said(value: str, field: str) -> str:
    values.text(value, field, least=1, most=MAX_TEXT_CHARACTERS)
    if not value.strip():
        raise invalid(field, "must not be blank")
    return value


def _metadata(message: pb.NewMemory, field: str) -> dict[str, object] | None:
    if not message.HasField("metadata"):
        return None
    plain = values.json_object(message.metadata, f"{field}.metadata", most_bytes=MAX_METADATA_BYTES)
    return dict(plain)


def _expire_time(message: ProtoMessage, field: str, now: datetime) -> datetime | None:
    moment = values.moment(message, "expire_time")
    if moment is not None and moment <= now.astimezone(UTC):
        raise invalid(f"{field}.expire_time", "must be in the future")
    return moment


def _parsed(message: StoredMessage) -> session_pb2.StoredMessage:
    return session_pb2.StoredMessage.FromString(message.content)


def _text(message: message_pb2.Message) -> str:
    return "\n".join(part.text for part in message.parts if part.WhichOneof("kind") == "text")
