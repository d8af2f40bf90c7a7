"""The OpenAI-compatible provider against the simulated one: healthy, damaged and absent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from bench.simulator_state import Simulator
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.domain.conversation import Message, Prompt, Role, ToolDefinition
from meshwright_model_router.domain.output import (
    Ended,
    FinishReason,
    Opened,
    Piece,
    ProviderOutput,
)
from meshwright_model_router.providers.endpoint import Endpoint, Timeouts
from meshwright_model_router.providers.http import HttpClient, open_session
from meshwright_model_router.providers.openai_chat import OpenAiChat

KEY = "sk-simulated-key-000000"
SHORT = Timeouts(connect=0.5, first_byte=0.2, idle=0.2, total=0.6)


@pytest_asyncio.fixture
async def session() -> AsyncIterator[HttpClient]:
    async with open_session(100) as opened:
        yield opened


def endpoint(base_url: str, timeouts: Timeouts | None = None) -> Endpoint:
    return Endpoint(
        deployment="sim",
        base_url=base_url,
        api_key=KEY,
        base_url_setting="MESHWRIGHT_MODELS__BASE_URL",
        api_key_setting="MESHWRIGHT_MODELS__API_KEY",
        timeouts=timeouts or Timeouts(),
    )


def prompt(text: str = "hello", *tools: ToolDefinition) -> Prompt:
    return Prompt((Message(Role.USER, (text,)),), tools)


async def outputs_of(
    session: HttpClient,
    base_url: str,
    directive: str,
    *tools: ToolDefinition,
    timeouts: Timeouts | None = None,
) -> list[ProviderOutput]:
    provider = OpenAiChat(session, endpoint(base_url, timeouts))
    async with aclosing(
        provider.stream(directive, prompt("hello", *tools), seconds_left=None)
    ) as outputs:
        return [output async for output in outputs]


async def error_of(
    session: HttpClient,
    base_url: str,
    directive: str,
    timeouts: Timeouts | None = None,
) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await outputs_of(session, base_url, directive, timeouts=timeouts)
    return raised.value


def text_of(outputs: list[ProviderOutput]) -> str:
    return "".join(output.text for output in outputs if isinstance(output, Piece))


@pytest.mark.asyncio
async def test_stream_opens_brings_pieces_and_ends(
    session: HttpClient, provider: Simulator
) -> None:
    outputs = await outputs_of(session, provider.base_url, "sim-say:48656c6c6f20776f726c64")
    opened = outputs[0]
    assert isinstance(opened, Opened)
    assert opened.model == "sim-say:48656c6c6f20776f726c64"
    assert text_of(outputs) == "Hello world"
    ended = outputs[-1]
    assert isinstance(ended, Ended)
    assert ended.finish_reason is FinishReason.STOP
    assert ended.usage is not None
    assert ended.usage.completion_tokens == 2


@pytest.mark.asyncio
async def test_chunks_of_one_read_become_one_piece(
    session: HttpClient, provider: Simulator
) -> None:
    """M7: what is at hand together goes on together, without waiting for more."""
    outputs = await outputs_of(session, provider.base_url, "sim-n1000-burst50")
    pieces = [output for output in outputs if isinstance(output, Piece)]
    assert len(text_of(outputs)) == 1000 * 10
    assert len(pieces) <= 100


@pytest.mark.asyncio
async def test_paced_chunks_come_one_by_one(session: HttpClient, provider: Simulator) -> None:
    outputs = await outputs_of(session, provider.base_url, "sim-n5-tps100")
    assert [len(output.text) for output in outputs if isinstance(output, Piece)] == [10] * 5


@pytest.mark.asyncio
async def test_tool_calls_come_in_pieces_under_our_names(
    session: HttpClient, provider: Simulator
) -> None:
    arguments = b'{"expression": "1+1"}'.hex()
    outputs = await outputs_of(
        session,
        provider.base_url,
        f"sim-tool:math_calculator-args:{arguments}-calls2",
        ToolDefinition("math.calculator"),
    )
    parts = [part for output in outputs if isinstance(output, Piece) for part in output.tool_calls]
    for index in range(2):
        own = [part for part in parts if part.index == index]
        assert [part.name for part in own if part.name] == ["math.calculator"]
        assert len({part.id for part in own if part.id}) == 1
        assert json.loads("".join(part.arguments for part in own)) == {"expression": "1+1"}
    ended = outputs[-1]
    assert isinstance(ended, Ended)
    assert ended.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.asyncio
async def test_calls_beyond_sixteen_are_dropped(session: HttpClient, provider: Simulator) -> None:
    """F-57: 500 parallel tool calls."""
    outputs = await outputs_of(session, provider.base_url, "sim-tool:search-calls500")
    indexes = {
        part.index for output in outputs if isinstance(output, Piece) for part in output.tool_calls
    }
    assert indexes == set(range(16))


@pytest.mark.asyncio
async def test_request_carries_the_key_and_asks_for_usage(
    session: HttpClient, provider: Simulator
) -> None:
    await outputs_of(session, provider.base_url, "sim-n1")
    request = provider.requests[-1]
    body = json.loads(request.body)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "sim-n1"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "dialect", ["crlf", "bytes1", "multiline", "comments", "bom", "fields", "gzip"]
)
async def test_unusual_stream_is_read(
    session: HttpClient, provider: Simulator, dialect: str
) -> None:
    """F-56: legal, whatever it looks like."""
    outputs = await outputs_of(session, provider.base_url, f"sim-n3-sse:{dialect}")
    assert len(text_of(outputs)) == 30
    assert isinstance(outputs[-1], Ended)


@pytest.mark.asyncio
async def test_torn_characters_are_whole_again(session: HttpClient, provider: Simulator) -> None:
    outputs = await outputs_of(session, provider.base_url, "sim-n3-sse:split")
    assert text_of(outputs) == "Größe 你好 🙂 " * 3


@pytest.mark.asyncio
@pytest.mark.parametrize("dialect", ["doubledone", "afterdone"])
async def test_what_follows_done_is_not_looked_at(
    session: HttpClient, provider: Simulator, dialect: str
) -> None:
    outputs = await outputs_of(session, provider.base_url, f"sim-n3-sse:{dialect}")
    assert "too late" not in text_of(outputs)
    assert [type(output) for output in outputs].count(Ended) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dialect", "text"), [("surrogate", "\ufffd"), ("badutf8", "\ufffd\ufffd")]
)
async def test_broken_characters_are_replaced(
    session: HttpClient, provider: Simulator, dialect: str, text: str
) -> None:
    """F-57: a lone surrogate must not reach anything that encodes."""
    outputs = await outputs_of(session, provider.base_url, f"sim-n1-sse:{dialect}")
    assert text_of(outputs) == text
    text_of(outputs).encode()


@pytest.mark.asyncio
@pytest.mark.parametrize("dialect", ["longline", "badjson", "contenttype"])
async def test_stream_that_breaks_the_protocol_is_an_error(
    session: HttpClient, provider: Simulator, dialect: str
) -> None:
    error = await error_of(session, provider.base_url, f"sim-n3-sse:{dialect}")
    assert error.reason == "PROVIDER_PROTOCOL"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("endlesscomments", "nothing more"),
        ("endlessevents", "nothing more"),
        # Data is progress, whatever it says: the limit of the whole answer ends it.
        ("endlesspings", "no end"),
    ],
)
async def test_stream_that_only_keeps_the_line_open_is_ended(
    session: HttpClient, provider: Simulator, dialect: str, said: str
) -> None:
    """F-56: comments and events without data are no progress."""
    error = await error_of(session, provider.base_url, f"sim-sse:{dialect}", SHORT)
    assert error.reason == "PROVIDER_TIMEOUT"
    assert said in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", ["truncate5", "reset5", "nodone5", "truncate0"])
async def test_stream_that_breaks_off_never_ends_cleanly(
    session: HttpClient, provider: Simulator, cut: str
) -> None:
    """F-55: no [DONE], FIN or RST."""
    error = await error_of(session, provider.base_url, f"sim-n20-tps1000-{cut}")
    assert error.reason == "PROVIDER_TRUNCATED"


@pytest.mark.asyncio
async def test_error_event_within_a_stream_is_an_error(
    session: HttpClient, provider: Simulator
) -> None:
    error = await error_of(session, provider.base_url, "sim-n20-tps1000-fault5")
    assert error.reason == "PROVIDER_UNAVAILABLE"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "PROVIDER_REJECTED"),
        (401, "PROVIDER_CREDENTIALS"),
        (403, "PROVIDER_CREDENTIALS"),
        (404, "PROVIDER_REJECTED"),
        (422, "PROVIDER_REJECTED"),
        (429, "PROVIDER_RATE_LIMIT"),
        (500, "PROVIDER_UNAVAILABLE"),
        (503, "PROVIDER_UNAVAILABLE"),
        (302, "PROVIDER_UNAVAILABLE"),
    ],
)
async def test_status_becomes_its_reason(
    session: HttpClient, provider: Simulator, status: int, reason: str
) -> None:
    error = await error_of(session, provider.base_url, f"sim-err{status}-retryafter3")
    assert error.reason == reason
    assert error.metadata["status"] == str(status)
    assert KEY not in error.message
    if status in {429, 503}:
        assert error.retry_after_seconds == 3
    if reason == "PROVIDER_REJECTED":
        assert error.message == "simulated failure"
    if reason == "PROVIDER_CREDENTIALS":
        assert "MESHWRIGHT_MODELS__API_KEY" in error.message


@pytest.mark.asyncio
async def test_refused_connection_names_the_setting(session: HttpClient) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    error = await error_of(session, f"http://127.0.0.1:{port}/v1", "sim-n1")
    assert error.reason == "PROVIDER_UNAVAILABLE"
    assert "connection refused" in error.message
    assert "MESHWRIGHT_MODELS__BASE_URL" in error.message


@pytest.mark.asyncio
async def test_unknown_host_names_the_setting(session: HttpClient) -> None:
    error = await error_of(session, "http://no-such-host.invalid/v1", "sim-n1")
    assert error.reason == "PROVIDER_UNAVAILABLE"
    assert "MESHWRIGHT_MODELS__BASE_URL" in error.message


@pytest.mark.asyncio
async def test_connection_closed_without_an_answer_is_unavailable(
    session: HttpClient, provider: Simulator
) -> None:
    error = await error_of(session, provider.base_url, "sim-refuse")
    assert error.reason == "PROVIDER_UNAVAILABLE"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("directive", "limit"),
    [
        ("sim-hang", "no answer"),
        ("sim-n20-stall0", "nothing more"),
        ("sim-n20-tps100-stall5", "nothing more"),
        ("sim-n1000-tps20", "no end of its answer"),
    ],
)
async def test_silence_and_endlessness_are_timeouts(
    session: HttpClient, provider: Simulator, directive: str, limit: str
) -> None:
    """F-54: no first byte, a stall in the stream, an answer that does not end."""
    error = await error_of(session, provider.base_url, directive, SHORT)
    assert error.reason == "PROVIDER_TIMEOUT"
    assert limit in error.message


@pytest.mark.asyncio
async def test_closing_the_stream_closes_the_connection(
    session: HttpClient, provider: Simulator
) -> None:
    """R-14: a caller that leaves stops the generation at the provider."""
    chat = OpenAiChat(session, endpoint(provider.base_url))
    async with aclosing(chat.stream("sim-n5000-tps50", prompt(), seconds_left=None)) as outputs:
        async for output in outputs:
            if isinstance(output, Piece):
                break
        assert provider.counters.open_streams == 1
    await eventually(lambda: provider.counters.abandoned == 1)


@pytest.mark.asyncio
async def test_cancelling_the_reader_closes_the_connection(
    session: HttpClient, provider: Simulator
) -> None:
    chat = OpenAiChat(session, endpoint(provider.base_url))
    started = asyncio.Event()

    async def read() -> None:
        async with aclosing(chat.stream("sim-n5000-tps50", prompt(), seconds_left=None)) as outputs:
            async for _ in outputs:
                started.set()

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        await asyncio.wait_for(started.wait(), 20)
        reading.cancel()
    await eventually(lambda: provider.counters.abandoned == 1)


@pytest.mark.asyncio
async def test_connection_is_used_again(session: HttpClient, provider: Simulator) -> None:
    for _ in range(5):
        await outputs_of(session, provider.base_url, "sim-n3")
    assert session.idle_connections(provider.base_url) == 1
