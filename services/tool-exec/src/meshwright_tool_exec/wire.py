"""Protobuf to domain and back, with the checks of shape."""

import json
from typing import Final

from google.protobuf import json_format, struct_pb2

from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import new_id, parse_id
from meshwright_tool_exec.domain.models import (
    Call,
    CallKey,
    CallScope,
    Effect,
    JsonObject,
    Outcome,
    Source,
    ToolSpec,
)

DEFAULT_RESULT_BYTES: Final = 16 * 1024
MAX_RESULT_BYTES: Final = 256 * 1024
MAX_KNOWLEDGE_BASES: Final = 16

_SOURCES: Final = {
    Source.BUILTIN: tool_pb2.TOOL_SOURCE_BUILTIN,
    Source.MCP: tool_pb2.TOOL_SOURCE_MCP,
    Source.OPENAPI: tool_pb2.TOOL_SOURCE_OPENAPI,
    Source.AGENT: tool_pb2.TOOL_SOURCE_AGENT,
}
EFFECTS: Final = {
    Effect.READ_ONLY: tool_pb2.TOOL_EFFECT_READ_ONLY,
    Effect.IDEMPOTENT: tool_pb2.TOOL_EFFECT_IDEMPOTENT,
    Effect.NON_IDEMPOTENT: tool_pb2.TOOL_EFFECT_NON_IDEMPOTENT,
}


def tool_message(spec: ToolSpec) -> tool_pb2.Tool:
    """Return the tool as the wire shows it."""
    return tool_pb2.Tool(
        name=spec.name,
        description=spec.description,
        input_schema=_struct(spec.input_schema),
        output_schema=None if spec.output_schema is None else _struct(spec.output_schema),
        source=_SOURCES[spec.source],
        effect=EFFECTS[spec.effect],
        timeout_milliseconds=round(spec.timeout_seconds * 1000),
    )


def call_from(request: tool_service_pb2.ExecuteToolRequest, tenant_id: str) -> Call:
    """Return the call. Raises: InvalidArgument naming the field."""
    if not request.name:
        raise invalid("name", "must not be empty")
    if not 0 <= request.max_result_bytes <= MAX_RESULT_BYTES:
        raise invalid("max_result_bytes", f"must be 0 to {MAX_RESULT_BYTES}")
    if len(request.knowledge_base_ids) > MAX_KNOWLEDGE_BASES:
        raise invalid("knowledge_base_ids", f"must be at most {MAX_KNOWLEDGE_BASES}")
    if request.step < 0:
        raise invalid("step", "must not be negative")
    if request.call_index < 0:
        raise invalid("call_index", "must not be negative")
    task_id = parse_id(request.task_id, "task_id") if request.task_id else new_id()
    return Call(
        key=CallKey(task_id, request.step, request.call_index),
        tool=request.name,
        arguments_json=request.arguments_json,
        max_result_bytes=request.max_result_bytes or DEFAULT_RESULT_BYTES,
        scope=CallScope(tenant_id, tuple(request.knowledge_base_ids)),
    )


def started_message(call_id: str) -> tool_service_pb2.ExecuteToolResponse:
    """Return the first event of a call."""
    return tool_service_pb2.ExecuteToolResponse(
        event=tool_pb2.ToolEvent(started=tool_pb2.ToolStarted(call_id=call_id))
    )


def outcome_message(outcome: Outcome) -> tool_service_pb2.ExecuteToolResponse:
    """Return the last event of a call."""
    return tool_service_pb2.ExecuteToolResponse(
        event=tool_pb2.ToolEvent(
            outcome=tool_pb2.ToolOutcome(
                result_json=outcome.result_json,
                is_error=outcome.is_error,
                truncated=outcome.truncated,
                duration_milliseconds=outcome.duration_milliseconds,
                replayed=outcome.replayed,
                citations_json=outcome.citations_json,
            )
        )
    )


def _struct(value: JsonObject) -> struct_pb2.Struct:
    return json_format.Parse(json.dumps(value), struct_pb2.Struct())
