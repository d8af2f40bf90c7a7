"""The hash chain of a tenant's audit log: hash = SHA-256(previous hash ‖ canonical JSON).

The canonical JSON (RFC 8785) of a record has the members of `_document`: everything stored but the
two hashes, and `filed_at`, which follows from the times. Whoever has the records can recompute the
chain without us.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Final

from meshwright_session.domain.audit_records import AuditEntry, AuditRecord, timestamp

FIRST_HASH: Final = bytes(32)
"""Stands for the record before the first one."""
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """A record's place in a chain: what the next one continues. The default is before the first."""

    sequence: int = 0
    hash: bytes = FIRST_HASH
    filed_at: datetime = BEGINNING


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """The last checkpoint that a head knows: its number, its record, its time. 0: there is none."""

    number: int = 0
    sequence: int = 0
    time: datetime = BEGINNING


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain ends: by its head, and by the last record stored. 0: there is none."""

    place: Place = Place()
    last_stored: int = 0
    checkpoint: CheckpointPlace = CheckpointPlace()


def link(entry: AuditEntry, place: Place, *, now: datetime) -> AuditRecord:
    """Return the record that continues the chain after `place`. It is never dated after `now`."""
    if entry.time > now:
        entry = replace(entry, time=now)
    sequence = place.sequence + 1
    return AuditRecord(
        entry=entry,
        sequence=sequence,
        filed_at=max(place.filed_at, entry.time),
        previous_hash=place.hash,
        hash=_hash(entry, sequence, place.hash),
    )


def place_of(record: AuditRecord) -> Place:
    """Return the place of a record."""
    return Place(record.sequence, record.hash, record.filed_at)


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first record that does not fit, and why, for people."""

    sequence: int
    problem: str


class ChainCheck:
    """Recomputes a chain from a place on, one record after the other."""

    def __init__(self, start: Place) -> None:
        self.place = start
        self.count = 0

    def flaw(self, record: AuditRecord) -> Flaw | None:
        """Look at the next record; say what is wrong when it does not fit."""
        place, sequence = self.place, self.place.sequence + 1
        if record.sequence != sequence:
            problem = f"record {sequence} is missing"
            if record.sequence < sequence:
                problem = f"record {record.sequence} is there twice"
            return Flaw(min(sequence, record.sequence), problem)
        if record.previous_hash != place.hash:
            return Flaw(sequence, "the hash of the record before does not fit")
        if _hash(record.entry, sequence, place.hash) != record.hash:
            return Flaw(sequence, "its content does not fit its hash")
        if record.filed_at != max(place.filed_at, record.entry.time):
            return Flaw(sequence, "it is filed at another time than it is dated")
        self.place = Place(sequence, record.hash, record.filed_at)
        self.count += 1
        return None

    def flaw_at_end(self, head: ChainHead) -> Flaw | None:
        """Say what is wrong when the last record is not the one that the head names."""
        sequence = self.place.sequence
        if sequence < head.place.sequence:
            return Flaw(sequence + 1, "records are missing at the end")
        if head.last_stored > head.place.sequence:
            return Flaw(sequence + 1, "records follow after the end of the chain")
        if (self.place.hash, self.place.filed_at) != (head.place.hash, head.place.filed_at):
            problem = "the last record is not the one that the end of the chain names"
            return Flaw(max(sequence, 1), problem)
        return None


def _hash(entry: AuditEntry, sequence: int, previous: bytes) -> bytes:
    return hashlib.sha256(previous + _document(entry, sequence).encode()).digest()


def _document(entry: AuditEntry, sequence: int) -> str:
    """Return the canonical JSON: members sorted by name. `details_json` is canonical already.

    Written out, for a chain of a million records is recomputed by this line.
    """
    text = encode_basestring
    return (
        f'{{"action":{text(entry.action)},"actor":{text(entry.actor)},'
        f'"details":{entry.details_json},"event_id":{text(entry.event_id)},'
        f'"outcome":{text(entry.outcome)},"request_id":{text(entry.request_id)},'
        f'"resource":{text(entry.resource)},"sequence":{sequence},"source":{text(entry.source)},'
        f'"tenant_id":{text(entry.tenant_id)},"time":"{timestamp(entry.time)}"}}'
    )
