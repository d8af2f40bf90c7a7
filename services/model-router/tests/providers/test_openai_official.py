"""The OpenAI side against the official client's own types: what we ask, and what we read."""

import json
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse, EmbeddingCreateParams
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import (
    Choice,
    ChoiceDelta,
    ChoiceDeltaToolCall,
    ChoiceDeltaToolCallFunction,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.completion_usage import (
    CompletionTokensDetails,
    CompletionUsage,
    PromptTokensDetails,
)
from openai.types.moderation_create_params import ModerationCreateParams
from openai.types.moderation_create_response import ModerationCreateResponse
from pydantic import TypeAdapter, ValidationError

from bench import embeddings, verdicts
from bench.official_types import check
from bench.openai_wire import EmbeddingRequest
from bench.simulator_state import Simulator
from meshwright_model_router.domain.conversation import (
    Image,
    Message,
    Options,
    OutputFormat,
    Prompt,
    Role,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.domain.output import FinishReason, Piece, ReportedUsage, ToolCallPiece
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.providers.moderation import OpenAiModeration
from meshwright_model_router.providers.openai_chunks import Assembly
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings
from meshwright_model_router.providers.openai_request import encode_request
from meshwright_model_router.providers.tool_names import ToolNames

ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1")
_request = TypeAdapter(CompletionCreateParamsStreaming)

PROMPT = Prompt(
    messages=(
        Message(Role.SYSTEM, ("Be brief.",)),
        Message(Role.USER, ("see", Image(data=b"\x89", media_type="image/png")), name="ann"),
        Message(Role.ASSISTANT, (), (ToolCall("c1", "kb.search", '{"q":1}'),)),
        Message(Role.TOOL, ("found",), tool_call_id="c1"),
        Message(Role.USER, (Image(url="https://h/x.png"),)),
    ),
    tools=(ToolDefinition("kb.search", "Search."),),
    tool_choice=ToolChoice.REQUIRED,
    tool_choice_name="kb.search",
    options=Options(
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=10,
        stop_sequences=("END",),
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        reasoning_effort="low",
        parallel_tool_calls=False,
    ),
    output_format=OutputFormat.JSON_SCHEMA,
    output_schema={"type": "object", "properties": {}},
)


@pytest.mark.parametrize("output_format", list(OutputFormat))
@pytest.mark.parametrize("choice", list(ToolChoice))
def test_request_is_one_of_the_official_client(
    output_format: OutputFormat, choice: ToolChoice
) -> None:
    prompt = Prompt(
        PROMPT.messages,
        PROMPT.tools,
        choice,
        "",
        PROMPT.options,
        output_format,
        PROMPT.output_schema,
    )
    for asked in (prompt, PROMPT, Prompt(PROMPT.messages[:1])):
        check(_request, json.loads(encode_request(ENDPOINT, "m", asked, ToolNames(asked.tools))))


def test_field_that_the_official_client_does_not_know_is_found() -> None:
    """The check above sees what it is there to see."""
    body: dict[str, Any] = json.loads(encode_request(ENDPOINT, "m", PROMPT, ToolNames(())))
    with pytest.raises(ValidationError):
        check(_request, body | {"stream_option": {}})
    with pytest.raises(ValidationError):
        check(_request, body | {"messages": [{"role": "user", "content": [{"type": "txt"}]}]})


def chunk(delta: ChoiceDelta | None = None, reason: Any = None, **fields: Any) -> bytes:
    choices = [] if delta is None else [Choice(delta=delta, index=0, finish_reason=reason)]
    made = ChatCompletionChunk(
        id="c", choices=choices, created=1, model="m-1", object="chat.completion.chunk", **fields
    )
    return made.model_dump_json().encode()


def test_stream_of_the_official_types_is_read_whole() -> None:
    read = Assembly(ENDPOINT, ToolNames([ToolDefinition("kb.search")]))
    opening = ChoiceDeltaToolCall(
        index=0,
        id="c1",
        type="function",
        function=ChoiceDeltaToolCallFunction(name="kb_search", arguments=""),
    )
    rest = ChoiceDeltaToolCall(index=0, function=ChoiceDeltaToolCallFunction(arguments='{"q":1}'))
    usage = CompletionUsage(
        prompt_tokens=9,
        completion_tokens=5,
        total_tokens=14,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=4),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=3),
    )
    piece = read.take(
        [
            chunk(ChoiceDelta(role="assistant", content="")),
            chunk(ChoiceDelta(content="a")),
            chunk(ChoiceDelta(content="b")),
            chunk(ChoiceDelta(tool_calls=[opening])),
            chunk(ChoiceDelta(tool_calls=[rest])),
            chunk(ChoiceDelta(), "tool_calls"),
            chunk(usage=usage),
            b"[DONE]",
        ]
    )
    counted = ReportedUsage(9, 5, 4, 3)
    calls = (ToolCallPiece(0, "c1", "kb.search", ""), ToolCallPiece(0, "", "", '{"q":1}'))
    assert piece == Piece("ab", "", calls, counted)
    assert read.model == "m-1"
    ended = read.ended()
    assert (ended.finish_reason, ended.usage) == (FinishReason.TOOL_CALLS, counted)


@pytest.mark.asyncio
async def test_embeddings_and_moderation_are_asked_and_answered_in_the_official_types(
    provider: Simulator,
) -> None:
    endpoint = Endpoint(deployment="m", base_url=provider.base_url)
    async with open_session(10) as client:
        embedder = OpenAiEmbeddings(client, endpoint, 256)
        vectors = await embedder.embed("sim", ["a", "b"], dimensions=16, seconds_left=None)
        check(TypeAdapter(EmbeddingCreateParams), json.loads(provider.requests[-1].body))
        moderation = OpenAiModeration(client, endpoint)
        judged = await moderation.moderate("sim", ["fine", "forbidden"], seconds_left=None)
        check(TypeAdapter(ModerationCreateParams), json.loads(provider.requests[-1].body))
    assert [len(vector) for vector in vectors.values] == [16, 16]
    assert [verdict.flagged for verdict in judged.values] == [False, True]
    assert judged.values[1].scores["violence"] == pytest.approx(0.97)


def test_answers_of_the_simulator_are_in_the_official_types() -> None:
    asked = EmbeddingRequest(model="sim", input=["a"])
    CreateEmbeddingResponse.model_validate_json(embeddings.answer(asked, 4))
    judged = verdicts.ModerationRequest(input=["a"])
    assert ModerationCreateResponse.construct(**json.loads(verdicts.verdicts(judged))).results
