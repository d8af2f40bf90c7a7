"""What a turn looks like on the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from meshwright_cli.http_api import ServerEvent
from meshwright_cli.turn_printer import TurnPrinter

SOURCE = {
    "number": 1,
    "document_name": "manual.pdf",
    "page": 177,
    "heading_path": ["Tips", "Keyboard"],
    "quote": "Alt-SysRq\nthen a letter",
}


def printed(*events: tuple[str, dict[str, Any]]) -> tuple[str, TurnPrinter]:
    output = io.StringIO()
    printer = TurnPrinter(output, colors=False)
    for number, (name, data) in enumerate(events, 1):
        printer.show(ServerEvent(f"turn:{number}", name, data))
    return output.getvalue(), printer


STARTED = ("turn.started", {"turn_id": "t1", "session_id": "s1"})


def test_text_appears_as_it_comes_and_sources_at_the_end() -> None:
    text, printer = printed(
        STARTED,
        ("message.delta", {"text": "Hold the key "}),
        ("message.delta", {"text": "[1]."}),
        ("citation", SOURCE),
        ("turn.completed", {"answer": "Hold the key [1]."}),
    )
    assert text == (
        "Hold the key [1].\n[1] manual.pdf, page 177, Tips > Keyboard: “Alt-SysRq then a letter”\n"
    )
    assert (printer.ended, printer.failure, printer.session_id) == (True, "", "s1")
    assert printer.last_event_id == "turn:5"


def test_tools_stand_on_lines_of_their_own() -> None:
    text, _ = printed(
        ("message.delta", {"text": "Let me see"}),
        ("tool.call", {"name": "calculator", "arguments_json": '{"expression":"6*7"}'}),
        ("tool.result", {"result_json": '{"value":42}', "is_error": False}),
        ("message.delta", {"text": "42"}),
    )
    assert text == 'Let me see\n▸ calculator {"expression":"6*7"}\n◂ {"value":42}\n42'


def test_other_agents_and_plans_stand_on_lines_of_their_own() -> None:
    def plan(*states: str, note: str = "") -> tuple[str, dict[str, object]]:
        steps = [
            {"text": text, "state": state}
            for text, state in zip(("Look it up.", "Add it.", "Tell it."), states, strict=False)
        ]
        return "plan", {"steps": steps, "revision": 1, "note": note}

    text, _ = printed(
        plan("running", "pending"),
        plan("completed", "running"),
        ("task.child", {"task_id": "t-2", "agent": "rag", "state": "queued"}),
        ("task.child", {"task_id": "t-2", "agent": "rag", "state": "completed"}),
        ("task.child", {"task_id": "t-3", "agent": "chat", "state": "failed"}),
        plan("completed", "failed", "running", note="Planned\x1b anew."),
        ("message.delta", {"text": "42"}),
    )
    assert text.splitlines() == [
        *("▸ 1. Look it up.", "○ 2. Add it.", "✓ 1. Look it up.", "▸ 2. Add it."),
        *("▸ hands work to rag (t-2)", "◂ rag completed (t-2)", "✗ chat failed (t-3)"),
        *("Planned anew.", "✗ 2. Add it.", "▸ 3. Tell it.", "42"),
    ]


def test_control_characters_of_models_and_documents_never_reach_the_terminal() -> None:
    text, _ = printed(
        ("message.delta", {"text": "a\x1b]0;owned\x07b\tc\r\nd\x9b2J"}),
        ("tool.result", {"result_json": "\x1b[2J", "is_error": True}),
    )
    assert text == "a]0;ownedb\tc\nd2J\n✗ [2J\n"


def test_withdrawn_text_is_printed_again_as_far_as_it_stays() -> None:
    text, _ = printed(
        ("message.delta", {"text": "First half. Second"}),
        ("turn.restarted", {"attempt": 2, "keep_characters": 12}),
        ("message.delta", {"text": "other half."}),
    )
    assert text.endswith("\nFirst half. other half.")


@pytest.mark.parametrize(
    ("name", "data", "failure"),
    [
        ("turn.failed", {"message": "no model", "reason": "PROVIDER_TIMEOUT"}, "PROVIDER_TIMEOUT"),
        ("turn.cancelled", {"cancelled_by": "u"}, "cancelled"),
        ("error", {"detail": "too slow", "code": "UNAVAILABLE"}, "UNAVAILABLE"),
    ],
)
def test_every_other_end_is_a_failure_with_its_reason(
    name: str, data: dict[str, Any], failure: str
) -> None:
    _, printer = printed(STARTED, (name, data))
    assert printer.ended
    assert failure in printer.failure
