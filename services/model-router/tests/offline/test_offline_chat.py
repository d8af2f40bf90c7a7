"""The offline model as a caller sees it: answers, tools, forms of output, limits."""

import json
import re
from collections.abc import Sequence

import pytest

from meshwright_common.errors import ServiceError
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
from meshwright_model_router.domain.output import Ended, FinishReason, Opened, Piece
from meshwright_model_router.domain.tally import Tally
from meshwright_model_router.providers.offline.chat import OfflineChat


def text_schema(*names: str, required: bool = True) -> JsonObject:
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names) if required else [],
    }


CALCULATOR = ToolDefinition("calculator", "Compute.", text_schema("expression"))
CLOCK = ToolDefinition("current_time", "Tell the time.", text_schema("zone", required=False))
HTTP_GET = ToolDefinition("http_get", "Fetch an address.", text_schema("url"))
SEARCH = ToolDefinition("knowledge_search", "Find passages.", text_schema("query"))
WEATHER = ToolDefinition(
    "get_weather",
    "Get the weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
    },
)
TOOLS = (CALCULATOR, CLOCK, HTTP_GET, SEARCH, WEATHER)
PASSAGES = """You answer from passages.

Passages:
[1] handbook.pdf, page 7
Every employee gets thirty days of paid vacation a year. Unused days expire in March.

[2] notes.md
The office is in Berlin.
"""


class Said:
    """What the model said to a prompt."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.pieces: list[Piece] = []
        self.ended: Ended | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return self.tally.tool_calls


async def say(prompt: Prompt) -> Said:
    said = Said()
    outputs = [
        output async for output in OfflineChat().stream("offline", prompt, seconds_left=None)
    ]
    assert outputs[0] == Opened("offline")
    for output in outputs[1:-1]:
        assert isinstance(output, Piece)
        said.tally.add(output)
        said.pieces.append(output)
    assert isinstance(outputs[-1], Ended)
    said.ended = outputs[-1]
    return said


def user(text: str) -> Message:
    return Message(Role.USER, (text,))


def asked(*texts: str, tools: Sequence[ToolDefinition] = (), system: str = "") -> Prompt:
    """Return a conversation in which the model answered "ok" so far."""
    messages = [Message(Role.SYSTEM, (system,))] if system else []
    for text in texts[:-1]:
        messages += [user(text), Message(Role.ASSISTANT, ("ok",))]
    return Prompt((*messages, user(texts[-1])), tuple(tools))


async def answered(
    question: str, result: object, *, tools: Sequence[ToolDefinition] = TOOLS
) -> str:
    """Return the answer after the tool that the question calls has returned `result`."""
    prompt = asked(question, tools=tools)
    calls = (await say(prompt)).calls
    results = tuple(
        Message(Role.TOOL, (json.dumps(result),), tool_call_id=call.id) for call in calls
    )
    again = Prompt((*prompt.messages, Message(Role.ASSISTANT, (), calls), *results), tuple(tools))
    said = await say(again)
    assert said.calls == ()
    return said.text


@pytest.mark.asyncio
async def test_greeting_says_what_it_is_and_what_to_configure() -> None:
    said = await say(asked("Hello"))
    for expected in ("offline model", "no key", "MESHWRIGHT_MODELS__BASE_URL", "meshwright ingest"):
        assert expected in said.text
    assert "不需要密钥" in (await say(asked("你好"))).text


@pytest.mark.asyncio
async def test_only_what_is_offered_is_promised() -> None:
    assert "compute" in (await say(asked("Hello", tools=[CALCULATOR]))).text
    assert "compute" not in (await say(asked("Hello"))).text


@pytest.mark.asyncio
async def test_words_come_one_by_one() -> None:
    said = await say(asked("Hello"))
    assert len(said.pieces) > 20
    assert all(len(piece.text.split()) <= 1 for piece in said.pieces)
    assert said.ended is not None
    assert said.ended.usage is not None
    assert said.ended.usage.completion_tokens == said.tally.tokens()


@pytest.mark.asyncio
async def test_same_prompt_has_the_same_answer() -> None:
    prompt = asked("what is 1 + 1", tools=TOOLS)
    assert (await say(prompt)).calls == (await say(prompt)).calls


@pytest.mark.asyncio
async def test_answer_quotes_the_passage_with_its_number_and_page() -> None:
    said = await say(asked("How many days of vacation do employees get?", system=PASSAGES))
    assert "“Every employee gets thirty days of paid vacation a year.” [1]" in said.text
    assert "handbook.pdf, page 7" in said.text
    assert "[2]" not in said.text


@pytest.mark.asyncio
async def test_chinese_question_gets_a_chinese_answer() -> None:
    system = "Passages:\n[1] 手册.pdf, page 3\n员工每年享有十五天带薪年假。\n"
    said = await say(asked("员工每年有多少天年假？", system=system))
    assert said.text.startswith("根据《手册.pdf》第 3 页：“员工每年享有十五天带薪年假。” [1]")


@pytest.mark.asyncio
async def test_passages_that_do_not_answer_are_not_passed_off_as_an_answer() -> None:
    said = await say(asked("Who won the world cup?", system=PASSAGES))
    assert "[1]" not in said.text
    assert "do not answer" in said.text
    nothing = await say(asked("Who won the world cup?", system="Passages:\n"))
    assert "found nothing" in nothing.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "tool", "arguments"),
    [
        ("what is 17.5% of 2,480", "calculator", {"expression": "17.5 / 100 * 2480"}),
        ("计算 3 加 5", "calculator", {"expression": "3 + 5"}),
        ("What time is it in Tokyo?", "current_time", {"zone": "Asia/Tokyo"}),
        ("上海现在几点？", "current_time", {"zone": "Asia/Shanghai"}),
        ("What is today's date?", "current_time", {}),
        ("what time is it in America/New_York", "current_time", {"zone": "America/New_York"}),
        ("fetch https://example.com.", "http_get", {"url": "https://example.com"}),
        ("打开 https://example.com/a，看看", "http_get", {"url": "https://example.com/a"}),
        ("https://example.com", "http_get", {"url": "https://example.com"}),
        ("please fetch example.com", "http_get", {"url": "https://example.com"}),
        (
            "What does the handbook say?",
            "knowledge_search",
            {"query": "What does the handbook say?"},
        ),
        (
            "What's the weather in New York in fahrenheit?",
            "get_weather",
            {"city": "New York", "unit": "fahrenheit"},
        ),
    ],
)
async def test_question_calls_its_tool(question: str, tool: str, arguments: dict[str, str]) -> None:
    said = await say(asked(question, tools=TOOLS))
    assert [(call.name, json.loads(call.arguments_json)) for call in said.calls] == [
        (tool, arguments)
    ]
    assert said.text == ""
    assert said.ended is not None
    assert said.ended.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.asyncio
async def test_arguments_come_in_pieces() -> None:
    said = await say(asked("what is 1 + 1", tools=TOOLS))
    parts = [part for piece in said.pieces for part in piece.tool_calls]
    assert parts[0].name == "calculator"
    assert parts[0].arguments == ""
    assert len(parts) > 2


@pytest.mark.asyncio
@pytest.mark.parametrize("question", ["Hello", "thank you", "你好", "what can you do?"])
async def test_small_talk_calls_nothing(question: str) -> None:
    assert (await say(asked(question, tools=TOOLS))).calls == ()


@pytest.mark.asyncio
async def test_two_wishes_are_two_calls_at_once_or_one_after_the_other() -> None:
    question = "compute 3 + 4 and tell me the time in Paris"
    prompt = asked(question, tools=TOOLS)
    assert [call.name for call in (await say(prompt)).calls] == ["calculator", "current_time"]
    serial = Prompt(prompt.messages, TOOLS, options=Options(parallel_tool_calls=False))
    (first,) = (await say(serial)).calls
    result = Message(Role.TOOL, ('{"expression":"3 + 4","value":"7"}',), tool_call_id=first.id)
    messages = (*prompt.messages, Message(Role.ASSISTANT, (), (first,)), result)
    (second,) = (await say(Prompt(messages, TOOLS, options=serial.options))).calls
    assert second.name == "current_time"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "result", "expected"),
    [
        (
            "what is 17.5% of 2,480?",
            {"expression": "17.5 / 100 * 2480", "value": "434"},
            "17.5% of 2,480 is 434.",
        ),
        ("12*(3+4)", {"expression": "12*(3+4)", "value": "84"}, "12*(3+4) = 84"),
        ("计算 3 加 5", {"expression": "3 + 5", "value": "8"}, "3 加 5 等于 8。"),
        (
            "What time is it in Tokyo?",
            {"zone": "Asia/Tokyo", "time": "2026-11-20T22:10:00+09:00", "weekday": "Friday"},
            "In Asia/Tokyo it is 22:10:00 on Friday, 20 November 2026 (UTC+09:00).",
        ),
        (
            "上海现在几点？",
            {"zone": "Asia/Shanghai", "time": "2026-11-20T22:10:00+08:00"},
            "Asia/Shanghai 现在是 2026年11月20日 星期五 22:10:00（UTC+08:00）。",
        ),
        (
            "1/0",
            {"error": {"message": "division by zero"}},
            "The tool calculator failed: division by zero",
        ),
        (
            "What's the weather in Paris?",
            {"temperature_c": 21, "rain": False},
            "get_weather says: temperature c: 21, rain: no",
        ),
        ("What's the weather in Paris?", "sunny", "get_weather says: sunny"),
    ],
)
async def test_result_of_a_tool_becomes_a_sentence(
    question: str, result: object, expected: str
) -> None:
    assert await answered(question, result) == expected


@pytest.mark.asyncio
async def test_page_that_was_fetched_is_quoted_as_text() -> None:
    page = {
        "url": "https://example.com",
        "status": 200,
        "media_type": "text/html",
        "text": "<html><head><title>Example</title><script>x()</script></head>"
        "<body><p>This domain is for examples.</p><p>More.</p></body></html>",
    }
    plain = await answered("fetch https://example.com", page)
    assert "status 200 - Example" in plain
    assert "This domain is for examples. More." in plain
    assert "x()" not in plain
    asked_for = await answered("fetch https://example.com and say what the domain is for", page)
    assert "This domain is for examples." in asked_for
    assert "More." not in asked_for


@pytest.mark.asyncio
async def test_passages_of_a_search_are_quoted() -> None:
    passage = {"number": 3, "document_name": "a.pdf", "page": 2, "quote": "The sky is blue."}
    text = await answered("What colour is the sky?", {"passages": [passage]})
    assert "“The sky is blue.” [3]" in text


@pytest.mark.asyncio
async def test_result_that_was_cut_is_used_as_far_as_it_goes() -> None:
    page = json.dumps({"url": "https://example.com", "status": 200, "text": 'The "first" part'})
    text = await answered("fetch https://example.com", {"truncated": page[:-3]})
    assert "status 200" in text
    assert 'The "first" pa' in text


@pytest.mark.asyncio
async def test_numbers_inside_a_quote_cite_nothing() -> None:
    """Whoever reads [7] in an answer takes it for a passage."""
    system = "Passages:\n[1] copy[2].pdf\nThe sky is blue, as Murdock [7] and others [3, 4] say.\n"
    said = await say(asked("What colour is the sky?", system=system))
    assert re.findall(r"\[[^\]]*\]", said.text) == ["[1]"]


@pytest.mark.asyncio
async def test_search_that_found_nothing_is_said() -> None:
    system = "Be nice.\n\nNo passage of the user's documents fits the question. Answer anyway."
    said = await say(asked("Who won the world cup?", tools=TOOLS, system=system))
    assert said.calls == ()
    assert "found nothing" in said.text
    remembered = asked("My name is Ada.", "What is my name?", system=system)
    assert "My name is Ada" in (await say(remembered)).text


@pytest.mark.asyncio
async def test_forbidden_tools_are_not_called_and_required_ones_are() -> None:
    prompt = asked("what is 1 + 1", tools=TOOLS)
    never = Prompt(prompt.messages, TOOLS, ToolChoice.NONE)
    assert (await say(never)).calls == ()
    named = Prompt(asked("hi").messages, TOOLS, ToolChoice.REQUIRED, "get_weather")
    assert [call.name for call in (await say(named)).calls] == ["get_weather"]
    harmless = Prompt(asked("hi").messages, TOOLS, ToolChoice.REQUIRED)
    assert [call.name for call in (await say(harmless)).calls] == ["knowledge_search"]
    some = Prompt(prompt.messages, TOOLS, ToolChoice.REQUIRED)
    assert [call.name for call in (await say(some)).calls] == ["calculator"]


@pytest.mark.asyncio
async def test_what_was_said_before_is_remembered() -> None:
    said = await say(asked("My name is Ada and I live in Oslo.", "What is my name?"))
    assert "My name is Ada" in said.text


@pytest.mark.asyncio
async def test_json_modes_give_json() -> None:
    messages = asked("Berlin has 3.7 million people").messages
    free = await say(Prompt(messages, output_format=OutputFormat.JSON_OBJECT))
    assert set(json.loads(free.text)) == {"answer"}
    schema: JsonObject = {
        "type": "object",
        "properties": {
            "count": {"type": "number"},
            "kind": {"enum": ["village", "city"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "known": {"type": "boolean"},
            "optional": {"type": "string"},
        },
        "required": ["count", "kind", "tags", "known"],
    }
    fitted = await say(
        Prompt(messages, output_format=OutputFormat.JSON_SCHEMA, output_schema=schema)
    )
    assert json.loads(fitted.text) == {
        "count": 3.7,
        "kind": "village",
        "tags": [],
        "known": False,
    }


@pytest.mark.asyncio
async def test_limits_of_output_are_kept() -> None:
    messages = asked("Hello").messages
    short = await say(Prompt(messages, options=Options(max_output_tokens=5)))
    assert short.ended is not None
    assert short.ended.finish_reason is FinishReason.LENGTH
    assert 0 < short.tally.tokens() <= 5
    stopped = await say(Prompt(messages, options=Options(stop_sequences=("offline",))))
    assert stopped.text.endswith("built-in ")
    assert stopped.ended is not None
    assert stopped.ended.finish_reason is FinishReason.STOP


@pytest.mark.asyncio
async def test_images_are_admitted_not_to_be_seen() -> None:
    message = Message(Role.USER, ("What is this?", Image(url="https://example.com/a.png")))
    assert "cannot see images" in (await say(Prompt((message,)))).text


@pytest.mark.asyncio
async def test_conversation_over_the_window_is_refused() -> None:
    with pytest.raises(ServiceError) as raised:
        await say(asked("x" * 1_100_000))
    assert raised.value.reason == "CONTEXT_LENGTH_EXCEEDED"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "messages",
    [
        (Message(Role.SYSTEM, ("Be nice.",)),),
        (Message(Role.ASSISTANT, ("I begin.",)),),
        (user("?"),),
        (user(" "),),
        (user("\n" * 1000),),
        (user("[1] [2] Passages:"), Message(Role.TOOL, ("{}",), tool_call_id="unknown")),
    ],
)
async def test_odd_conversations_are_answered(messages: tuple[Message, ...]) -> None:
    assert (await say(Prompt(messages, TOOLS))).pieces
