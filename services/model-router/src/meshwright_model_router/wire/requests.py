"""Requests as domain models, with the checks of shape."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf import struct_pb2

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import new_id, parse_id
from meshwright_model_router.domain.call import (
    DEFAULT_CACHE_SECONDS,
    DEFAULT_SIMILARITY,
    CacheUse,
    ModelCall,
)
from meshwright_model_router.domain.conversation import (
    NO_ARGUMENTS,
    Image,
    JsonObject,
    JsonValue,
    Message,
    Options,
    OutputFormat,
    Prompt,
    Role,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.domain.guards.guard import Side
from meshwright_model_router.domain.usage import Attribution

MAX_MESSAGES: Final = 500
MAX_TOOLS: Final = 128
MAX_TOOL_CALLS: Final = 16
MAX_TEXT_BYTES: Final = 1024 * 1024
"""Of all texts of a request together."""
MAX_IMAGE_BYTES: Final = 3 * 1024 * 1024
MAX_DESCRIPTION_BYTES: Final = 4 * 1024
MAX_TEXTS: Final = 256
MAX_EMBEDDED_BYTES: Final = 32 * 1024
MAX_DIMENSIONS: Final = 16_384
MAX_OUTPUT_TOKENS: Final = 128_000
MAX_NAMED_GUARDS: Final = 16
MAX_STOP_SEQUENCES: Final = 4
MAX_STOP_CHARACTERS: Final = 64
MIN_SIMILARITY: Final = 0.5
MAX_CACHE_SECONDS: Final = 7 * 24 * 3600

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LABEL: Final = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_GUARD_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_SPEAKER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEDIA_TYPE: Final = re.compile(r"image/[a-z0-9.+-]{1,64}")
_EFFORTS: Final = frozenset({"", "low", "medium", "high"})
_ROLES: Final[Mapping[int, Role]] = {
    message_pb2.ROLE_SYSTEM: Role.SYSTEM,
    message_pb2.ROLE_USER: Role.USER,
    message_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    message_pb2.ROLE_TOOL: Role.TOOL,
}
_TOOL_CHOICES: Final[Mapping[int, ToolChoice]] = {
    generation_pb2.TOOL_CHOICE_UNSPECIFIED: ToolChoice.AUTO,
    generation_pb2.TOOL_CHOICE_AUTO: ToolChoice.AUTO,
    generation_pb2.TOOL_CHOICE_NONE: ToolChoice.NONE,
    generation_pb2.TOOL_CHOICE_REQUIRED: ToolChoice.REQUIRED,
}
_FORMATS: Final[Mapping[int, OutputFormat]] = {
    generation_pb2.OUTPUT_FORMAT_UNSPECIFIED: OutputFormat.TEXT,
    generation_pb2.OUTPUT_FORMAT_TEXT: OutputFormat.TEXT,
    generation_pb2.OUTPUT_FORMAT_JSON_OBJECT: OutputFormat.JSON_OBJECT,
    generation_pb2.OUTPUT_FORMAT_JSON_SCHEMA: OutputFormat.JSON_SCHEMA,
}


def call_from(request: model_service_pb2.GenerateRequest) -> ModelCall:
    """Return what is asked of a model. Raises: InvalidArgument naming the field."""
    return ModelCall(
        model=request.model,
        prompt=prompt_from(request),
        attribution=attribution_from(request.attribution),
        accepts_restart=request.accepts_restart,
        cache=_cache_from(request.cache) if request.HasField("cache") else None,
        named_guards=frozenset(
            (
                *_named_guards(Side.INPUT, "input_guards", request.input_guards),
                *_named_guards(Side.OUTPUT, "output_guards", request.output_guards),
            )
        ),
    )


def _named_guards(side: Side, field: str, names: Sequence[str]) -> Iterator[tuple[Side, str]]:
    if len(names) > MAX_NAMED_GUARDS:
        raise invalid(field, f"must be at most {MAX_NAMED_GUARDS}")
    for index, name in enumerate(names):
        if not _GUARD_NAME.fullmatch(name):
            raise invalid(f"{field}[{index}]", "must be 1 to 64 of a-z 0-9 _ -")
        yield side, name


def _cache_from(cache: generation_pb2.CacheUse) -> CacheUse:
    similarity = cache.min_similarity or DEFAULT_SIMILARITY
    if not MIN_SIMILARITY <= similarity <= 1:
        raise invalid("cache.min_similarity", f"must be {MIN_SIMILARITY} to 1")
    seconds = DEFAULT_CACHE_SECONDS
    if cache.HasField("ttl"):
        seconds = cache.ttl.seconds + cache.ttl.nanos / 1e9
        if not 1 <= seconds <= MAX_CACHE_SECONDS:
            raise invalid("cache.ttl", f"must be 1 to {MAX_CACHE_SECONDS} seconds")
    return CacheUse(
        semantic=cache.semantic,
        min_similarity=similarity,
        seconds=seconds,
        refresh=cache.refresh,
        no_store=cache.no_store,
        private=cache.private,
    )


def prompt_from(request: model_service_pb2.GenerateRequest) -> Prompt:
    """Return the prompt. Raises: InvalidArgument naming the field."""
    choice = _TOOL_CHOICES.get(request.tool_choice)
    if choice is None:
        raise invalid("tool_choice", "is not known")
    output_format = _FORMATS.get(request.output_format)
    if output_format is None:
        raise invalid("output_format", "is not known")
    tools = tools_from(request.tools)
    if choice is ToolChoice.REQUIRED and not tools:
        raise invalid("tool_choice", "REQUIRED needs tools")
    wanted = request.tool_choice_name
    if wanted and wanted not in {tool.name for tool in tools}:
        raise invalid("tool_choice_name", "must be the name of one of the tools")
    has_schema = request.HasField("output_schema")
    if output_format is OutputFormat.JSON_SCHEMA and not has_schema:
        raise invalid("output_schema", "is needed for OUTPUT_FORMAT_JSON_SCHEMA")
    return Prompt(
        messages=messages_from(request.messages),
        tools=tools,
        tool_choice=choice,
        tool_choice_name=wanted if choice is ToolChoice.REQUIRED else "",
        options=_options_from(request.options),
        output_format=output_format,
        output_schema=json_object(request.output_schema) if has_schema else None,
    )


def messages_from(messages: Iterable[message_pb2.Message]) -> tuple[Message, ...]:
    """Return the conversation. Raises: InvalidArgument naming the field."""
    converted = tuple(
        _message_from(message, f"messages[{index}]") for index, message in enumerate(messages)
    )
    if not 1 <= len(converted) <= MAX_MESSAGES:
        raise invalid("messages", f"must be 1 to {MAX_MESSAGES}")
    if sum(_bytes(part) for one in converted for part in one.parts) > MAX_TEXT_BYTES:
        raise invalid("messages", f"must hold at most {MAX_TEXT_BYTES} bytes of text")
    return converted


def tools_from(tools: Iterable[message_pb2.ToolDefinition]) -> tuple[ToolDefinition, ...]:
    """Return the tools. Raises: InvalidArgument naming the field."""
    converted: dict[str, ToolDefinition] = {}
    for index, tool in enumerate(tools):
        field = f"tools[{index}]"
        if not _TOOL_NAME.fullmatch(tool.name):
            raise invalid(f"{field}.name", "must be 1 to 64 of A-Z a-z 0-9 _ . -")
        if tool.name in converted:
            raise invalid(f"{field}.name", "is the name of two tools")
        if len(tool.description.encode()) > MAX_DESCRIPTION_BYTES:
            raise invalid(f"{field}.description", f"must be at most {MAX_DESCRIPTION_BYTES} bytes")
        schema = json_object(tool.parameters) or NO_ARGUMENTS
        converted[tool.name] = ToolDefinition(tool.name, tool.description, schema)
    if len(converted) > MAX_TOOLS:
        raise invalid("tools", f"must be at most {MAX_TOOLS}")
    return tuple(converted.values())


def attribution_from(attribution: model_service_pb2.UsageAttribution) -> Attribution:
    """Return what the call is for; without a task it gets an id of its own.

    Raises: InvalidArgument naming the field.
    """
    for label in ("session_id", "feature"):
        if not _LABEL.fullmatch(getattr(attribution, label)):
            raise invalid(f"attribution.{label}", "must be 0 to 64 of A-Z a-z 0-9 _ . : -")
    step, attempt = attribution.step, attribution.attempt
    if not attribution.task_id:
        task_id, step, attempt = new_id(), 1, 1
    else:
        task_id = parse_id(attribution.task_id, "attribution.task_id")
        # Two calls with one key are recorded once: a forgotten number would hide the second.
        if step < 1:
            raise invalid("attribution.step", "must be 1 or more when task_id is set")
        if attempt < 1:
            raise invalid("attribution.attempt", "must be 1 or more when task_id is set")
    return Attribution(task_id, step, attempt, attribution.session_id, attribution.feature)


def texts_from(request: model_service_pb2.EmbedRequest) -> tuple[str, ...]:
    """Return the texts to embed. Raises: InvalidArgument naming the field."""
    if not 1 <= len(request.texts) <= MAX_TEXTS:
        raise invalid("texts", f"must be 1 to {MAX_TEXTS}")
    for index, text in enumerate(request.texts):
        if not text or len(text.encode()) > MAX_EMBEDDED_BYTES:
            raise invalid(
                f"texts[{index}]", f"must be 1 character to {MAX_EMBEDDED_BYTES} bytes of text"
            )
    if not 0 <= request.dimensions <= MAX_DIMENSIONS:
        raise invalid("dimensions", f"must be 0 to {MAX_DIMENSIONS}")
    return tuple(request.texts)


def json_object(struct: struct_pb2.Struct) -> JsonObject:
    """Return a struct as plain values; whole numbers become ints, as JSON Schema expects."""
    return {name: _json_value(value) for name, value in struct.fields.items()}


def _json_value(value: struct_pb2.Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return json_object(value.struct_value)
    if kind == "list_value":
        return [_json_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None


def _message_from(message: message_pb2.Message, field: str) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{field}.role", "must be SYSTEM, USER, ASSISTANT or TOOL")
    calls = tuple(ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls)
    if calls and role is not Role.ASSISTANT:
        raise invalid(f"{field}.tool_calls", "only an assistant asks for tools")
    if len(calls) > MAX_TOOL_CALLS:
        raise invalid(f"{field}.tool_calls", f"must be at most {MAX_TOOL_CALLS}")
    for index, call in enumerate(calls):
        if not call.id or not call.name:
            raise invalid(f"{field}.tool_calls[{index}]", "must have an id and a name")
    if not message.parts and not calls:
        raise invalid(f"{field}.parts", "must not be empty")
    if (role is Role.TOOL) != bool(message.tool_call_id):
        raise invalid(f"{field}.tool_call_id", "must be set on TOOL messages, and only on them")
    if message.name and not _SPEAKER.fullmatch(message.name):
        raise invalid(f"{field}.name", "must be 1 to 64 of A-Z a-z 0-9 _ -")
    parts = tuple(
        _part_from(part, f"{field}.parts[{index}]") for index, part in enumerate(message.parts)
    )
    return Message(role, parts, calls, message.tool_call_id, message.name)


def _part_from(part: message_pb2.ContentPart, field: str) -> str | Image:
    kind = part.WhichOneof("kind")
    if kind == "text":
        return part.text
    if kind != "image":
        raise invalid(field, "must be a text or an image")
    image = part.image
    if image.WhichOneof("source") == "data":
        if not 1 <= len(image.data) <= MAX_IMAGE_BYTES:
            raise invalid(f"{field}.image.data", f"must be 1 to {MAX_IMAGE_BYTES} bytes")
        if not _MEDIA_TYPE.fullmatch(image.media_type):
            raise invalid(f"{field}.image.media_type", "must be set, for example image/png")
        return Image(data=image.data, media_type=image.media_type)
    if not image.url.startswith("https://"):
        raise invalid(f"{field}.image.url", "must start with https://")
    return Image(url=image.url)


def _bytes(part: str | Image) -> int:
    return len(part.encode()) if isinstance(part, str) else 0


def _options_from(options: generation_pb2.GenerationOptions) -> Options:
    if len(options.stop_sequences) > MAX_STOP_SEQUENCES:
        raise invalid("options.stop_sequences", f"must be at most {MAX_STOP_SEQUENCES}")
    if not all(1 <= len(text) <= MAX_STOP_CHARACTERS for text in options.stop_sequences):
        raise invalid(
            "options.stop_sequences", f"must each be 1 to {MAX_STOP_CHARACTERS} characters"
        )
    if options.reasoning_effort not in _EFFORTS:
        raise invalid("options.reasoning_effort", "must be low, medium or high")
    has = options.HasField
    converted = Options(
        temperature=options.temperature if has("temperature") else None,
        top_p=options.top_p if has("top_p") else None,
        max_output_tokens=options.max_output_tokens if has("max_output_tokens") else None,
        stop_sequences=tuple(options.stop_sequences),
        seed=options.seed if has("seed") else None,
        presence_penalty=options.presence_penalty if has("presence_penalty") else None,
        frequency_penalty=options.frequency_penalty if has("frequency_penalty") else None,
        reasoning_effort=options.reasoning_effort,
        parallel_tool_calls=options.parallel_tool_calls if has("parallel_tool_calls") else None,
    )
    _check_range("temperature", converted.temperature, 0, 2)
    _check_range("top_p", converted.top_p, 0, 1)
    _check_range("max_output_tokens", converted.max_output_tokens, 1, MAX_OUTPUT_TOKENS)
    _check_range("presence_penalty", converted.presence_penalty, -2, 2)
    _check_range("frequency_penalty", converted.frequency_penalty, -2, 2)
    return converted


def _check_range(name: str, value: float | None, least: int, most: int) -> None:
    # Comparison this way round, so that nan is outside too.
    if value is not None and not least <= value <= most:
        raise invalid(f"options.{name}", f"must be {least} to {most}")
