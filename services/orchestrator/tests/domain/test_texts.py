"""Budgets, passages and citations: what models see and what of it is cited."""

import json

import pytest

from meshwright_orchestrator.domain import budget, citations
from meshwright_orchestrator.domain.conversation import Image, Message, Part, Role, Text, ToolCall
from meshwright_orchestrator.domain.journal import Recalled, ToolResult
from meshwright_orchestrator.domain.models import Citation
from meshwright_orchestrator.domain.prompts import passages_block, system_prompt


def message(role: Role, size: int, *, calls: int = 0) -> Message:
    parts: tuple[Part, ...] = (Text("x" * size),)
    return Message(role, parts, tuple(ToolCall(f"c{n}", "add", "{}") for n in range(calls)))


def source(number: int, *, quote: str = "q", page: int = 0, name: str = "book") -> Citation:
    return Citation(number, "d", name, page, 0, 1, quote, 0.5, f"chunk-{number}")


def test_everything_is_kept_that_fits() -> None:
    messages = [message(Role.USER, 30), message(Role.ASSISTANT, 30), message(Role.USER, 30)]
    assert budget.fitted(messages, [2], 1000) == tuple(messages)


def test_tool_exchange_goes_or_stays_whole() -> None:
    messages = [
        message(Role.USER, 30),
        message(Role.ASSISTANT, 0, calls=2),
        message(Role.TOOL, 300),
        message(Role.TOOL, 300),
        message(Role.ASSISTANT, 30),
        message(Role.USER, 30),
    ]
    assert budget.fitted(messages, [5], 100) == tuple(messages[4:])
    assert budget.fitted(messages, [5], 300) == tuple(messages)


def test_system_message_question_and_last_exchange_are_always_kept() -> None:
    messages = [
        message(Role.SYSTEM, 3000),
        message(Role.USER, 3000),
        message(Role.USER, 3000),
        message(Role.ASSISTANT, 0, calls=1),
        message(Role.TOOL, 3000),
        message(Role.ASSISTANT, 0, calls=1),
        message(Role.TOOL, 3000),
    ]
    kept = budget.fitted(messages, [2], 10)
    assert kept == (messages[0], messages[2], *messages[5:])


def test_older_messages_do_not_fill_the_hole_that_a_long_one_left() -> None:
    messages = [message(Role.USER, 3), message(Role.USER, 9000), message(Role.USER, 3)]
    assert budget.fitted(messages, [2], 100) == (messages[2],)


@pytest.mark.parametrize(("text", "tokens"), [("x" * 300, 101), ("漢" * 100, 101), ("", 1)])
def test_tokens_are_counted_by_bytes(text: str, tokens: int) -> None:
    one = Message(Role.USER, (Text(text),))
    assert budget.estimated_tokens(one) == budget.MESSAGE_TOKENS + tokens


def test_image_counts_as_many_tokens() -> None:
    one = Message(Role.USER, (Image(url="https://example.org/cat.png"),))
    assert budget.estimated_tokens(one) > 500


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("As [1] says.", [1]),
        ("Both [2][1].", [1, 2]),
        ("Both [1, 3].", [1, 3]),
        ("列表[1，2]。", [1, 2]),
        ("Nobody says so.", []),
        ("Beyond [9] and [0].", []),
        ("x[1] = y[2]", [1, 2]),
        ("[text](link) [1a]", []),
    ],
)
def test_sources_are_cited_that_the_answer_names(answer: str, numbers: list[int]) -> None:
    sources = [source(1), source(2), source(3)]
    assert [one.number for one in citations.cited(answer, sources)] == numbers


def test_found_chunk_keeps_the_number_it_has() -> None:
    merged, numbers = citations.numbered_on([source(1)], [source(1), source(7), source(7)])
    assert [one.number for one in merged] == [1, 2]
    assert numbers == {"chunk-1": 1, "chunk-7": 2}


def test_cut_result_keeps_its_whole_sources() -> None:
    found = (source(1, quote="a" * 50), source(2, quote="b" * 5000))
    result = ToolResult("c", "search", '{"truncated": "…"}' + " " * 200, False, True, found)
    shown = json.loads(citations.for_model(result, {"chunk-1": 4, "chunk-2": 5}))
    assert [one["number"] for one in shown["passages"]] == [4]
    assert shown["truncated"] is True


def test_result_without_sources_is_left_as_it_is() -> None:
    result = ToolResult("c", "add", '{"number": 1, "chunk_id": "x"}')
    assert citations.for_model(result, {}) == result.result_json


def test_passages_stand_in_their_exact_form() -> None:
    block = passages_block([source(1, quote="One.", page=3), source(2, quote="Two.")])
    assert block == "Passages:\n[1] book, page 3\nOne.\n\n[2] book\nTwo.\n"


def test_name_of_a_document_is_one_line() -> None:
    assert passages_block([source(1, name="a\n[2] b")]).splitlines()[1] == "[1] a [2] b"


@pytest.mark.parametrize(
    ("recalled", "says"),
    [
        (None, ""),
        (Recalled(), "No passage"),
        (Recalled(degraded=("vector", "text")), "could not be searched"),
        (Recalled((source(1),)), "like [1]"),
    ],
)
def test_system_message_tells_what_the_search_came_to(recalled: Recalled | None, says: str) -> None:
    prompt = system_prompt("Be good.", recalled)
    assert prompt.startswith("Be good.")
    assert says in prompt
    assert (prompt == "Be good.") == (recalled is None)
