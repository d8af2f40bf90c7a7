"""OpenAI's chat completions to and from the model service."""

import base64
import binascii
import re
from typing import Final

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import openai as schemas
from meshwright_gateway.wire import values

FEATURE: Final = "openai_api"
MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_IMAGE_BYTES: Final = 3 * 1024 * 1024
MAX_TEXTS: Final = 2048
"""Texts of one embedding request, which may become several calls."""
MAX_TEXTS_PER_CALL: Final = 256
MAX_EMBEDDED_BYTES: Final = 32 * 1024
MAX_BYTES_PER_CALL: Final = 2 * 1024 * 1024

_DATA_URL: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,60});base64,", re.IGNORECASE)
_TOOL_CHOICES: Final = {
    "auto": generation_pb2.TOOL_CHOICE_AUTO,
    "none": generation_pb2.TOOL_CHOICE_NONE,
    "required": generation_pb2.TOOL_CHOICE_REQUIRED,
}
_ROLES: Final = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}
FINISH_REASONS: Final = {
    generation_pb2.FINISH_REASON_STOP: "stop",
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}


def generate_request(body: schemas.ChatCompletionRequest) -> model_service_pb2.GenerateRequest:
    """Return the request to the model service. Raises: ShapeRefused naming the field."""
    request = model_service_pb2.GenerateRequest(
        model=body.model,
        messages=[
            _message(message, f"messages.{position}")
            for position, message in enumerate(body.messages)
        ],
        tools=[_tool(tool.function) for tool in body.tools or ()],
        attribution=model_service_pb2.UsageAttribution(feature=FEATURE),
    )
    _check_text(body)
    if isinstance(body.tool_choice, schemas.NamedToolChoice):
        request.tool_choice = generation_pb2.TOOL_CHOICE_REQUIRED
        request.tool_choice_name = body.tool_choice.function.name
    elif body.tool_choice is not None:
        request.tool_choice = _TOOL_CHOICES[body.tool_choice]
    _set_options(request.options, body)
    if isinstance(body.response_format, schemas.JsonObjectFormat):
        request.output_format = generation_pb2.OUTPUT_FORMAT_JSON_OBJECT
    elif isinstance(body.response_format, schemas.JsonSchemaOutput):
        request.output_format = generation_pb2.OUTPUT_FORMAT_JSON_SCHEMA
        request.output_schema.CopyFrom(values.struct_from(body.response_format.json_schema.schema_))
    return request


def _set_options(
    options: generation_pb2.GenerationOptions, body: schemas.ChatCompletionRequest
) -> None:
    if body.temperature is not None:
        options.temperature = body.temperature
    if body.top_p is not None:
        options.top_p = body.top_p
    limit = body.max_completion_tokens or body.max_tokens
    if limit is not None:
        options.max_output_tokens = limit
    if body.seed is not None:
        options.seed = body.seed
    if body.presence_penalty is not None:
        options.presence_penalty = body.presence_penalty
    if body.frequency_penalty is not None:
        options.frequency_penalty = body.frequency_penalty
    if body.reasoning_effort is not None:
        options.reasoning_effort = body.reasoning_effort
    if body.parallel_tool_calls is not None:
        options.parallel_tool_calls = body.parallel_tool_calls
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > 4:
        raise misshapen("stop", "must be at most 4 texts")
    options.stop_sequences.extend(stops)


def _tool(function: schemas.FunctionDefinition) -> message_pb2.ToolDefinition:
    tool = message_pb2.ToolDefinition(name=function.name, description=function.description or "")
    parameters = function.parameters or {"type": "object", "properties": {}}
    tool.parameters.CopyFrom(values.struct_from(parameters))
    return tool


def _message(message: schemas.ChatMessage, field: str) -> message_pb2.Message:
    made = message_pb2.Message(role=_ROLES[message.role], name=_speaker(message))
    if isinstance(message, schemas.ToolMessage):
        made.tool_call_id = message.tool_call_id
    elif isinstance(message, schemas.AssistantMessage):
        for call in message.tool_calls or ():
            made.tool_calls.add(
                id=call.id, name=call.function.name, arguments_json=call.function.arguments
            )
        if not message.content and not message.tool_calls:
            raise misshapen(f"{field}.content", "is required without tool_calls")
    if isinstance(message.content, str):
        made.parts.add(text=message.content)
    else:
        made.parts.extend(
            _part(part, f"{field}.content.{position}")
            for position, part in enumerate(message.content or ())
        )
    return made


def _speaker(message: schemas.ChatMessage) -> str:
    return "" if isinstance(message, schemas.ToolMessage) else message.name or ""


def _part(
    part: schemas.TextPart | schemas.ImagePart | schemas.RefusalPart, field: str
) -> message_pb2.ContentPart:
    match part:
        case schemas.TextPart():
            return message_pb2.ContentPart(text=part.text)
        case schemas.RefusalPart():
            return message_pb2.ContentPart(text=part.refusal)
        case schemas.ImagePart():
            return message_pb2.ContentPart(image=_image(part.image_url.url, f"{field}.image_url"))


def _image(url: str, field: str) -> message_pb2.ImagePart:
    if url.startswith("https://"):
        return message_pb2.ImagePart(url=url)
    head = _DATA_URL.match(url)
    if head is None:
        raise misshapen(f"{field}.url", "must be an https address or data:image/…;base64,…")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except binascii.Error:
        raise misshapen(f"{field}.url", "is not valid base64") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise misshapen(f"{field}.url", f"must be at most {MAX_IMAGE_BYTES} bytes")
    return message_pb2.ImagePart(data=data, media_type=head[1].lower())


def _check_text(body: schemas.ChatCompletionRequest) -> None:
    size = 0
    for message in body.messages:
        if isinstance(message.content, str):
            size += len(message.content.encode())
        else:
            size += sum(
                len(part.text.encode())
                for part in message.content or ()
                if isinstance(part, schemas.TextPart)
            )
    if size > MAX_TEXT_BYTES:
        raise misshapen("messages", f"must hold at most {MAX_TEXT_BYTES} bytes of text")


def usage_object(usage: usage_pb2.TokenUsage) -> dict[str, object]:
    """Return what was consumed, in OpenAI's names."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def tool_calls(finished: generation_pb2.GenerateFinished) -> list[dict[str, object]]:
    """Return the calls that the model wants, in OpenAI's form."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for call in finished.tool_calls
    ]


def embed_batches(texts: list[str]) -> list[list[str]]:
    """Return the texts in calls that fit the model service. Raises: ShapeRefused."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise misshapen("input", f"must be 1 to {MAX_TEXTS} texts")
    batches: list[list[str]] = [[]]
    batch_bytes = 0
    for position, text in enumerate(texts):
        size = len(text.encode())
        if not 1 <= size <= MAX_EMBEDDED_BYTES:
            field = f"input.{position}" if len(texts) > 1 else "input"
            raise misshapen(field, f"must be 1 to {MAX_EMBEDDED_BYTES} bytes of text")
        if len(batches[-1]) == MAX_TEXTS_PER_CALL or batch_bytes + size > MAX_BYTES_PER_CALL:
            batches.append([])
            batch_bytes = 0
        batches[-1].append(text)
        batch_bytes += size
    return batches
