"""A prompt in the form of LangChain's chat models."""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from meshwright_model_router.domain.conversation import (
    Image,
    Message,
    OutputFormat,
    Prompt,
    Role,
    ToolChoice,
)
from meshwright_model_router.providers.arguments import parsed_arguments
from meshwright_model_router.providers.tool_names import ToolNames

_JSON_ONLY: Final = "Answer with exactly one JSON object and nothing else."
_ANSWER: Final = "Give the answer to the user. Call this tool exactly once, at the end."


def messages_of(prompt: Prompt, names: ToolNames, *, with_schema: bool) -> list[BaseMessage]:
    """Return the conversation; `with_schema` asks in words for the form of the output."""
    messages = [_message(message, names) for message in prompt.messages]
    wanted = _JSON_ONLY
    if prompt.output_format is OutputFormat.JSON_SCHEMA and prompt.output_schema is not None:
        wanted += f" It must fit this JSON Schema: {json.dumps(prompt.output_schema)}"
    if with_schema and prompt.output_format is not OutputFormat.TEXT:
        first = next((at for at, one in enumerate(messages) if one.type != "system"), len(messages))
        messages.insert(first, SystemMessage(wanted))
    return messages


def tools_of(prompt: Prompt, names: ToolNames, output_tool: str) -> list[dict[str, Any]]:
    """Return the tools in OpenAI's form, which all chat models of LangChain bind."""
    offered: list[tuple[str, str, Any]] = []
    if prompt.tool_choice is not ToolChoice.NONE:
        offered += [
            (names.encode(one.name), one.description, one.parameters) for one in prompt.tools
        ]
    if output_tool:
        offered.append((output_tool, _ANSWER, prompt.output_schema))
    return [
        {
            "type": "function",
            "function": {"name": name, "description": text, "parameters": parameters},
        }
        for name, text, parameters in offered
    ]


def tool_choice_of(prompt: Prompt, names: ToolNames, output_tool: str) -> str | None:
    """Return LangChain's word for how tools may be used; None: the model decides."""
    if output_tool:
        return "any" if prompt.tools and prompt.tool_choice is not ToolChoice.NONE else output_tool
    if prompt.tool_choice is ToolChoice.REQUIRED:
        return names.encode(prompt.tool_choice_name) if prompt.tool_choice_name else "any"
    return None


def _message(message: Message, names: ToolNames) -> BaseMessage:
    content = _content(message.parts)
    name = message.name or None
    match message.role:
        case Role.SYSTEM:
            return SystemMessage(content, name=name)
        case Role.USER:
            return HumanMessage(content, name=name)
        case Role.TOOL:
            return ToolMessage(content, tool_call_id=message.tool_call_id)
        case Role.ASSISTANT:
            return AIMessage(
                content,
                name=name,
                tool_calls=[
                    {
                        "id": call.id,
                        "name": names.encode(call.name),
                        "args": parsed_arguments(call.arguments_json),
                    }
                    for call in message.tool_calls
                ],
            )


def _content(parts: Sequence[str | Image]) -> str | list[str | dict[str, Any]]:
    if not any(isinstance(part, Image) for part in parts):
        return "\n".join(part for part in parts if isinstance(part, str))
    return [_block(part) for part in parts]


def _block(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.url:
        return {"type": "image", "url": part.url}
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "base64": data, "mime_type": part.media_type}
