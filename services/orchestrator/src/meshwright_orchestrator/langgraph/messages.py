"""Messages of LangChain as ours, and back."""

from collections.abc import Sequence
from typing import Final

import orjson
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata

from meshwright_common.errors import InvalidArgument
from meshwright_orchestrator.domain import conversation
from meshwright_orchestrator.domain.conversation import Image, Message, Part, Role, Text
from meshwright_orchestrator.domain.journal import ModelAnswered
from meshwright_orchestrator.langgraph.recorder import parsed_arguments

_ROLES: Final[Sequence[tuple[type[BaseMessage], Role]]] = (
    (SystemMessage, Role.SYSTEM),
    (HumanMessage, Role.USER),
    (AIMessage, Role.ASSISTANT),
    (ToolMessage, Role.TOOL),
)


def to_langchain(message: Message) -> BaseMessage:
    """Return our message as LangChain's."""
    content = _content(message.parts)
    match message.role:
        case Role.SYSTEM:
            return SystemMessage(content)
        case Role.USER:
            return HumanMessage(content)
        case Role.TOOL:
            return ToolMessage(content, tool_call_id=message.tool_call_id)
        case Role.ASSISTANT:
            calls, broken = _calls(message.tool_calls)
            return AIMessage(content, tool_calls=calls, invalid_tool_calls=broken)


def _content(parts: Sequence[Part]) -> str | list[str | dict[str, object]]:
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    blocks: list[str | dict[str, object]] = []
    for part in parts:
        if isinstance(part, Text):
            blocks.append({"type": "text", "text": part.text})
        elif part.url:
            blocks.append({"type": "image_url", "image_url": {"url": part.url}})
    return blocks


def answer_to_langchain(answer: ModelAnswered) -> AIMessage:
    """Return a model's answer as LangChain's message."""
    calls, broken = _calls(answer.tool_calls)
    usage = answer.usage
    return AIMessage(
        answer.text,
        tool_calls=calls,
        invalid_tool_calls=broken,
        usage_metadata=UsageMetadata(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        ),
        response_metadata={"finish_reason": answer.finish_reason},
    )


def _calls(
    calls: Sequence[conversation.ToolCall],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    good: list[ToolCall] = []
    broken: list[InvalidToolCall] = []
    for call in calls:
        arguments = parsed_arguments(call)
        if arguments is None:
            broken.append(
                InvalidToolCall(
                    type="invalid_tool_call",
                    id=call.id,
                    name=call.name,
                    args=call.arguments_json,
                    error="the arguments are no JSON object",
                )
            )
        else:
            good.append(
                ToolCall(type="tool_call", id=call.id, name=call.name, args=dict(arguments))
            )
    return good, broken


def from_langchain(message: BaseMessage) -> Message:
    """Return LangChain's message as ours. Raises: InvalidArgument for a kind we do not have."""
    roles = [role for kind, role in _ROLES if isinstance(message, kind)]
    if not roles:
        raise InvalidArgument(f"a message of type {message.type} cannot be sent to a model")
    return Message(
        role=roles[0],
        parts=_parts(message),
        tool_calls=_calls_from(message) if isinstance(message, AIMessage) else (),
        tool_call_id=message.tool_call_id if isinstance(message, ToolMessage) else "",
    )


def _calls_from(message: AIMessage) -> tuple[conversation.ToolCall, ...]:
    good = [
        conversation.ToolCall(call["id"] or "", call["name"], orjson.dumps(call["args"]).decode())
        for call in message.tool_calls
    ]
    broken = [
        conversation.ToolCall(call["id"] or "", call["name"] or "", call["args"] or "")
        for call in message.invalid_tool_calls
    ]
    return tuple(good + broken)


def _parts(message: BaseMessage) -> tuple[Part, ...]:
    content = message.content
    if isinstance(content, str):
        return (Text(content),) if content else ()
    parts: list[Part] = []
    for block in content:
        if isinstance(block, str):
            parts.append(Text(block))
        elif block.get("type") == "text":
            parts.append(Text(str(block.get("text", ""))))
        elif block.get("type") == "image_url":
            image = block.get("image_url")
            parts.append(Image(url=str(image["url"] if isinstance(image, dict) else image)))
    return tuple(parts)
