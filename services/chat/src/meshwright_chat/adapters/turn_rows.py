"""Rows of chat.turns as turns, and the content of turns as it is sealed into them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from meshwright_chat.domain.models import Citation, Turn, TurnRequest, TurnState, Usage
from meshwright_common.context import Principal
from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record

COLUMNS: Final = (
    "tenant_id, turn_id, session_id, subject, owner, agent, model, knowledge_base_ids, request,"
    " state, attempt, lease_epoch, task_id, outcome, usage, message_id,"
    " context_version, error_reason, error_retryable, cancelled_by, last_sequence,"
    " created_at, ended_at"
)


_TABLE: Final = "chat.turns"
_NOTHING: Final[Mapping[str, Any]] = {"answer": "", "citations": (), "error_message": ""}


def sealed_request(keys: TenantKeys, turn: Turn, request: TurnRequest) -> bytes:
    """Return what was asked, for the column `request`."""
    content = {"question": turn.question, "metadata": dict(request.metadata)}
    return SealedJson(keys, _TABLE).seal("request", turn.turn_id, content)


def sealed_outcome(
    keys: TenantKeys,
    turn: Turn,
    *,
    answer: str,
    citations: Sequence[Citation],
    error_message: str,
) -> bytes:
    """Return what came of it, for the column `outcome`."""
    content = {
        "answer": answer,
        "citations": [asdict(citation) for citation in citations],
        "error_message": error_message,
    }
    return SealedJson(keys, _TABLE).seal("outcome", turn.turn_id, content)


def turn_from(row: Record, keys: TenantKeys) -> Turn:
    """Return the turn of a row that holds COLUMNS. Raises: SealBroken."""
    owner = row["owner"]
    sealed = SealedJson(keys, _TABLE)
    request = sealed.open("request", row["turn_id"], row["request"])
    outcome: Mapping[str, Any] = (
        _NOTHING
        if row["outcome"] is None
        else sealed.open("outcome", row["turn_id"], row["outcome"])
    )
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
        question=request["question"],
        state=TurnState(row["state"]),
        attempt=row["attempt"],
        lease_epoch=row["lease_epoch"],
        created_at=row["created_at"],
        task_id=row["task_id"] or "",
        answer=outcome["answer"],
        citations=tuple(
            Citation(**{**stored, "heading_path": tuple(stored["heading_path"])})
            for stored in outcome["citations"]
        ),
        usage=Usage(**row["usage"]),
        message_id=row["message_id"] or "",
        context_version=row["context_version"],
        error_reason=row["error_reason"],
        error_message=outcome["error_message"],
        error_retryable=row["error_retryable"],
        cancelled_by=row["cancelled_by"],
        ended_at=row["ended_at"],
        last_sequence=row["last_sequence"],
    )
