"""What all inputs and outputs of the API share."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from meshwright_gateway.http.json_body import check_struct_depth


class Input(BaseModel):
    """A body that a client sends: unknown names and wrong types are refused, nothing is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Output(BaseModel):
    """A body that the platform answers with."""

    model_config = ConfigDict(extra="forbid", frozen=True)


JsonObject = dict[str, JsonValue]
JsonObjectInput = Annotated[JsonObject, AfterValidator(check_struct_depth)]
"""A free object of a request: it has to fit the messages that carry it on."""
Identifier = Annotated[str, Field(min_length=1, max_length=64, description="A UUID.")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
KnowledgeBaseIds = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
    # JSON has lists only; a tuple is what stays as it was read.
    Field(
        strict=False,
        max_length=16,
        description='Knowledge bases to search, by id or "default". Empty: the default one.',
    ),
]
Moment = Annotated[
    AwareDatetime,
    Field(strict=False, description="A moment with its zone, such as 2026-01-31T12:00:00Z."),
]
Metadata = Annotated[
    JsonObjectInput, Field(description="Free data, stored and given back; at most 16 KiB as JSON.")
]
NextPageToken = Annotated[
    str, Field(description="Give it as page_token to read on. Empty: this was the last page.")
]


class FieldProblem(Output):
    """One wrong field of a request."""

    field: str = Field(description="Path of the field, such as `messages.0.content`.")
    message: str


class ProblemView(Output):
    """An error by RFC 9457, served as `application/problem+json`."""

    type: str = Field(description="`urn:meshwright:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="For people. It may change; decide by `code`.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="Stable reason, see `ErrorReason` in the protos.")
    request_id: str = Field(description="Give it to the operator: the log is found by it.")
    errors: list[FieldProblem]
    retry_after_ms: int | None = Field(description="When the same request may succeed.")
    metadata: dict[str, str] = Field(description="What the text says, for programs.")


class Usage(Output):
    """What model calls consumed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = Field(description="Part of prompt_tokens read from a prompt cache.")
    reasoning_tokens: int = Field(description="Part of completion_tokens that is not shown.")
    cost_micro_usd: int = Field(description="Millionths of a US dollar; 0: no price is known.")
    estimated: bool = Field(description="Counted by the platform: the provider did not say.")


class Citation(Output):
    """Where a statement of an answer comes from."""

    number: int = Field(description='The answer refers to it as "[1]".')
    document_id: str
    document_name: str
    page: int | None = Field(description="From 1; null: the format has no pages.")
    start_offset: int = Field(description="Characters of the extracted text.")
    end_offset: int = Field(description="Exclusive.")
    quote: str
    score: float = Field(description="In [0, 1]; comparable within one search.")
    chunk_id: str
    heading_path: tuple[str, ...] = Field(description="Headings above it, outermost first.")


class Listing(Output):
    """Part of a list."""

    next_page_token: NextPageToken


OptionalMoment = datetime | None
