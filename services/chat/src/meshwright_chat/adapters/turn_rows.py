"""Rows of chat.turns as turns."""

from typing import Final

from meshwright_chat.domain.models import Citation, Turn, TurnState, Usage
from meshwright_common.context import Principal
from meshwright_common.storage.postgres import Record

COLUMNS: Final = (
    "tenant_id, turn_id, session_id, subject, owner, agent, model, knowledge_base_ids, question,"
    " state, attempt, lease_epoch, task_id, answer, citations, usage, message_id,"
    " context_version, error_reason, error_message, error_retryable, cancelled_by, last_sequence,"
    " created_at, ended_at"
)


def turn_from(row: Record) -> Turn:
    """Return the turn of a row that holds COLUMNS."""
    owner = row["owner"]
    return Turn(
        turn_id=row["turn_id"],
        session_id=row["session_id"],
        owner=Principal(
            tenant_id=row["tenant_id"],
            subject=row["subject"],
            kind=owner["kind"],
            permissions=frozenset(owner["permissions"]),
            roles=tuple(owner["roles"]),
        ),
        agent=row["agent"],
        model=row["model"],
        knowledge_base_ids=tuple(row["knowledge_base_ids"]),
        question=row["question"],
        state=TurnState(row["state"]),
        attempt=row["attempt"],
        lease_epoch=row["lease_epoch"],
        created_at=row["created_at"],
        task_id=row["task_id"] or "",
        answer=row["answer"],
        citations=tuple(
            Citation(**{**stored, "heading_path": tuple(stored["heading_path"])})
            for stored in row["citations"]
        ),
        usage=Usage(**row["usage"]),
        message_id=row["message_id"] or "",
        context_version=row["context_version"],
        error_reason=row["error_reason"],
        error_message=row["error_message"],
        error_retryable=row["error_retryable"],
        cancelled_by=row["cancelled_by"],
        ended_at=row["ended_at"],
        last_sequence=row["last_sequence"],
    )
