"""What a turn asks in the terminal: shown so that it cannot steer it, and answers read as meant."""

import io
from typing import Any

import pytest

from meshwright_cli.commands.turn_questions import answer_of, how_to_answer, question_lines
from meshwright_cli.http_api import ServerEvent
from meshwright_cli.turn_printer import TurnPrinter


def asked(kind: str = "approval", **fields: Any) -> dict[str, Any]:
    nothing = {"question": "", "payload": None, "answer_schema": None, "tool_call": None}
    return {"interrupt_id": "i-1", "task_id": "t-1", "kind": kind, **nothing, **fields}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("y", {"approved": True}),
        (" Yes ", {"approved": True}),
        ("n", {"approved": False}),
        ("", {"approved": False}),
        ("not to everybody", {"approved": False, "comment": "not to everybody"}),
    ],
)
def test_only_a_yes_approves_a_call(text: str, answer: dict[str, Any]) -> None:
    assert answer_of(asked(), text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"city": "Bern"}', {"city": "Bern"}),
        ("Bern", {"answer": "Bern"}),
        ("7", {"answer": 7}),
    ],
)
def test_a_question_takes_an_object_or_a_plain_answer(text: str, answer: dict[str, Any]) -> None:
    assert answer_of(asked("question"), text) == answer


def test_the_exact_call_is_shown_without_what_steers_a_terminal() -> None:
    call = {"name": "send", "arguments_json": '{"to": "\x1b[2Jall"}'}
    lines = question_lines(asked(question="Send it?", tool_call=call))
    assert lines[0] == "? Send it?"
    assert "send" in lines[1]
    assert "\x1b" not in "".join(lines)


def test_a_question_says_how_it_is_answered_from_elsewhere() -> None:
    assert how_to_answer(asked()) == "meshwright tasks answer t-1 i-1 --approve"


def test_a_queued_turn_says_its_place_and_can_be_followed() -> None:
    output = io.StringIO()
    printer = TurnPrinter(output, colors=False)
    data = {"turn_id": "t", "session_id": "s", "position": 2}
    printer.show(ServerEvent("t:1", "turn.queued", data))
    assert (printer.turn_id, printer.session_id) == ("t", "s")
    assert "place 2" in output.getvalue()
