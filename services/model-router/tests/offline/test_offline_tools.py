"""Tools and the offline model: when it calls them, and what it makes of their results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from meshwright_model_router.domain.conversation import (
    Message,
    Options,
    Prompt,
    Role,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.domain.output import FinishReason

if TYPE_CHECKING:
    from tests.offline.conftest import Offline


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
async def test_question_calls_its_tool(
    offline: Offline, question: str, tool: str, arguments: dict[str, str]
) -> None:
    said = await offline.say(offline.asked(question, tools=offline.TOOLS))
    assert [(call.name, json.loads(call.arguments_json)) for call in said.calls] == [
        (tool, arguments)
    ]
    assert said.text == ""
    assert said.ended is not None
    assert said.ended.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.asyncio
async def test_arguments_come_in_pieces(offline: Offline) -> None:
    said = await offline.say(offline.asked("what is 1 + 1", tools=offline.TOOLS))
    parts = [part for piece in said.pieces for part in piece.tool_calls]
    assert parts[0].name == "calculator"
    assert parts[0].arguments == ""
    assert len(parts) > 2


@pytest.mark.asyncio
@pytest.mark.parametrize("question", ["Hello", "thank you", "你好", "what can you do?"])
async def test_small_talk_calls_nothing(offline: Offline, question: str) -> None:
    assert (await offline.say(offline.asked(question, tools=offline.TOOLS))).calls == ()


@pytest.mark.asyncio
async def test_two_wishes_are_two_calls_at_once_or_one_after_the_other(offline: Offline) -> None:
    question = "compute 3 + 4 and tell me the time in Paris"
    prompt = offline.asked(question, tools=offline.TOOLS)
    assert [call.name for call in (await offline.say(prompt)).calls] == [
        "calculator",
        "current_time",
    ]
    serial = Prompt(prompt.messages, offline.TOOLS, options=Options(parallel_tool_calls=False))
    (first,) = (await offline.say(serial)).calls
    result = Message(Role.TOOL, ('{"expression":"3 + 4","value":"7"}',), tool_call_id=first.id)
    messages = (*prompt.messages, Message(Role.ASSISTANT, (), (first,)), result)
    (second,) = (await offline.say(Prompt(messages, offline.TOOLS, options=serial.options))).calls
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
    offline: Offline, question: str, result: object, expected: str
) -> None:
    assert await offline.answered(question, result) == expected


@pytest.mark.asyncio
async def test_a_sum_is_not_looked_up_in_passages_that_share_its_figures(offline: Offline) -> None:
    passages = "Passages:\n[1] timetable.pdf, page 7\nThe bus leaves at 17:23 from stop 4.\n"
    result = {"expression": "17*23+4", "value": "395"}
    assert await offline.answered("What is 17*23+4?", result, system=passages) == "17*23+4 = 395"


@pytest.mark.asyncio
async def test_page_that_was_fetched_is_quoted_as_text(offline: Offline) -> None:
    page = {
        "url": "https://example.com",
        "status": 200,
        "media_type": "text/html",
        "text": "<html><head><title>Example</title><script>x()</script></head>"
        "<body><p>This domain is for examples.</p><p>More.</p></body></html>",
    }
    plain = await offline.answered("fetch https://example.com", page)
    assert "status 200 - Example" in plain
    assert "This domain is for examples. More." in plain
    assert "x()" not in plain
    asked_for = await offline.answered(
        "fetch https://example.com and say what the domain is for", page
    )
    assert "This domain is for examples." in asked_for
    assert "More." not in asked_for


@pytest.mark.asyncio
async def test_passages_of_a_search_are_quoted(offline: Offline) -> None:
    passage = {"number": 3, "document_name": "a.pdf", "page": 2, "quote": "The sky is blue."}
    text = await offline.answered("What colour is the sky?", {"passages": [passage]})
    assert "“The sky is blue.” [3]" in text


@pytest.mark.asyncio
async def test_result_that_was_cut_is_used_as_far_as_it_goes(offline: Offline) -> None:
    page = json.dumps({"url": "https://example.com", "status": 200, "text": 'The "first" part'})
    text = await offline.answered("fetch https://example.com", {"truncated": page[:-3]})
    assert "status 200" in text
    assert 'The "first" pa' in text


@pytest.mark.asyncio
async def test_forbidden_tools_are_not_called_and_required_ones_are(offline: Offline) -> None:
    prompt = offline.asked("what is 1 + 1", tools=offline.TOOLS)
    never = Prompt(prompt.messages, offline.TOOLS, ToolChoice.NONE)
    assert (await offline.say(never)).calls == ()
    named = Prompt(offline.asked("hi").messages, offline.TOOLS, ToolChoice.REQUIRED, "get_weather")
    assert [call.name for call in (await offline.say(named)).calls] == ["get_weather"]
    harmless = Prompt(offline.asked("hi").messages, offline.TOOLS, ToolChoice.REQUIRED)
    assert [call.name for call in (await offline.say(harmless)).calls] == ["knowledge_search"]
    some = Prompt(prompt.messages, offline.TOOLS, ToolChoice.REQUIRED)
    assert [call.name for call in (await offline.say(some)).calls] == ["calculator"]


@pytest.mark.asyncio
async def test_work_is_handed_to_an_agent_when_the_question_says_so(offline: Offline) -> None:
    team = ToolDefinition(
        "delegate",
        "Let an agent of your team do a part of the work. The agents:\n- rag: Searches.",
        {
            "type": "object",
            "properties": {
                "agent": {"type": "string", "enum": ["rag", "chat"]},
                "message": {"type": "string"},
            },
            "required": ["agent", "message"],
        },
    )
    prompt = offline.asked("Delegate this: what is in the cellar?", tools=[team])
    (call,) = (await offline.say(prompt)).calls
    assert json.loads(call.arguments_json) == {
        "agent": "rag",
        "message": "Delegate this: what is in the cellar?",
    }
    result = Message(Role.TOOL, ('{"agent": "rag", "answer": "Wine [1]."}',), tool_call_id=call.id)
    answered = (*prompt.messages, Message(Role.ASSISTANT, (), (call,)), result)
    assert (await offline.say(Prompt(answered, (team,)))).text == "Wine [1]."
