"""Sessions and contexts."""

import re
from collections.abc import Iterable
from typing import Final

from meshwright.session.v1 import session_history_pb2, session_pb2, session_service_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.branches import BranchPoint
from meshwright_session.domain.models import (
    JsonObject,
    Session,
    SessionChange,
    SessionDraft,
)
from meshwright_session.wire import values

MAX_TITLE_CHARACTERS: Final = 200
MAX_KNOWLEDGE_BASES: Final = 50
MAX_METADATA_BYTES: Final = 16 * 1024
_AGENT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_WRITABLE: Final = ("title", "agent", "knowledge_base_ids", "metadata")


def draft(session: session_pb2.Session) -> SessionDraft:
    """Return what a caller says about a new session. Raises: InvalidArgument naming the field."""
    for descriptor, _ in session.ListFields():
        if descriptor.name not in _WRITABLE:
            raise invalid(f"session.{descriptor.name}", "is set by the service: leave it out")
    return SessionDraft(
        _title(session), _agent(session), _knowledge_bases(session), _metadata(session)
    )


def change(request: session_service_pb2.UpdateSessionRequest) -> SessionChange:
    """Return the new values of the fields in the mask. Raises: InvalidArgument."""
    paths = frozenset(request.update_mask.paths)
    if not paths:
        raise invalid("update_mask", f"must name some of {', '.join(_WRITABLE)}")
    if unknown := sorted(paths.difference(_WRITABLE)):
        raise invalid("update_mask", f"cannot change {', '.join(unknown)}")
    session = request.session
    return SessionChange(
        title=_title(session) if "title" in paths else None,
        agent=_agent(session) if "agent" in paths else None,
        knowledge_base_ids=_knowledge_bases(session) if "knowledge_base_ids" in paths else None,
        metadata=_metadata(session) if "metadata" in paths else None,
    )


def revision(etag: str) -> int | None:
    """Return the revision an etag names, None for no etag; one that we never gave fits nothing."""
    if not etag:
        return None
    return int(etag) if etag.isascii() and etag.isdigit() and len(etag) < 19 else -1


def branch_point(request: session_history_pb2.BranchSessionRequest) -> BranchPoint:
    """Return where a branch begins. Raises: InvalidArgument naming the field."""
    if not 0 <= request.sequence < 1 << 62:
        raise invalid("sequence", "must be that of a message, or 0")
    return BranchPoint(
        session_id=parse_id(request.session_id, "session_id"),
        sequence=request.sequence,
        title=values.text(request.title, "title", most=MAX_TITLE_CHARACTERS),
    )


def session_message(session: Session) -> session_pb2.Session:
    """Return a session as the wire shows it."""
    return session_pb2.Session(
        session_id=session.session_id,
        user_id=session.user_id,
        title=session.title,
        agent=session.agent,
        knowledge_base_ids=session.knowledge_base_ids,
        metadata=values.struct(session.metadata),
        message_count=session.message_count,
        context_version=session.context_version,
        etag=str(session.revision),
        create_time=values.timestamp(session.create_time),
        update_time=values.timestamp(session.update_time),
        archived=session.archived,
        summarised_sequence=session.summarised_sequence,
        parent_session_id=session.parent_session_id or "",
        branch_sequence=session.branch_sequence,
    )


def session_messages(sessions: Iterable[Session]) -> list[session_pb2.Session]:
    """Return sessions as the wire shows them."""
    return [session_message(session) for session in sessions]


def _title(session: session_pb2.Session) -> str:
    return values.text(session.title, "session.title", most=MAX_TITLE_CHARACTERS)


def _agent(session: session_pb2.Session) -> str:
    if session.agent and not _AGENT.fullmatch(session.agent):
        raise invalid("session.agent", "must be 1 to 64 of letters, digits, _, . and -")
    return session.agent


def _knowledge_bases(session: session_pb2.Session) -> tuple[str, ...]:
    return values.identifiers(
        session.knowledge_base_ids, "session.knowledge_base_ids", most=MAX_KNOWLEDGE_BASES
    )


def _metadata(session: session_pb2.Session) -> JsonObject:
    return values.json_object(session.metadata, "session.metadata", most_bytes=MAX_METADATA_BYTES)
