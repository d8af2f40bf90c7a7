"""What a tool is and what a call of it leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JsonObject = Mapping[str, object]


class Source(StrEnum):
    """Where a tool comes from."""

    BUILTIN = "builtin"
    MCP = "mcp"
    OPENAPI = "openapi"
    AGENT = "agent"


class Effect(StrEnum):
    """What sending the same call twice does."""

    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    NON_IDEMPOTENT = "non_idempotent"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as models and people see it. Schemas are JSON Schema 2020-12."""

    name: str
    description: str
    input_schema: JsonObject
    effect: Effect
    timeout_seconds: float
    source: Source = Source.BUILTIN
    output_schema: JsonObject | None = None
    permission: str = ""
    """Permission the caller needs besides tool:execute. Empty: none."""


@dataclass(frozen=True, slots=True)
class CallScope:
    """What a running tool may know about its call."""

    tenant_id: str
    knowledge_base_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool returns: a JSON value, and the sources it found (JSON of Citation)."""

    result: object
    citations: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class CallKey:
    """What a call belongs to. One key has one outcome, whatever is retried or resumed."""

    task_id: str
    step: int
    call_index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A request to run a tool. `arguments_json` is exactly what the model wrote."""

    key: CallKey
    tool: str
    arguments_json: str
    max_result_bytes: int
    scope: CallScope


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one recorded end of a call."""

    result_json: str
    is_error: bool
    truncated: bool
    duration_milliseconds: int
    citations_json: tuple[str, ...] = ()
    replayed: bool = field(default=False, compare=False)
