"""Rows of chat.turns as turns, and the content of turns as it is sealed into them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from meshwright_chat.domain.models import Citation, Turn, TurnRequest, TurnState, Usage
from meshwright_chat.domain.waiting import Interrupt, Pause, ProposedCall
from meshwright_common.context import Principal
from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record

COLUMNS: Final = (
    "tenant_id, turn_id, session_id, subject, owner, agent, model, knowledge_base_ids, request,"
    " state, attempt, lease_epoch, task_id, outcome, usage, message_id,"
    " context_version, error_reason, error_retryable, cancelled_by, last_sequence,"
    " created_at, ended_at, stop_policy, waiting, waiting_since, regenerates, withdrawn, rating,"
    " rating_comment, queue_class"
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


def emptied_request(keys: TenantKeys, turn_id: str) -> bytes:
    """Return what stands in `request` of a turn that was rolled back: nothing."""
    content: Mapping[str, Any] = {"question": "", "metadata": {}}
    return SealedJson(keys, _TABLE).seal("request", turn_id, content)


def sealed_pause(keys: TenantKeys, turn_id: str, pause: Pause) -> bytes:
    """Return what a turn waits for, for the column `waiting`."""
    content = {
        "interrupts": [_interrupt_record(interrupt) for interrupt in pause.interrupts],
        "position": pause.position,
        "kept_characters": pause.kept_characters,
        "loose": pause.loose,
    }
    return SealedJson(keys, _TABLE).seal("waiting", turn_id, content)


def sealed_comment(keys: TenantKeys, turn_id: str, comment: str) -> bytes | None:
    """Return a rating's comment, for the column `rating_comment`; None for none."""
    if not comment:
        return None
    return SealedJson(keys, _TABLE).seal("rating_comment", turn_id, {"text": comment})


def _interrupt_record(interrupt: Interrupt) -> dict[str, object]:
    record = asdict(interrupt)
    for name in ("created_at", "expires_at"):
        moment: datetime | None = record[name]
        record[name] = None if moment is None else moment.isoformat()
    return record


def _interrupt_from(record: Mapping[str, Any]) -> Interrupt:
    times = {
        name: None if record[name] is None else datetime.fromisoformat(record[name])
        for name in ("created_at", "expires_at")
    }
    call = None if record["call"] is None else ProposedCall(**record["call"])
    return Interrupt(**{**record, **times, "call": call})


def _pause_from(sealed: SealedJson, row: Record) -> Pause | None:
    if row["waiting"] is None:
        return None
    content: Mapping[str, Any] = sealed.open("waiting", row["turn_id"], row["waiting"])
    return Pause(
        tuple(_interrupt_from(record) for record in content["interrupts"]),
        content["position"],
        content["kept_characters"],
        content["loose"],
    )


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
        stop_policy=row["stop_policy"],
        pause=_pause_from(sealed, row),
        waiting_since=row["waiting_since"],
        regenerates=row["regenerates"] or "",
        withdrawn=row["withdrawn"],
        was_queued=row["queue_class"] > 0,
        rating=row["rating"],
        rating_comment=(
            ""
            if row["rating_comment"] is None
            else sealed.open("rating_comment", row["turn_id"], row["rating_comment"])["text"]
        ),
    )
