"""The Anthropic provider against the simulated one: healthy, damaged and refusing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from bench.simulator_state import Simulator
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.domain.conversation import (
    Message,
    Options,
    Prompt,
    Role,
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
from meshwright_model_router.providers.anthropic_chat import AnthropicChat
from meshwright_model_router.providers.building import endpoint_for
from meshwright_model_router.providers.endpoint import Endpoint, Timeouts
from meshwright_model_router.providers.http import HttpClient, open_session

KEY = "sk-ant-simulated-000000"
USUAL = Timeouts()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with open_session(100) as opened:
        yield opened


def chat(
    client: HttpClient, provider: Simulator, timeouts: Timeouts | None = None
) -> AnthropicChat:
    endpoint = Endpoint("claude", provider.base_url, KEY, timeouts=timeouts or Timeouts())
    return AnthropicChat(client, endpoint_for("anthropic", endpoint))


async def outputs_of(
    provider: AnthropicChat, directive: str, *tools: ToolDefinition, options: Options | None = None
) -> list[ProviderOutput]:
    said = Message(Role.USER, (directive,))
    prompt = Prompt((said,), tools, options=options or Options())
    stream = provider.stream("claude-opus-4-7", prompt, seconds_left=None)
    async with aclosing(stream) as outputs:
        return [output async for output in outputs]


async def error_of(provider: AnthropicChat, directive: str) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await outputs_of(provider, directive)
    return raised.value


def text_of(outputs: list[ProviderOutput]) -> str:
    return "".join(output.text for output in outputs if isinstance(output, Piece))


def end_of(outputs: list[ProviderOutput]) -> Ended:
    ended = outputs[-1]
    assert isinstance(ended, Ended)
    return ended


@pytest.mark.asyncio
@pytest.mark.parametrize("directive", ["sim-n3", "sim-think2-say:6869", "sim-tool:f-calls2"])
async def test_simulator_speaks_as_the_official_client_hears(
    provider: Simulator, directive: str
) -> None:
    """What the tests below stand on."""
    address = provider.base_url.removesuffix("/v1")
    said: MessageParam = {"role": "user", "content": directive}
    async with (
        AsyncAnthropic(api_key=KEY, base_url=address, max_retries=0) as official,
        official.messages.stream(
            model="claude-opus-4-7", max_tokens=100, messages=[said]
        ) as stream,
    ):
        message = await stream.get_final_message()
    assert message.stop_reason in {"end_turn", "tool_use"}
    assert message.content
    assert message.usage.output_tokens > 0


@pytest.mark.asyncio
async def test_text_and_thinking_with_their_count(client: HttpClient, provider: Simulator) -> None:
    text = "Hello world"
    directive = f"sim-think2-cached9-say:{text.encode().hex()}"
    outputs = await outputs_of(chat(client, provider), directive)
    opened = outputs[0]
    assert isinstance(opened, Opened)
    assert opened.model == "claude-opus-4-7"
    assert text_of(outputs) == text
    thoughts = [output.reasoning for output in outputs if isinstance(output, Piece)]
    assert "".join(thoughts) == "thought 0 thought 1 "
    ended = end_of(outputs)
    assert ended.finish_reason is FinishReason.STOP
    assert ended.usage is not None
    assert ended.usage.cached_tokens == 9
    assert ended.usage.prompt_tokens > 9
    assert ended.usage.completion_tokens == 5


@pytest.mark.asyncio
async def test_request_carries_key_version_and_limit(
    client: HttpClient, provider: Simulator
) -> None:
    await outputs_of(chat(client, provider), "sim-n1")
    request = provider.requests[-1]
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert json.loads(request.body)["max_tokens"] == 8192


@pytest.mark.asyncio
async def test_limit_of_the_caller_ends_the_answer(client: HttpClient, provider: Simulator) -> None:
    options = Options(max_output_tokens=5)
    outputs = await outputs_of(chat(client, provider), "sim-n50", options=options)
    assert end_of(outputs).finish_reason is FinishReason.LENGTH


@pytest.mark.asyncio
async def test_calls_of_tools(client: HttpClient, provider: Simulator) -> None:
    arguments = b'{"expression": "1+1"}'.hex()
    outputs = await outputs_of(
        chat(client, provider),
        f"sim-tool:math_calculator-args:{arguments}-calls2",
        ToolDefinition("math.calculator"),
    )
    parts = [part for output in outputs if isinstance(output, Piece) for part in output.tool_calls]
    assert [part.name for part in parts if part.name] == ["math.calculator"] * 2
    for index in range(2):
        written = "".join(part.arguments for part in parts if part.index == index)
        assert json.loads(written) == {"expression": "1+1"}
    assert end_of(outputs).finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("refusal", FinishReason.CONTENT_FILTER),
        ("pause_turn", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("stop_sequence", FinishReason.STOP),
    ],
)
async def test_stop_reasons(
    client: HttpClient, provider: Simulator, stop: str, expected: FinishReason
) -> None:
    outputs = await outputs_of(chat(client, provider), f"sim-n2-stop:{stop}")
    assert end_of(outputs).finish_reason is expected


@pytest.mark.asyncio
@pytest.mark.parametrize("dialect", ["crlf", "bytes1", "comments", "bom", "fields", "gzip"])
async def test_unusual_stream_is_read(
    client: HttpClient, provider: Simulator, dialect: str
) -> None:
    """F-56."""
    outputs = await outputs_of(chat(client, provider), f"sim-n3-sse:{dialect}")
    assert len(text_of(outputs)) == 30
    assert isinstance(outputs[-1], Ended)


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", ["truncate5", "reset5", "nodone5"])
async def test_stream_that_breaks_off_never_ends_cleanly(
    client: HttpClient, provider: Simulator, cut: str
) -> None:
    """F-55."""
    error = await error_of(chat(client, provider), f"sim-n20-tps1000-{cut}")
    assert error.reason == "PROVIDER_TRUNCATED"


@pytest.mark.asyncio
async def test_broken_stream_has_the_count_of_its_prompt(
    client: HttpClient, provider: Simulator
) -> None:
    prompt = Prompt((Message(Role.USER, ("sim-n20-tps1000-truncate5",)),))
    stream = chat(client, provider).stream("claude-x", prompt, seconds_left=None)
    seen: list[ReportedUsage | None] = []

    async def read() -> None:
        async for output in stream:
            usage = None if isinstance(output, Ended) else output.usage
            seen.append(usage)

    with pytest.raises(ServiceError):
        await read()
    assert seen
    # Its first count of the output says nothing, so there is none.
    assert set(seen) == {ReportedUsage(6, 0)}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("sim-err400", "PROVIDER_REJECTED"),
        ("sim-err401", "PROVIDER_CREDENTIALS"),
        ("sim-err404", "PROVIDER_REJECTED"),
        ("sim-err413", "PROVIDER_REJECTED"),
        ("sim-err429-retryafter3", "PROVIDER_RATE_LIMIT"),
        ("sim-err500", "PROVIDER_UNAVAILABLE"),
        ("sim-err529", "PROVIDER_UNAVAILABLE"),
        ("sim-n20-tps1000-fault5", "PROVIDER_UNAVAILABLE"),
        ("sim-n3-sse:badjson", "PROVIDER_PROTOCOL"),
        ("sim-n3-sse:contenttype", "PROVIDER_PROTOCOL"),
    ],
)
async def test_failure_becomes_its_reason(
    client: HttpClient, provider: Simulator, directive: str, reason: str
) -> None:
    error = await error_of(chat(client, provider), directive)
    assert error.reason == reason
    assert KEY not in str(error)
    if "retryafter" in directive:
        assert error.retry_after_seconds == 3


@pytest.mark.asyncio
async def test_silence_ends_by_its_limit(client: HttpClient, provider: Simulator) -> None:
    short = Timeouts(connect=0.5, first_byte=0.3, idle=0.2, total=2.0)
    error = await error_of(chat(client, provider, short), "sim-n20-tps1000-stall3")
    assert error.reason == "PROVIDER_TIMEOUT"


@pytest.mark.asyncio
async def test_who_leaves_stops_the_provider(client: HttpClient, provider: Simulator) -> None:
    prompt = Prompt((Message(Role.USER, ("sim-n10000-tps100",)),))
    stream = chat(client, provider).stream("claude-x", prompt, seconds_left=None)
    async with asyncio.timeout(20):
        async with aclosing(stream):
            await anext(stream)
            await anext(stream)

    async def stopped() -> bool:
        return provider.counters.open_streams == 0

    await eventually(stopped)
    assert provider.counters.abandoned == 1
