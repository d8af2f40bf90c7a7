"""The usage ledger: its rows, its sums, and the period a question is about."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple

UsageDimension = Literal["day", "user", "model", "feature"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one or several calls consumed. `estimated`: the platform counted, not the provider."""

    prompt: int
    completion: int
    cached: int
    reasoning: int
    cost_micro_usd: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One request to a provider. `time` is when it ended; strings that do not apply are empty.

    `number`: which request of its call, from 1. `counted_*`: what budgets count for it, also when
    nobody is charged, for it was repeated by the platform or lost.
    """

    tenant_id: str
    event_id: str
    time: datetime
    user_id: str
    session_id: str
    feature: str
    operation: str
    model: str
    deployment: str
    provider: str
    outcome: str
    task_id: str
    step: int
    attempt: int
    tokens: Tokens
    first_token_milliseconds: int
    duration_milliseconds: int
    counted_tokens: int
    counted_micro_usd: int
    number: int = 1
    repeated_by_platform: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """A sum over calls. Dimensions it is not grouped by are empty; `day` is YYYY-MM-DD."""

    day: str
    user_id: str
    model: str
    feature: str
    call_count: int
    tokens: Tokens


class SumPosition(NamedTuple):
    """Place in sums ordered by their dimensions."""

    day: str
    user_id: str
    model: str
    feature: str


class LedgerPosition(NamedTuple):
    """Place in the ledger's rows in time order."""

    time: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Period:
    """From `start`, inclusive, to `end`, exclusive, as whole UTC days and what is left of days.

    Whole days are `first_day` to before `end_day`: they are read from the daily sums, the rest
    from the ledger. Without a whole day both are the day of `end`, and all is rest.
    """

    start: datetime
    end: datetime
    first_day: date
    end_day: date

    @classmethod
    def between(cls, start: datetime, end: datetime) -> "Period":
        """Return the period between two moments; empty when they are not in order."""
        end = max(start, end)
        first_day, end_day = _day_from(start), end.astimezone(UTC).date()
        first_day = min(end_day, first_day)
        return cls(start, end, first_day, end_day)

    @property
    def head_end(self) -> datetime:
        """Where the part before the whole days ends."""
        return max(self.start, min(self.end, _midnight(self.first_day)))

    @property
    def tail_start(self) -> datetime:
        """Where the part after the whole days begins."""
        return max(self.head_end, min(self.end, _midnight(self.end_day)))


def _day_from(moment: datetime) -> date:
    """Return the first UTC day that begins at or after a moment."""
    day = moment.astimezone(UTC).date()
    return day if moment == _midnight(day) else day + timedelta(days=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
