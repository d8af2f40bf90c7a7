"""Judging and ordering texts: OpenAI's moderations, and the rerank request that others share."""

from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Output
from meshwright_gateway.http.schemas.openai import Ignored, OpenAiInput

JudgedText = Annotated[str, Field(min_length=1, max_length=32_768)]
RankedText = Annotated[str, Field(min_length=1, max_length=32_768)]


class JudgedPart(OpenAiInput):
    """A text among several parts."""

    type: Literal["text"]
    text: JudgedText


class ModerationRequest(OpenAiInput):
    """Texts to judge. Images are not judged, and refused."""

    input: JudgedText | Annotated[list[JudgedText | JudgedPart], Field(min_length=1, max_length=32)]
    model: str = Field(default="", max_length=200)


class ModerationVerdict(Output):
    """What was found in one text. `categories` are those whose score is over the half."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class ModerationAnswer(Output):
    """Verdicts in the order of the texts."""

    id: str
    model: str
    results: list[ModerationVerdict]


class RerankInput(OpenAiInput):
    """Documents to put in order, best first: the request of Cohere, Jina and vLLM."""

    model: str = Field(default="", max_length=200)
    query: str = Field(min_length=1, max_length=8_192)
    documents: list[RankedText] = Field(min_length=1, max_length=256)
    top_n: int | None = Field(default=None, ge=1, le=256)
    return_documents: bool = False
    max_tokens_per_doc: Ignored = None


class RankedDocument(Output):
    """The document, when it was asked for."""

    text: str


class RankedResult(Output):
    """One document's place. `index`: which one of the request, from 0."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RerankUsage(Output):
    """What the order consumed."""

    total_tokens: int


class RerankAnswer(Output):
    """Results, best first."""

    id: str
    model: str
    results: list[RankedResult]
    usage: RerankUsage
