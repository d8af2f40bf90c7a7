"""Bodies of usage and audit."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import JsonObject, Listing, Output, Usage

UsageGroup = Literal["day", "user", "model", "feature"]


class UsageSum(Output):
    """A sum; fields that were not grouped by are empty."""

    day: str
    user_id: str
    model: str
    feature: str
    call_count: int
    usage: Usage


class UsageReport(Listing):
    """Sums, ordered by what they are grouped by."""

    sums: list[UsageSum]


class TaskStatistics(Output):
    """The tasks of one agent that ended in one state on one day."""

    day: str = Field(description="UTC day as YYYY-MM-DD.")
    agent: str
    state: str = Field(description="`completed`, `failed`, `cancelled` or `expired`.")
    task_count: int
    total_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a US dollar.")
    total_duration_milliseconds: int = Field(description="From acceptance to end, added up.")


class TaskReport(Listing):
    """Statistics, ordered by day, agent and state. None for days without tasks."""

    statistics: list[TaskStatistics]


class UsageRow(Output):
    """A row of the ledger: one model call. The columns of an export, in this order."""

    event_id: str
    time: datetime
    user_id: str
    model: str
    deployment: str
    operation: str
    task_id: str
    step: int
    attempt: int
    session_id: str
    feature: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_micro_usd: int
    estimated: bool


class AuditRecord(Output):
    """One act. `hash` covers it and `previous_hash`."""

    sequence: int
    event_id: str
    time: datetime
    actor: str
    action: str
    resource: str
    outcome: str
    source: str
    request_id: str
    details: JsonObject
    previous_hash: str = Field(description="Hexadecimal.")
    hash: str = Field(description="Hexadecimal.")


class AuditList(Listing):
    """Records, newest first."""

    records: list[AuditRecord]


class AuditVerdict(Output):
    """Whether the chain of records is whole."""

    valid: bool
    record_count: int
    first_bad_sequence: int | None
    problem: str
