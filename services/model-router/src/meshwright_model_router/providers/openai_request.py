"""A prompt as the body of OpenAI's chat completions."""

import base64
from typing import TypeAlias

import msgspec

from meshwright_model_router.domain.conversation import (
    Image,
    JsonObject,
    Message,
    OutputFormat,
    Prompt,
    Role,
    ToolChoice,
)
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.tool_names import ToolNames

Body: TypeAlias = dict[str, object]


def encode_request(endpoint: Endpoint, model: str, prompt: Prompt, names: ToolNames) -> bytes:
    """Return the body of a streaming request."""
    body: Body = {
        "model": model,
        "messages": [_message(message, names) for message in prompt.messages],
        "stream": True,
    }
    if endpoint.stream_usage:
        body["stream_options"] = {"include_usage": True}
        if endpoint.continuous_usage:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    body |= _tools(prompt, names)
    body |= _options(endpoint, prompt)
    if prompt.output_format is OutputFormat.JSON_OBJECT:
        body["response_format"] = {"type": "json_object"}
    elif prompt.output_format is OutputFormat.JSON_SCHEMA and prompt.output_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "output",
                "schema": prompt.output_schema,
                "strict": _may_be_strict(prompt.output_schema),
            },
        }
    return msgspec.json.encode(body)


def _tools(prompt: Prompt, names: ToolNames) -> Body:
    if not prompt.tools:
        return {}
    fields: Body = {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": names.encode(tool.name),
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in prompt.tools
        ]
    }
    if prompt.tool_choice is ToolChoice.REQUIRED and prompt.tool_choice_name:
        function = {"name": names.encode(prompt.tool_choice_name)}
        fields["tool_choice"] = {"type": "function", "function": function}
    elif prompt.tool_choice is not ToolChoice.AUTO:
        fields["tool_choice"] = prompt.tool_choice.value
    if prompt.options.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = prompt.options.parallel_tool_calls
    return fields


def _options(endpoint: Endpoint, prompt: Prompt) -> Body:
    options = prompt.options
    fields: Body = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        endpoint.output_limit_field: options.max_output_tokens,
        "stop": list(options.stop_sequences) or None,
        "seed": options.seed,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "reasoning_effort": options.reasoning_effort or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _message(message: Message, names: ToolNames) -> Body:
    body: Body = {"role": message.role.value}
    if message.name:
        body["name"] = message.name
    if message.images:
        body["content"] = [_part(part) for part in message.parts]
    elif message.parts or not message.tool_calls:
        body["content"] = message.text
    else:
        body["content"] = None
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": names.encode(call.name), "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        body["tool_call_id"] = message.tool_call_id
    return body


def _part(part: str | Image) -> Body:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = part.url
    if not url:
        url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _may_be_strict(schema: JsonObject) -> bool:
    """Return whether OpenAI's strict mode would accept the root of the schema."""
    properties, required = schema.get("properties"), schema.get("required")
    return (
        schema.get("additionalProperties") is False
        and isinstance(properties, dict)
        and isinstance(required, (list, tuple))
        and set(properties) == set(required)
    )
