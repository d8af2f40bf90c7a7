"""What comes out when the usage ledger is compared with the events it is fed by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

DifferenceKind = Literal[
    "missing", "given up", "in the ledger twice", "without event", "differs", "sums"
]
"""Missing: the consumer had the event, the ledger has no row. Given up: it is a dead letter."""
MOST_SHOWN: Final = 1000
"""Differences of each kind that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class ReconciledPeriod:
    """Whole UTC days, `until` exclusive, of one tenant or (None) of all."""

    tenant_id: str | None
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `call` is "task/step/attempt operation"; what does not apply is empty."""

    kind: DifferenceKind
    tenant_id: str
    day: date
    event_id: str = ""
    call: str = ""
    what: str = ""


@dataclass(slots=True)
class Reconciled:
    """What was compared and what differs.

    `repeated` events tell of calls that another event has told of: the ledger has them once.
    `waiting` ones are not handled yet. `unreadable` ones are no reports of calls. Rows before
    `events_since` cannot be compared: the log does not go back so far; None: it has no events.
    """

    events: int = 0
    rows: int = 0
    days: int = 0
    repeated: int = 0
    waiting: int = 0
    unreadable: int = 0
    events_since: datetime | None = None
    counts: dict[DifferenceKind, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.counts

    def add(self, kind: DifferenceKind, found: Sequence[Difference], count: int) -> None:
        """Note differences of a kind: some of them, and how many there are."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.differences += found


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was put right: calls written again, day sums made anew from the rows."""

    calls: int = 0
    days: int = 0

    def __add__(self, other: "Repaired") -> "Repaired":
        return Repaired(self.calls + other.calls, self.days + other.days)
