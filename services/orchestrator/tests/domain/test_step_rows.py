"""Outcomes of steps as the journal keeps them, and back."""

import orjson
import pytest

from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.domain.conversation import Message, Role, Text, ToolCall
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Outcome,
    Recalled,
    Remembered,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import Failure, TaskState, Usage
from meshwright_orchestrator.domain.plan import Plan, PlanStep, PlanStepState
from meshwright_orchestrator.domain.waiting import (
    Answer,
    Asked,
    ChildResult,
    Delegated,
    InterruptKind,
    Question,
    Slept,
)
from services.orchestrator.tests.domain.driving import cited

CALL = ToolCall("c1", "add", '{"a": 1}')
OUTCOMES: list[Outcome] = [
    Recalled((cited(1, "a"),), ("vector",), (Remembered("m", "fact", "Ü", trusted=True),), False),
    ModelAnswered("Text", "why", (CALL,), "stop", Usage(1, 2, 3, 4, 5, True), True, "d"),
    ModelAnswered(silent=True, plan=Plan((PlanStep("A.", PlanStepState.RUNNING),), 2, "anew")),
    ToolsAnswered((CALL,), (ToolResult("c1", "add", "1", True, True, (cited(2, "b"),)),), "d"),
    GraphAnswered("Text", {"a": [1, None]}),
    Asked(
        (Question(InterruptKind.APPROVAL, "May it?", CALL, {"type": "object"}, 5.0, {"a": 1}),),
        (Answer("i", {"approved": True}, "u"),),
    ),
    Delegated(
        (
            ChildResult(
                "t", "rag", TaskState.COMPLETED, "A [1].", {"a": 1}, None, (cited(1, "a"),)
            ),
            ChildResult("t", "rag", TaskState.FAILED, failure=Failure("STEP_LIMIT", "no", False)),
        )
    ),
    Slept(1.5),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcome_is_read_as_it_was_written(outcome: Outcome) -> None:
    kind = step_rows.KINDS[type(outcome)]
    assert step_rows.outcome_from(kind, orjson.loads(orjson.dumps(outcome))) == outcome


def test_every_kind_of_outcome_is_tried() -> None:
    assert {type(outcome) for outcome in OUTCOMES} == set(step_rows.KINDS)


def test_messages_are_read_as_they_were_written() -> None:
    message = Message(Role.ASSISTANT, (Text("Hi"),), (CALL,))
    stored = orjson.loads(orjson.dumps(step_rows.message_record(message)))
    assert step_rows.message_from(stored) == message
