"""Values that several services share, as messages and as models."""

from collections.abc import Iterable
from typing import Final

from google.protobuf import json_format, struct_pb2

from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_orchestrator.domain.conversation import (
    Image,
    JsonObject,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
)
from meshwright_orchestrator.domain.models import Citation, Usage

ROLES: Final = {
    Role.SYSTEM: message_pb2.ROLE_SYSTEM,
    Role.USER: message_pb2.ROLE_USER,
    Role.ASSISTANT: message_pb2.ROLE_ASSISTANT,
    Role.TOOL: message_pb2.ROLE_TOOL,
}


def message_message(message: Message) -> message_pb2.Message:
    """Return a message as the wire shows it."""
    return message_pb2.Message(
        role=ROLES[message.role],
        parts=map(_part_message, message.parts),
        tool_calls=map(call_message, message.tool_calls),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _part_message(part: Part) -> message_pb2.ContentPart:
    if isinstance(part, Text):
        return message_pb2.ContentPart(text=part.text)
    image = message_pb2.ImagePart(media_type=part.media_type)
    if part.url:
        image.url = part.url
    else:
        image.data = part.data
    return message_pb2.ContentPart(image=image)


def part_from(part: message_pb2.ContentPart) -> Part:
    """Return a part whose kind was checked."""
    if part.WhichOneof("kind") == "text":
        return Text(part.text)
    return Image(part.image.url, part.image.data, part.image.media_type)


def call_message(call: ToolCall) -> message_pb2.ToolCall:
    """Return a tool call as the wire shows it."""
    return message_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)


def calls_from(calls: Iterable[message_pb2.ToolCall]) -> tuple[ToolCall, ...]:
    """Return the tool calls of a message."""
    return tuple(ToolCall(call.id, call.name, call.arguments_json) for call in calls)


def citation_message(citation: Citation) -> message_pb2.Citation:
    """Return a citation as the wire shows it."""
    return message_pb2.Citation(
        number=citation.number,
        document_id=citation.document_id,
        document_name=citation.document_name,
        page=citation.page,
        start_offset=citation.start_offset,
        end_offset=citation.end_offset,
        quote=citation.quote,
        score=citation.score,
        chunk_id=citation.chunk_id,
        heading_path=citation.heading_path,
    )


def citation_from(citation: message_pb2.Citation) -> Citation:
    """Return a citation of the wire."""
    return Citation(
        number=citation.number,
        document_id=citation.document_id,
        document_name=citation.document_name,
        page=citation.page,
        start_offset=citation.start_offset,
        end_offset=citation.end_offset,
        quote=citation.quote,
        score=citation.score,
        chunk_id=citation.chunk_id,
        heading_path=tuple(citation.heading_path),
    )


def usage_message(usage: Usage) -> usage_pb2.TokenUsage:
    """Return consumption as the wire shows it."""
    return usage_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_micro_usd=usage.cost_micro_usd,
        estimated=usage.estimated,
    )


def usage_from(usage: usage_pb2.TokenUsage) -> Usage:
    """Return consumption as the wire told it."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_micro_usd=usage.cost_micro_usd,
        estimated=usage.estimated,
    )


def struct_message(value: JsonObject | None) -> struct_pb2.Struct | None:
    """Return a JSON object as a Struct; None stays None."""
    if value is None:
        return None
    struct = struct_pb2.Struct()
    json_format.ParseDict(dict(value), struct)
    return struct
