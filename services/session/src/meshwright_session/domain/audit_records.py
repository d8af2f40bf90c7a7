"""Records of the audit log."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MAX_TEXT_CHARACTERS: Final = 1000
"""Longest text field of a record; longer ones are cut before they are hashed."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What was reported. `details_json` is canonical JSON of an object."""

    tenant_id: str
    event_id: str
    time: datetime
    actor: str
    action: str
    resource: str
    outcome: str
    source: str
    request_id: str
    details_json: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry at its place in the chain.

    `filed_at` is the latest time of this and all earlier records: the month it is kept in.
    """

    entry: AuditEntry
    sequence: int
    filed_at: datetime
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; empty and None leave a part open."""

    start: datetime | None = None
    end: datetime | None = None
    actor: str = ""
    action_prefix: str = ""


def timestamp(moment: datetime) -> str:
    """Return the form in which times are hashed: 2026-01-02T03:04:05.000006Z, always so long."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
