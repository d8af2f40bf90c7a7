"""Any chat model of LangChain as a provider: LangChain's own fake models, and scripted ones."""

import asyncio
import json
import threading
from contextlib import aclosing
from typing import Any, Final

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from openai import RateLimitError

from bench.langchain_models import Blocking, BlockingStream, Scripted, call, chunk
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.domain.conversation import (
    Image,
    JsonObject,
    Message,
    Options,
    OutputFormat,
    Prompt,
    Role,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.domain.output import (
    Ended,
    FinishReason,
    Opened,
    Piece,
    ProviderOutput,
    ReportedUsage,
)
from meshwright_model_router.providers.endpoint import Endpoint, Timeouts
from meshwright_model_router.providers.factory import Factory, FactoryError
from meshwright_model_router.providers.langchain_chat import LangChainChat

SEARCH: Final = ToolDefinition("kb.search", "Search.")
USUAL: Final = Timeouts()
SCHEMA: Final[JsonObject] = {"type": "object", "properties": {"a": {"type": "integer"}}}
HELLO: Final = Prompt((Message(Role.USER, ("hello",)),))


def chat(model: object, timeouts: Timeouts = USUAL) -> LangChainChat:
    factory = Factory("bench.langchain_models:given", {"model": model})
    return LangChainChat(factory, Endpoint("lc", "", timeouts=timeouts))


async def outputs_of(provider: LangChainChat, prompt: Prompt = HELLO) -> list[ProviderOutput]:
    async with aclosing(provider.stream("lc", prompt, seconds_left=None)) as outputs:
        return [output async for output in outputs]


async def answer_of(*script: object, prompt: Prompt = HELLO) -> tuple[list[Piece], Ended]:
    opened, *pieces, ended = await outputs_of(chat(Scripted(script=list(script))), prompt)
    assert isinstance(opened, Opened)
    assert isinstance(ended, Ended)
    return [piece for piece in pieces if isinstance(piece, Piece)], ended


async def error_of(provider: LangChainChat, prompt: Prompt = HELLO) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await outputs_of(provider, prompt)
    return raised.value


@pytest.mark.asyncio
async def test_fake_model_of_langchain_streams_its_words() -> None:
    """M1: the adapter, proven with LangChain's own fake model."""
    fake = GenericFakeChatModel(messages=iter([AIMessage("Hello big world")]))
    opened, *pieces, ended = await outputs_of(chat(fake))
    assert isinstance(opened, Opened)
    texts = [piece.text for piece in pieces if isinstance(piece, Piece)]
    assert "".join(texts) == "Hello big world"
    assert len(texts) == 5  # words and the blanks between them
    assert ended == Ended(FinishReason.STOP, None)


@pytest.mark.asyncio
async def test_usage_of_all_chunks_is_added_up() -> None:
    at_first = UsageMetadata(
        input_tokens=10,
        output_tokens=0,
        total_tokens=10,
        input_token_details={"cache_read": 4},
    )
    at_last = UsageMetadata(
        input_tokens=0, output_tokens=5, total_tokens=5, output_token_details={"reasoning": 2}
    )
    told = {"model_name": "m-1", "finish_reason": "length"}
    pieces, ended = await answer_of(
        chunk("a", usage_metadata=at_first),
        chunk("b", usage_metadata=at_last, response_metadata=told),
    )
    assert "".join(piece.text for piece in pieces) == "ab"
    assert ended == Ended(FinishReason.LENGTH, ReportedUsage(10, 5, 4, 2))


@pytest.mark.asyncio
async def test_reasoning_stands_apart_from_text() -> None:
    blocks: list[str | dict[str, Any]] = [
        {"type": "reasoning", "reasoning": "hm "},
        {"type": "text", "text": "a"},
    ]
    beside = chunk("b", additional_kwargs={"reasoning_content": "so "})
    pieces, _ = await answer_of(chunk(blocks), beside)
    assert [(piece.text, piece.reasoning) for piece in pieces] == [("a", "hm "), ("b", "so ")]


@pytest.mark.asyncio
async def test_calls_of_tools_in_pieces_under_our_names() -> None:
    prompt = Prompt(HELLO.messages, (SEARCH,))
    pieces, ended = await answer_of(
        call(7, name="kb_search", args="", id="c1"),
        call(7, args='{"q"'),
        call(9, name="invented", args="{", id="c2"),
        call(7, args=":1}"),
        chunk(response_metadata={"stop_reason": "tool_use"}),
        prompt=prompt,
    )
    parts = [part for piece in pieces for part in piece.tool_calls]
    assert [(part.index, part.id, part.name) for part in parts if part.id] == [
        (0, "c1", "kb.search"),
        (1, "c2", "invented"),
    ]
    assert "".join(part.arguments for part in parts if part.index == 0) == '{"q":1}'
    assert ended.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.asyncio
async def test_whole_calls_of_a_model_that_does_not_stream() -> None:
    made = [{"name": "kb_search", "args": {"q": "ä"}, "id": "c1"}]
    answer = AIMessage(
        "",
        tool_calls=made,
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    )
    _, piece, ended = await outputs_of(chat(Blocking(answer=answer)))
    assert isinstance(piece, Piece)
    (part,) = piece.tool_calls
    assert (part.id, part.name, json.loads(part.arguments)) == ("c1", "kb_search", {"q": "ä"})
    assert isinstance(ended, Ended)
    assert ended.usage == ReportedUsage(3, 2)


@pytest.mark.asyncio
async def test_calls_beyond_sixteen_are_dropped() -> None:
    """F-57."""
    calls = [call(index, name="f", args="{}", id=f"c{index}") for index in range(500)]
    pieces, _ = await answer_of(*calls)
    assert {part.index for piece in pieces for part in piece.tool_calls} == set(range(16))


@pytest.mark.asyncio
async def test_conversation_in_langchains_words() -> None:
    model = Scripted(script=[chunk("a")])
    image = Image(data=b"\x89", media_type="image/png")
    prompt = Prompt(
        messages=(
            Message(Role.SYSTEM, ("Be brief.",)),
            Message(Role.USER, ("see", image, Image(url="https://h/x.png"))),
            Message(Role.ASSISTANT, (), (ToolCall("c1", "kb.search", '{"q":1}'),)),
            Message(Role.TOOL, ("found",), tool_call_id="c1"),
        ),
        tools=(SEARCH,),
        tool_choice=ToolChoice.REQUIRED,
        options=Options(temperature=0.5, max_output_tokens=9, stop_sequences=("END",), seed=7),
    )
    await outputs_of(chat(model), prompt)
    ((messages, stop, fields),) = model.asked
    system, human, assistant, result = messages
    assert isinstance(system, SystemMessage)
    assert isinstance(human, HumanMessage)
    assert human.content == [
        {"type": "text", "text": "see"},
        {"type": "image", "base64": "iQ==", "mime_type": "image/png"},
        {"type": "image", "url": "https://h/x.png"},
    ]
    assert assistant.tool_calls[0]["args"] == {"q": 1}
    assert isinstance(result, ToolMessage)
    assert result.tool_call_id == "c1"
    assert stop == ["END"]
    assert (fields["temperature"], fields["max_tokens"]) == (0.5, 9)
    assert fields["tool_choice"] == "any"
    assert fields["tools"][0]["function"]["name"] == "kb_search"
    assert "seed" not in fields


@pytest.mark.asyncio
async def test_json_by_schema_comes_from_a_tool_that_must_be_called() -> None:
    prompt = Prompt(HELLO.messages, output_format=OutputFormat.JSON_SCHEMA, output_schema=SCHEMA)
    pieces, ended = await answer_of(
        chunk("Sure: "),
        call(0, name="structured_output", args='{"a":', id="c1"),
        call(0, args="1}"),
        chunk(response_metadata={"finish_reason": "tool_calls"}),
        prompt=prompt,
    )
    assert "".join(piece.text for piece in pieces) == '{"a":1}'
    assert ended.finish_reason is FinishReason.STOP


@pytest.mark.asyncio
async def test_model_without_tools_is_asked_for_json_in_words_and_refuses_tools() -> None:
    asked = Prompt(HELLO.messages, output_format=OutputFormat.JSON_SCHEMA, output_schema=SCHEMA)
    model = Scripted(script=[chunk("{}")], takes_tools=False)
    await outputs_of(chat(model), asked)
    ((messages, _, _),) = model.asked
    assert '"integer"' in messages[0].content
    error = await error_of(chat(model), Prompt(HELLO.messages, (SEARCH,)))
    assert error.reason == "PROVIDER_REJECTED"


@pytest.mark.asyncio
async def test_lone_surrogates_are_replaced() -> None:
    """F-57: Python's strings may hold them."""
    ((piece,), _) = await answer_of(chunk("a\ud83d"))
    assert piece.text == "a\ufffd"


@pytest.mark.asyncio
async def test_blocking_model_leaves_the_event_loop_alone() -> None:
    may = threading.Event()
    asking = asyncio.create_task(outputs_of(chat(Blocking(answer=AIMessage("done"), may=may))))
    await asyncio.sleep(0)
    may.set()  # this line would not be reached
    _, piece, _ = await asking
    assert isinstance(piece, Piece)
    assert piece.text == "done"


@pytest.mark.asyncio
async def test_blocking_stream_is_read_and_left() -> None:
    model = BlockingStream(answer=AIMessage(""))
    outputs = await outputs_of(chat(model))
    assert "".join(one.text for one in outputs if isinstance(one, Piece)).count(" ") == 1000
    async with aclosing(chat(model).stream("lc", HELLO, seconds_left=None)) as stream:
        await anext(stream)
        await anext(stream)

    async def ended() -> bool:
        return all(thread.name != "blocking-stream" for thread in threading.enumerate())

    await eventually(ended)


@pytest.mark.asyncio
async def test_who_leaves_closes_the_models_stream() -> None:
    model = Scripted(script=[chunk("a"), "wait"])
    async with aclosing(chat(model).stream("lc", HELLO, seconds_left=None)) as stream:
        await anext(stream)
        assert not model.closed
    assert model.closed


@pytest.mark.asyncio
async def test_cancelling_closes_the_models_stream() -> None:
    model = Scripted(script=[chunk("a"), "wait"])
    reading = asyncio.create_task(outputs_of(chat(model)))

    async def asked() -> bool:
        return bool(model.asked)

    await eventually(asked)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert model.closed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("timeouts", "script", "what"),
    [
        (Timeouts(first_byte=0.05), ["wait"], "no first byte"),
        (Timeouts(idle=0.05), [chunk("a"), "wait"], "nothing more"),
        (Timeouts(total=0.05), [chunk("a"), "wait"], "no end"),
    ],
)
async def test_silence_ends_by_its_limit(timeouts: Timeouts, script: list[Any], what: str) -> None:
    model = Scripted(script=script)
    error = await error_of(chat(model, timeouts))
    assert error.reason == "PROVIDER_TIMEOUT"
    assert what in str(error)
    assert model.closed


def rate_limit() -> Exception:
    """An error of a client that is built on httpx, as most packages of LangChain are."""

    class Response:
        status_code = 429
        headers = {"retry-after": "3"}  # noqa: RUF012 -- a stand-in for a response
        request = None

    response: Any = Response()
    return RateLimitError("slow down", response=response, body={"error": {"message": "slow"}})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (rate_limit(), "PROVIDER_RATE_LIMIT"),
        (ConnectionError("secret"), "PROVIDER_UNAVAILABLE"),
        (TimeoutError(), "PROVIDER_TIMEOUT"),
        (ValueError("secret"), "PROVIDER_PROTOCOL"),
    ],
)
async def test_what_the_model_raises_becomes_its_reason(raised: Exception, reason: str) -> None:
    error = await error_of(chat(Scripted(script=[raised])))
    assert error.reason == reason
    # Texts of unknown errors may hold what was sent.
    assert "secret" not in str(error)
    if reason == "PROVIDER_RATE_LIMIT":
        assert error.retry_after_seconds == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("raised", [ConnectionError("secret"), ValueError("secret")])
async def test_stream_that_breaks_under_way_is_no_answer(raised: Exception) -> None:
    """F-55."""
    error = await error_of(chat(Scripted(script=[chunk("a"), raised])))
    assert error.reason == "PROVIDER_TRUNCATED"


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("no_such_package.module:make", {}, "not installed"),
        ("bench.langchain_models:nothing", {}, "cannot be imported"),
        ("bench.langchain_models:Content", {}, "cannot be called"),
        ("bench.langchain_models", {}, "package.module:callable"),
        ("bench.langchain_models:given", {"model": 5}, "must return a BaseChatModel"),
        ("bench.langchain_models:given", {}, "TypeError"),
    ],
)
def test_factory_that_makes_no_model_says_why(
    path: str, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(FactoryError) as raised:
        LangChainChat(Factory(path, arguments), Endpoint("lc", ""))
    assert said in str(raised.value)
