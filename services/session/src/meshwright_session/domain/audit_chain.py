"""The hash chain of a tenant's audit log: hash = SHA-256(previous hash ‖ canonical JSON).

The canonical JSON (RFC 8785) of a record has the members of `_document`: everything stored but the
two hashes. Whoever has the records can recompute the chain without us.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from meshwright_session.domain.audit_records import AuditEntry, AuditRecord, timestamp
from meshwright_session.domain.canonical_json import canonical

FIRST_HASH: Final = bytes(32)
"""Stands for the record before the first one."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain ends: by its head, and by the last record stored. 0: there is none."""

    sequence: int = 0
    hash: bytes = FIRST_HASH
    last_stored: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `first_bad_sequence` is 0 and `problem` empty when all fits."""

    record_count: int
    first_bad_sequence: int = 0
    problem: str = ""

    @property
    def valid(self) -> bool:
        """Whether everything fits."""
        return not self.first_bad_sequence


def link(entry: AuditEntry, head: ChainHead) -> AuditRecord:
    """Return the record that continues the chain after `head`."""
    sequence = head.sequence + 1
    return AuditRecord(entry, sequence, head.hash, _hash(entry, sequence, head.hash))


class ChainCheck:
    """Recomputes a chain from its first record on, one after the other."""

    def __init__(self, head: ChainHead) -> None:
        self._head = head
        self._sequence = 0
        self._hash = FIRST_HASH

    def bad(self, record: AuditRecord) -> Verdict | None:
        """Look at the next record; return the verdict when it does not fit."""
        expected = self._sequence + 1
        if record.sequence != expected:
            return Verdict(self._sequence, expected, f"record {expected} is missing")
        if record.previous_hash != self._hash:
            return self._found("the hash of the record before does not fit")
        try:
            fits = _hash(record.entry, record.sequence, self._hash) == record.hash
            fits = fits and canonical(json.loads(record.entry.details_json)) == (
                record.entry.details_json
            )
        except ValueError:
            return self._found("its details are no JSON")
        if not fits:
            return self._found("its content does not fit its hash")
        self._sequence, self._hash = record.sequence, record.hash
        return None

    def end(self) -> Verdict:
        """Return the verdict after the last record: it has to be the one that the head names."""
        head = self._head
        if self._sequence < head.sequence:
            return self._found("records are missing at the end")
        if head.last_stored > head.sequence:
            return self._found("records follow after the end of the chain")
        if self._hash != head.hash:
            problem = "the hash of the last record is not the one that the end of the chain names"
            return Verdict(self._sequence, max(self._sequence, 1), problem)
        return Verdict(self._sequence)

    def _found(self, problem: str) -> Verdict:
        return Verdict(self._sequence, self._sequence + 1, problem)


def _hash(entry: AuditEntry, sequence: int, previous: bytes) -> bytes:
    return hashlib.sha256(previous + _document(entry, sequence).encode()).digest()


def _document(entry: AuditEntry, sequence: int) -> str:
    return canonical(
        {
            "tenant_id": entry.tenant_id,
            "sequence": sequence,
            "event_id": entry.event_id,
            "time": timestamp(entry.time),
            "actor": entry.actor,
            "action": entry.action,
            "resource": entry.resource,
            "outcome": entry.outcome,
            "source": entry.source,
            "request_id": entry.request_id,
            "details": json.loads(entry.details_json),
        }
    )
