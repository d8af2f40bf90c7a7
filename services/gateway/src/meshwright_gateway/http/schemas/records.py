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

    event_id: str = Field(description="Id of the usage event, unique.")
    time: datetime = Field(description="When the call ended, UTC, to the microsecond.")
    user_id: str = Field(description="User that caused it.")
    model: str = Field(description="Model that answered.")
    deployment: str = Field(description="Deployment that answered.")
    operation: str = Field(description="`generate` or `embed`.")
    task_id: str = Field(description="Task that it belongs to; with step and attempt the call.")
    step: int
    attempt: int
    session_id: str = Field(description="May be empty.")
    feature: str = Field(description="May be empty.")
    prompt_tokens: int = Field(description="Input, cached included.")
    completion_tokens: int = Field(description="Output, reasoning included.")
    cached_tokens: int
    reasoning_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a US dollar, whole.")
    estimated: bool = Field(description="True when counted by the platform.")
    provider: str
    outcome: str = Field(description="`completed`, `cancelled` or `failed`.")
    first_token_milliseconds: int = Field(description="0: there was no output.")
    duration_milliseconds: int


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
    first_sequence: int = Field(
        description="Where the kept chain begins: 1, or after what retention dropped."
    )
    checkpoint_count: int = Field(description="Signed checkpoints compared.")
    checkpointed_sequence: int = Field(description="Last record that one covers. 0: none.")


class AuditCheckpoint(Output):
    """A signed statement about the end of the chain. Kept elsewhere, it proves what the log was."""

    number: int = Field(description="1, 2, 3 …")
    sequence: int = Field(description="Last record it covers.")
    time: datetime
    document: str = Field(description="What was signed, as JSON text.")
    signature: str = Field(
        description="Ed25519 over `meshwright audit checkpoint v1`, a line feed and the document. "
        "Hexadecimal."
    )
    key_id: str
    stored: bool = Field(description="Whether object storage has it too.")


class AuditCheckpointList(Listing):
    """Checkpoints, newest first."""

    checkpoints: list[AuditCheckpoint]


class SigningKey(Output):
    """A public key that checkpoints are verified with."""

    key_id: str = Field(description="First 16 hex digits of the SHA-256 of its 32 bytes.")
    public_key: str = Field(description="PEM.")


class SigningKeyList(Output):
    """All keys that ever signed."""

    keys: list[SigningKey]
