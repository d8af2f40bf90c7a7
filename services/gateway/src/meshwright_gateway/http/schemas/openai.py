"""Requests of OpenAI's API, as far as they are taken. Null is the same as absent.

Fields typed `Ignored` are sent by clients and change nothing here.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from meshwright_gateway.http.schemas.common import JsonObjectInput, Output

Ignored = Annotated[object, Field(description="Accepted and not used.")]


class OpenAiInput(BaseModel):
    """A body in OpenAI's form."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(OpenAiInput):
    """Text of a message."""

    type: Literal["text"]
    text: str


class RefusalPart(OpenAiInput):
    """A refusal of an earlier answer."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(OpenAiInput):
    """An https address, or the bytes as data:image/…;base64,…"""

    url: str = Field(min_length=1)
    detail: Ignored = None


class ImagePart(OpenAiInput):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]
Content = str | list[ContentPart]


class FunctionCall(OpenAiInput):
    """A function and its arguments as the model wrote them."""

    name: str
    arguments: str


class ToolCallInput(OpenAiInput):
    """A call of an earlier answer."""

    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Ignored = None


class InstructionMessage(OpenAiInput):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(OpenAiInput):
    """What the person said."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(OpenAiInput):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCallInput] | None = Field(default=None, max_length=16)
    name: str | None = None
    refusal: Ignored = None
    annotations: Ignored = None
    audio: Ignored = None
    reasoning_content: Ignored = None
    function_call: None = None


class ToolMessage(OpenAiInput):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str = Field(min_length=1, max_length=128)
    name: Ignored = None


def _kind_of_message(value: object) -> str:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return "instruction" if role in ("system", "developer") else str(role)


ChatMessage = Annotated[
    Annotated[InstructionMessage, Tag("instruction")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")],
    Discriminator(
        _kind_of_message,
        custom_error_type="role_unknown",
        custom_error_message="role must be one of system, developer, user, assistant, tool",
    ),
]


class FunctionDefinition(OpenAiInput):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    description: str | None = None
    parameters: JsonObjectInput | None = None
    strict: Ignored = None


class ToolInput(OpenAiInput):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(OpenAiInput):
    """A function by name."""

    name: str = Field(min_length=1, max_length=64)


class NamedToolChoice(OpenAiInput):
    """The one tool to call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchemaFormat(OpenAiInput):
    """A schema that the output must fit."""

    # Named `schema` on the wire, which pydantic keeps for itself.
    schema_: JsonObjectInput = Field(alias="schema")
    name: Ignored = None
    description: Ignored = None
    strict: Ignored = None


class TextFormat(OpenAiInput):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(OpenAiInput):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaOutput(OpenAiInput):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaOutput, Field(discriminator="type")
]


class StreamOptions(OpenAiInput):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


StopSequence = Annotated[str, Field(min_length=1, max_length=64)]


class ChatCompletionRequest(OpenAiInput):
    """A chat completion, as OpenAI's clients send it."""

    model: str = Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = Field(min_length=1, max_length=500)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolInput] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stop: StopSequence | list[StopSequence] | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1, le=128_000)
    max_tokens: int | None = Field(default=None, ge=1, le=128_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    n: Literal[1] | None = None
    modalities: list[Literal["text"]] | None = None

    user: Ignored = None
    store: Ignored = None
    metadata: Ignored = None
    service_tier: Ignored = None
    logprobs: Ignored = None
    top_logprobs: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    verbosity: Ignored = None


class EmbeddingRequest(OpenAiInput):
    """Texts to turn into vectors."""

    model: str = Field(min_length=1, max_length=200)
    input: str | list[str] = Field(description="1 to 2 048 texts of 1 character to 32 KiB.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=16_384)
    user: Ignored = None


class OpenAiProblem(Output):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(Output):
    """An error in OpenAI's form."""

    error: OpenAiProblem


class OpenAiModel(Output):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class OpenAiModelList(Output):
    """Models by name."""

    object: Literal["list"] = "list"
    data: list[OpenAiModel]


class OpenAiEmbedding(Output):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(
        description="Numbers, or little-endian 32-bit floats in base64."
    )


class EmbeddingUsage(Output):
    """What the vectors consumed."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(Output):
    """Vectors in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[OpenAiEmbedding]
    model: str
    usage: EmbeddingUsage
