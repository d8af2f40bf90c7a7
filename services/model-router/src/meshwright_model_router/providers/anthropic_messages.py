"""A conversation in the form of Anthropic's Messages API.

The system's words stand apart, results of tools are blocks of the user's next message, and two
messages of one side in a row are one. Blocks without text are refused there, so they are left out.
"""

import base64
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from meshwright_model_router.domain.conversation import Image, Message, Role, ToolCall
from meshwright_model_router.providers.arguments import parsed_arguments
from meshwright_model_router.providers.tool_names import ToolNames

Body: TypeAlias = dict[str, Any]

_FORBIDDEN_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_-]")


def system_of(messages: Iterable[Message]) -> list[Body]:
    """Return the words of the system, in order, wherever they stood."""
    said = (message.text for message in messages if message.role is Role.SYSTEM)
    return [{"type": "text", "text": text} for text in said if text.strip()]


def messages_of(messages: Iterable[Message], names: ToolNames) -> list[Body]:
    """Return the conversation without the system's words."""
    converted: list[Body] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message, names)
        if not blocks:
            continue
        if converted and converted[-1]["role"] == role:
            converted[-1]["content"] += blocks
        else:
            converted.append({"role": role, "content": blocks})
    if converted and converted[-1]["role"] == "assistant":
        # The model goes on from here, and the API refuses blanks before that.
        last = converted[-1]["content"][-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()
    return converted


def _blocks(message: Message, names: ToolNames) -> list[Body]:
    content = [_part(part) for part in message.parts if isinstance(part, Image) or part.strip()]
    if message.role is not Role.TOOL:
        return [*content, *(_call(call, names) for call in message.tool_calls)]
    result: Body = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
    if content:
        result["content"] = content
    return [result]


def _part(part: str | Image) -> Body:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    source: Body = {"type": "url", "url": part.url}
    if not part.url:
        data = base64.b64encode(part.data).decode()
        source = {"type": "base64", "media_type": part.media_type, "data": data}
    return {"type": "image", "source": source}


def _call(call: ToolCall, names: ToolNames) -> Body:
    return {
        "type": "tool_use",
        "id": _id(call.id),
        "name": names.encode(call.name),
        "input": parsed_arguments(call.arguments_json),
    }


def _id(text: str) -> str:
    """Return an id as the API takes it; other providers' may hold colons and dots."""
    return _FORBIDDEN_IN_IDS.sub("_", text)
