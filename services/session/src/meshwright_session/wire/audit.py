"""The audit log: questions, records, verdicts, and the event it is fed by."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from meshwright.events.v1 import audit_pb2
from meshwright.session.v1 import audit_service_pb2
from meshwright_common.errors import invalid
from meshwright_common.events.envelope import Event
from meshwright_common.ids import parse_id
from meshwright_session.domain.audit_checkpoints import Checkpoint, statement_of
from meshwright_session.domain.audit_denials import PLATFORM, Denial
from meshwright_session.domain.audit_records import (
    MAX_TEXT_CHARACTERS,
    AuditEntry,
    AuditFilter,
    AuditRecord,
)
from meshwright_session.domain.audit_verification import Verdict
from meshwright_session.domain.canonical_json import canonical
from meshwright_session.wire import values

MAX_FILTER_CHARACTERS: Final = 200
MAX_DENIALS: Final = 1000


def wanted(request: audit_service_pb2.QueryAuditRequest) -> AuditFilter:
    """Return which records are wanted. Raises: InvalidArgument naming the field."""
    return AuditFilter(
        start=values.moment(request, "start_time"),
        end=values.moment(request, "end_time"),
        actor=values.text(request.actor, "actor", most=MAX_FILTER_CHARACTERS),
        action_prefix=values.text(
            request.action_prefix, "action_prefix", most=MAX_FILTER_CHARACTERS
        ),
    )


def record_messages(records: Iterable[AuditRecord]) -> list[audit_service_pb2.AuditRecord]:
    """Return records as the wire shows them."""
    return [_record_message(record) for record in records]


def _record_message(record: AuditRecord) -> audit_service_pb2.AuditRecord:
    entry = record.entry
    return audit_service_pb2.AuditRecord(
        sequence=record.sequence,
        event_id=entry.event_id,
        time=values.timestamp(entry.time),
        actor=entry.actor,
        action=entry.action,
        resource=entry.resource,
        outcome=entry.outcome,
        source=entry.source,
        request_id=entry.request_id,
        details=_details_message(entry.details_json),
        previous_hash=record.previous_hash,
        hash=record.hash,
    )


def _details_message(details_json: str) -> Struct:
    """Return the details; none when somebody has made them unreadable, which VerifyAudit names."""
    try:
        details = json.loads(details_json)
    except ValueError:
        return Struct()
    return values.struct(details) if isinstance(details, dict) else Struct()


def verdict_message(verdict: Verdict) -> audit_service_pb2.VerifyAuditResponse:
    """Return what a check found as the wire shows it."""
    return audit_service_pb2.VerifyAuditResponse(
        valid=verdict.valid,
        record_count=verdict.record_count,
        first_bad_sequence=0 if verdict.flaw is None else verdict.flaw.sequence,
        problem="" if verdict.flaw is None else verdict.flaw.problem,
        first_sequence=verdict.first_sequence,
        checkpoint_count=verdict.checkpoint_count,
        checkpointed_sequence=verdict.checkpointed_sequence,
    )


def checkpoint_messages(
    checkpoints: Iterable[Checkpoint],
) -> list[audit_service_pb2.AuditCheckpoint]:
    """Return checkpoints as the wire shows them."""
    return [_checkpoint_message(checkpoint) for checkpoint in checkpoints]


def _checkpoint_message(checkpoint: Checkpoint) -> audit_service_pb2.AuditCheckpoint:
    statement = statement_of(checkpoint)
    return audit_service_pb2.AuditCheckpoint(
        number=checkpoint.number,
        sequence=checkpoint.sequence,
        time=values.timestamp(checkpoint.time),
        document=checkpoint.document,
        signature=checkpoint.signature,
        key_id="" if statement is None else statement.key_id,
        stored=checkpoint.stored,
    )


def denials_of(request: audit_service_pb2.RecordDenialsRequest) -> list[Denial]:
    """Return what was denied. Raises: InvalidArgument naming the field."""
    if len(request.denials) > MAX_DENIALS:
        raise invalid("denials", f"must have at most {MAX_DENIALS}")
    return [_denial(one, f"denials[{index}]") for index, one in enumerate(request.denials)]


def _denial(one: audit_service_pb2.Denial, field: str) -> Denial:
    if one.count < 1:
        raise invalid(f"{field}.count", "must be at least 1")
    if not one.action:
        raise invalid(f"{field}.action", "must not be empty")
    first = values.moment(one, "first_time")
    last = values.moment(one, "last_time")
    if first is None or last is None:
        raise invalid(f"{field}.first_time", "must be there, and last_time too")
    return Denial(
        tenant_id=parse_id(one.tenant_id, f"{field}.tenant_id") if one.tenant_id else PLATFORM,
        actor=_clean(one.actor),
        action=_clean(one.action),
        resource=_clean(one.resource),
        reason=_clean(one.reason),
        address=_clean(one.address),
        count=one.count,
        first_time=first,
        last_time=last,
    )


def entry_of(event: Event) -> AuditEntry:
    """Return the entry of an audit.recorded event.

    Nothing is refused for its looks: a long text is cut, a character that cannot be stored is
    replaced. Raises: ValueError when the data is not of that type.
    """
    data = _audit_recorded(event.data)
    if not data.action:
        raise ValueError("action is empty")
    return AuditEntry(
        tenant_id=event.tenant_id,
        event_id=event.event_id,
        time=values.event_time(event),
        actor=_clean(data.actor),
        action=_clean(data.action),
        resource=_clean(data.resource),
        outcome=_clean(data.outcome),
        source=_clean(event.source),
        request_id=_clean(data.request_id),
        # The event's own JSON, not the Struct: it is an object, or ParseDict had refused it.
        details_json=canonical(event.data.get("details") or {}),
    )


def _audit_recorded(data: Mapping[str, object]) -> audit_pb2.AuditRecorded:
    texts = {name: value for name, value in data.items() if name != "details"}
    if isinstance(data.get("details", {}), dict):
        try:
            # As the parser below, at a fraction of its cost; whatever else it takes is left to it.
            return audit_pb2.AuditRecorded(**texts)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
    parsed = audit_pb2.AuditRecorded()
    try:
        return json_format.ParseDict(dict(data), parsed, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def _clean(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_TEXT_CHARACTERS]
