"""The simulated provider speaks OpenAI's API and fails exactly as it is told."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, RateLimitError

from bench.directives import ReplyPlan
from bench.openai_wire import sent_times, stamp
from bench.simulator_state import Simulator

pytestmark = pytest.mark.asyncio
LIMIT_SECONDS = 5.0


@pytest_asyncio.fixture
async def http(provider: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=LIMIT_SECONDS)
    root = provider.base_url.removesuffix("v1")
    async with aiohttp.ClientSession(root, timeout=timeout, auto_decompress=False) as session:
        yield session


@pytest_asyncio.fixture
async def openai(provider: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=provider.base_url, api_key="sk-sim", max_retries=0, timeout=LIMIT_SECONDS
    ) as client:
        yield client


def _body(prompt: str, *, stream: bool = True) -> dict[str, object]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "sim", "messages": messages, "stream": stream}


async def _counters(http: aiohttp.ClientSession) -> dict[str, int]:
    async with http.get("simulator/counters") as answer:
        return msgspec.json.decode(await answer.read(), type=dict[str, int])


async def _read_all(answer: aiohttp.ClientResponse, received: list[bytes]) -> None:
    while data := await answer.content.readany():
        received.append(data)


async def _read(http: aiohttp.ClientSession, prompt: str) -> bytes:
    async with http.post("v1/chat/completions", json=_body(prompt)) as answer:
        return await answer.read()


async def test_official_client_reads_a_stream_with_usage(openai: AsyncOpenAI) -> None:
    text, usage = "", None
    stream = await openai.chat.completions.create(
        model="sim-n7",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )

    async for chunk in stream:
        usage = chunk.usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)

    assert len(sent_times(text.encode())) == 7
    assert usage is not None
    assert usage.completion_tokens == 7


async def test_official_client_reads_an_answer(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="sim",
        messages=[{"role": "user", "content": ReplyPlan(text="Hello 你好!").directive()}],
    )

    assert answer.choices[0].message.content == "Hello 你好!"
    assert answer.choices[0].finish_reason == "stop"


async def test_max_tokens_ends_the_answer_with_length(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="sim-n50", messages=[{"role": "user", "content": "hello"}], max_tokens=3
    )

    assert answer.choices[0].finish_reason == "length"
    assert len(sent_times((answer.choices[0].message.content or "").encode())) == 3


async def test_tool_is_asked_for_until_its_result_is_there(openai: AsyncOpenAI) -> None:
    plan = ReplyPlan(tool="calculator", arguments='{"expression":"1+1"}', calls=2, text="It is 2.")
    question = {"role": "user", "content": plan.directive()}

    first = await openai.chat.completions.create(
        model="sim",
        messages=[question],  # type: ignore[list-item]  # a plain dict is what it takes
    )
    calls = first.choices[0].message.tool_calls or []
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "2"}
    second = await openai.chat.completions.create(
        model="sim",
        messages=[question, first.choices[0].message, result],  # type: ignore[list-item]
    )

    assert len(calls) == 2
    assert calls[0].type == "function"
    assert calls[0].function.name == "calculator"
    assert calls[0].function.arguments == '{"expression":"1+1"}'
    assert second.choices[0].message.content == "It is 2."


async def test_streamed_tool_call_has_name_first_and_arguments_in_pieces(
    openai: AsyncOpenAI,
) -> None:
    plan = ReplyPlan(tool="clock", arguments='{"zone":"UTC"}')
    name, arguments = "", ""

    stream = await openai.chat.completions.create(
        model=plan.directive(), messages=[{"role": "user", "content": "time?"}], stream=True
    )
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""

    assert (name, arguments) == ("clock", '{"zone":"UTC"}')


async def test_embeddings_have_unit_length_and_similar_texts_are_near(
    openai: AsyncOpenAI,
) -> None:
    answer = await openai.embeddings.create(
        model="sim-dim64", input=["red apple pie", "red apple cake", "volcano"]
    )

    pie, cake, volcano = (item.embedding for item in answer.data)
    assert len(pie) == 64
    assert sum(value * value for value in pie) == pytest.approx(1.0, abs=1e-5)
    near = sum(a * b for a, b in zip(pie, cake, strict=True))
    far = sum(a * b for a, b in zip(pie, volcano, strict=True))
    assert near > 0.5 > far


async def test_models_are_listed(openai: AsyncOpenAI) -> None:
    models = await openai.models.list()

    assert [model.id for model in models.data] == ["sim"]


async def test_pace_and_first_token_delay_are_kept(http: aiohttp.ClientSession) -> None:
    asked = stamp()
    body = await _read(http, "sim-ttft50-tps100-n6")

    times = sent_times(body)
    assert len(times) == 6
    assert times[0] - asked >= 49_000
    assert times[-1] - times[0] >= 49_000


async def test_burst_leaves_at_once(http: aiohttp.ClientSession) -> None:
    times = sent_times(await _read(http, "sim-tps100-n6-burst3"))

    assert times[0] == times[2]
    assert times[3] - times[0] >= 29_000


async def test_failures_end_after_the_number_asked_for(openai: AsyncOpenAI) -> None:
    messages = [{"role": "user", "content": "sim-err429-retryafter3-fails1-n2"}]

    with pytest.raises(RateLimitError) as refused:
        await openai.chat.completions.create(model="sim", messages=messages)  # type: ignore[arg-type]
    answer = await openai.chat.completions.create(model="sim", messages=messages)  # type: ignore[arg-type]

    assert refused.value.response.headers["retry-after"] == "3"
    assert refused.value.type == "rate_limit_exceeded"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


async def test_misspelt_directive_is_refused_by_name(http: aiohttp.ClientSession) -> None:
    async with http.post("v1/chat/completions", json=_body("sim-n3-speling2")) as answer:
        body = await answer.text()

    assert answer.status == 400
    assert "speling2" in body


@pytest.mark.parametrize("cut", ["truncate2", "reset2"])
async def test_cut_stream_ends_without_its_end(http: aiohttp.ClientSession, cut: str) -> None:
    received: list[bytes] = []
    async with http.post("v1/chat/completions", json=_body(f"sim-n9-{cut}")) as answer:
        with pytest.raises(aiohttp.ClientError):
            await _read_all(answer, received)

    body = b"".join(received)
    assert len(sent_times(body)) == 2
    assert b"[DONE]" not in body


async def test_stream_may_end_properly_without_done(http: aiohttp.ClientSession) -> None:
    body = await _read(http, "sim-n9-nodone2")

    assert len(sent_times(body)) == 2
    assert b"[DONE]" not in body


async def test_error_event_comes_after_the_tokens(http: aiohttp.ClientSession) -> None:
    body = await _read(http, "sim-n9-fault2")

    assert len(sent_times(body)) == 2
    assert b'data: {"error":{' in body


async def test_stalled_stream_counts_as_abandoned_when_its_reader_leaves(
    http: aiohttp.ClientSession, provider: Simulator
) -> None:
    async with http.post("v1/chat/completions", json=_body("sim-n9-stall2")) as answer:
        received = b""
        while len(sent_times(received)) < 2:
            received += await answer.content.readany()
        assert provider.counters.open_streams == 1
        answer.close()

    async with asyncio.timeout(LIMIT_SECONDS):
        while (counters := await _counters(http))["open_streams"]:
            pass
    assert (counters["abandoned"], counters["tokens"]) == (1, 2)


async def test_hanging_request_is_never_answered(http: aiohttp.ClientSession) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await _read(http, "sim-hang")


async def test_refused_request_gets_no_answer(http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await _read(http, "sim-refuse")


async def test_requests_are_recorded_with_their_headers(
    openai: AsyncOpenAI, provider: Simulator
) -> None:
    await openai.embeddings.create(model="sim", input="secret canary")

    (request,) = provider.requests
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == "Bearer sk-sim"
    assert "secret canary" in request.body


@pytest.mark.parametrize("usage", ["missing", "negative", "absurd", "text"])
async def test_usage_may_be_missing_or_a_lie(http: aiohttp.ClientSession, usage: str) -> None:
    body = _body(f"sim-n3-usage:{usage}", stream=False)
    async with http.post("v1/chat/completions", json=body) as answer:
        found = (await answer.json()).get("usage", {})

    expected = {"missing": None, "negative": -5, "absurd": 10**15, "text": "many"}
    assert found.get("completion_tokens") == expected[usage]


@pytest.mark.parametrize("dialect", ["crlf", "bytes1", "multiline", "comments", "bom", "fields"])
async def test_unusual_but_legal_stream_holds_all_tokens(
    http: aiohttp.ClientSession, dialect: str
) -> None:
    body = await _read(http, f"sim-n3-sse:{dialect}")

    assert len(sent_times(body)) == 3
    assert b"data: [DONE]" in body


@pytest.mark.parametrize(
    ("dialect", "mark"),
    [
        ("badjson", b'{"delta":\n\n'),
        ("doubledone", b"[DONE]\n\ndata: [DONE]"),
        ("afterdone", b"too late"),
        ("badutf8", b"\xff\xfe"),
        ("surrogate", b"\\ud83d"),
        ("split", "你好".encode()),
        ("gzip", b"\x1f\x8b"),
    ],
)
async def test_damaged_stream_holds_its_damage(
    http: aiohttp.ClientSession, dialect: str, mark: bytes
) -> None:
    assert mark in await _read(http, f"sim-n3-sse:{dialect}")


async def test_long_line_is_longer_than_any_sane_limit(http: aiohttp.ClientSession) -> None:
    body = await _read(http, "sim-n3-sse:longline")

    assert max(len(line) for line in body.split(b"\n")) > 10_000_000


async def test_wrong_content_type_is_sent(http: aiohttp.ClientSession) -> None:
    async with http.post("v1/chat/completions", json=_body("sim-sse:contenttype")) as answer:
        assert answer.content_type == "text/html"
