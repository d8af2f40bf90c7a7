"""The offline model as a caller sees it: answers, forms of output, limits."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

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
)
from meshwright_model_router.domain.output import FinishReason

if TYPE_CHECKING:
    from tests.offline.conftest import Offline


@pytest.mark.asyncio
async def test_greeting_says_what_it_is_and_what_to_configure(offline: Offline) -> None:
    said = await offline.say(offline.asked("Hello"))
    for expected in ("offline model", "no key", "MESHWRIGHT_MODELS__BASE_URL", "meshwright ingest"):
        assert expected in said.text
    assert "不需要密钥" in (await offline.say(offline.asked("你好"))).text


@pytest.mark.asyncio
async def test_only_what_is_offered_is_promised(offline: Offline) -> None:
    assert "compute" in (await offline.say(offline.asked("Hello", tools=offline.TOOLS[:1]))).text
    assert "compute" not in (await offline.say(offline.asked("Hello"))).text


@pytest.mark.asyncio
async def test_words_come_one_by_one(offline: Offline) -> None:
    said = await offline.say(offline.asked("Hello"))
    assert len(said.pieces) > 20
    assert all(len(piece.text.split()) <= 1 for piece in said.pieces)
    assert said.ended is not None
    assert said.ended.usage is not None
    assert said.ended.usage.completion_tokens == said.tally.tokens()


@pytest.mark.asyncio
async def test_same_prompt_has_the_same_answer(offline: Offline) -> None:
    prompt = offline.asked("what is 1 + 1", tools=offline.TOOLS)
    assert (await offline.say(prompt)).calls == (await offline.say(prompt)).calls


@pytest.mark.asyncio
async def test_answer_quotes_the_passage_with_its_number_and_page(offline: Offline) -> None:
    said = await offline.say(
        offline.asked("How many days of vacation do employees get?", system=offline.PASSAGES)
    )
    assert "“Every employee gets thirty days of paid vacation a year.” [1]" in said.text
    assert "handbook.pdf, page 7" in said.text
    assert "[2]" not in said.text


@pytest.mark.asyncio
async def test_chinese_question_gets_a_chinese_answer(offline: Offline) -> None:
    system = "Passages:\n[1] 手册.pdf, page 3\n员工每年享有十五天带薪年假。\n"
    said = await offline.say(offline.asked("员工每年有多少天年假？", system=system))
    assert said.text.startswith("根据《手册.pdf》第 3 页：“员工每年享有十五天带薪年假。” [1]")


@pytest.mark.asyncio
async def test_passages_that_do_not_answer_are_not_passed_off_as_an_answer(
    offline: Offline,
) -> None:
    said = await offline.say(offline.asked("Who won the world cup?", system=offline.PASSAGES))
    assert "[1]" not in said.text
    assert "do not answer" in said.text
    nothing = await offline.say(offline.asked("Who won the world cup?", system="Passages:\n"))
    assert "found nothing" in nothing.text


@pytest.mark.asyncio
async def test_numbers_inside_a_quote_cite_nothing(offline: Offline) -> None:
    """Whoever reads [7] in an answer takes it for a passage."""
    system = "Passages:\n[1] copy[2].pdf\nThe sky is blue, as Murdock [7] and others [3, 4] say.\n"
    said = await offline.say(offline.asked("What colour is the sky?", system=system))
    assert re.findall(r"\[[^\]]*\]", said.text) == ["[1]"]


@pytest.mark.asyncio
async def test_search_that_found_nothing_is_said(offline: Offline) -> None:
    system = "Be nice.\n\nNo passage of the user's documents fits the question. Answer anyway."
    said = await offline.say(
        offline.asked("Who won the world cup?", tools=offline.TOOLS, system=system)
    )
    assert said.calls == ()
    assert "found nothing" in said.text
    remembered = offline.asked("My name is Ada.", "What is my name?", system=system)
    assert "My name is Ada" in (await offline.say(remembered)).text


@pytest.mark.asyncio
async def test_what_was_said_before_is_remembered(offline: Offline) -> None:
    said = await offline.say(
        offline.asked("My name is Ada and I live in Oslo.", "What is my name?")
    )
    assert "My name is Ada" in said.text


@pytest.mark.asyncio
async def test_json_modes_give_json(offline: Offline) -> None:
    messages = offline.asked("Berlin has 3.7 million people").messages
    free = await offline.say(Prompt(messages, output_format=OutputFormat.JSON_OBJECT))
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
    fitted = await offline.say(
        Prompt(messages, output_format=OutputFormat.JSON_SCHEMA, output_schema=schema)
    )
    assert json.loads(fitted.text) == {
        "count": 3.7,
        "kind": "village",
        "tags": [],
        "known": False,
    }


@pytest.mark.asyncio
async def test_limits_of_output_are_kept(offline: Offline) -> None:
    messages = offline.asked("Hello").messages
    short = await offline.say(Prompt(messages, options=Options(max_output_tokens=5)))
    assert short.ended is not None
    assert short.ended.finish_reason is FinishReason.LENGTH
    assert 0 < short.tally.tokens() <= 5
    stopped = await offline.say(Prompt(messages, options=Options(stop_sequences=("offline",))))
    assert stopped.text.endswith("built-in ")
    assert stopped.ended is not None
    assert stopped.ended.finish_reason is FinishReason.STOP


@pytest.mark.asyncio
async def test_images_are_admitted_not_to_be_seen(offline: Offline) -> None:
    message = Message(Role.USER, ("What is this?", Image(url="https://example.com/a.png")))
    assert "cannot see images" in (await offline.say(Prompt((message,)))).text


@pytest.mark.asyncio
async def test_conversation_over_the_window_is_refused(offline: Offline) -> None:
    with pytest.raises(ServiceError) as raised:
        await offline.say(offline.asked("x" * 1_100_000))
    assert raised.value.reason == "CONTEXT_LENGTH_EXCEEDED"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "messages",
    [
        (Message(Role.SYSTEM, ("Be nice.",)),),
        (Message(Role.ASSISTANT, ("I begin.",)),),
        (Message(Role.USER, ("?",)),),
        (Message(Role.USER, (" ",)),),
        (Message(Role.USER, ("\n" * 1000,)),),
        (
            Message(Role.USER, ("[1] [2] Passages:",)),
            Message(Role.TOOL, ("{}",), tool_call_id="unknown"),
        ),
    ],
)
async def test_odd_conversations_are_answered(
    offline: Offline, messages: tuple[Message, ...]
) -> None:
    assert (await offline.say(Prompt(messages, offline.TOOLS))).pieces


@pytest.mark.asyncio
async def test_summary_of_a_conversation_is_what_its_user_said(offline: Offline) -> None:
    """As the agent that keeps notes asks for it."""
    said = [
        f"User: The harbour of Rostock has {number} cranes.\n\n"
        f"Assistant: I am an offline model and cannot say more about any harbour ({number})."
        for number in range(5)
    ]
    question = "\n\n".join(["Summarise this conversation:", *said])
    answer = (await offline.say(offline.asked(question))).text
    assert "harbour of Rostock" in answer
    assert "offline model" not in answer


@pytest.mark.asyncio
async def test_question_about_the_user_is_answered_from_what_the_agent_knows(
    offline: Offline,
) -> None:
    system = "You help.\n\nAbout the user:\n- Likes tea.\n- Lives in Berlin.\n\nOther notes:\n- x"
    answer = (
        await offline.say(offline.asked("Where do I live, in which city?", system=system))
    ).text
    assert "Lives in Berlin." in answer
    assert "tea" not in answer
