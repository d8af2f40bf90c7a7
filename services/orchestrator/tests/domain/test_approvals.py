"""Calls that people decide on, and questions of an agent to its user: pure, as tables (O7)."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.domain import answers
from meshwright_orchestrator.domain.agents import AgentSpec, AgentType
from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.decider import (
    CallModel,
    CallTools,
    Decision,
    PlannedCall,
    begin,
)
from meshwright_orchestrator.domain.errors import JournalUnreadable
from meshwright_orchestrator.domain.journal import Outcome, Step
from meshwright_orchestrator.domain.models import Limits, TaskSpec
from meshwright_orchestrator.domain.runner import replayed
from meshwright_orchestrator.domain.waiting import Answer, Ask, Asked, InterruptKind, Question
from services.orchestrator.tests.domain.test_decider import after, asks, gives

CLERK = AgentSpec(
    "clerk",
    "",
    AgentType.TOOL_CALL,
    "Help.",
    tools=("add", "pay", "ask_person"),
    approval_tools=("pay",),
)
SPEC = TaskSpec("clerk", (Message(Role.USER, (Text("Pay it."),)),))
PAY = ("pay", '{"euro": 5}')


def begun(agent: AgentSpec = CLERK) -> Decision:
    return begin(agent, SPEC, Limits())


def questions_of(decision: Decision) -> tuple[Question, ...]:
    assert isinstance(decision.command, Ask)
    return decision.command.questions


def answered(questions: Sequence[Question], *values: dict[str, Any] | None) -> Asked:
    """Return the outcome; None stands for nobody having answered in time."""
    return Asked(
        tuple(questions),
        tuple(
            Answer(str(index), value or {}, "anna", expired=value is None)
            for index, value in enumerate(values)
        ),
    )


def planned(decision: Decision) -> tuple[PlannedCall, ...]:
    assert isinstance(decision.command, CallTools)
    return decision.command.calls


def test_a_call_that_needs_approval_is_asked_for_with_its_arguments() -> None:
    answer = asks(PAY)
    (question,) = questions_of(after(begun(), answer))
    assert question.kind is InterruptKind.APPROVAL
    assert question.call == answer.tool_calls[0]
    assert "clerk" in question.text
    assert "pay" in question.text


def test_an_approved_call_is_made_as_it_was_asked_for() -> None:
    answer = asks(PAY)
    waiting = after(begun(), answer)
    decided = after(waiting, answered(questions_of(waiting), {"approved": True}))
    assert planned(decided) == (PlannedCall(answer.tool_calls[0]),)
    assert isinstance(after(decided, gives(answer)).command, CallModel)


@pytest.mark.parametrize(
    ("said", "reason", "text"),
    [
        ({"approved": False, "comment": "too much"}, "APPROVAL_REFUSED", "too much"),
        ({"approved": False}, "APPROVAL_REFUSED", "refused"),
        # Only true is a yes.
        ({"approved": "true"}, "APPROVAL_REFUSED", "refused"),
        (None, "APPROVAL_EXPIRED", "in time"),
    ],
)
def test_a_call_that_is_not_approved_is_never_made(
    said: dict[str, Any] | None, reason: str, text: str
) -> None:
    waiting = after(begun(), asks(PAY))
    (plan,) = planned(after(waiting, answered(questions_of(waiting), said)))
    assert plan.reason == reason
    assert text in plan.refusal


def test_calls_of_one_message_wait_for_each_other_and_keep_their_order() -> None:
    answer = asks(("add", "{}"), PAY, ("ask_person", '{"question": "Which?"}'))
    waiting = after(begun(), answer)
    asked = questions_of(waiting)
    assert [question.kind for question in asked] == ["approval", "question"]
    done = after(waiting, answered(asked, {"approved": False}, {"answer": "this"}))
    free, refused, told = planned(done)
    assert free == PlannedCall(answer.tool_calls[0])
    assert refused.refusal
    assert json.loads(told.answer) == {"answer": "this"}


def test_calls_that_need_nobody_are_made_at_once() -> None:
    assert planned(after(begun(), asks(("add", "{}"))))


def test_a_question_nobody_answered_is_an_error_for_the_model() -> None:
    waiting = after(begun(), asks(("ask_person", '{"question": "Which?"}')))
    (plan,) = planned(after(waiting, answered(questions_of(waiting), None)))
    assert plan.reason == "NOT_ANSWERED"
    assert not plan.answer


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        ({"question": "Which?"}, answers.TEXT_SCHEMA),
        ({"question": "Which?", "choices": ["a", "b"]}, answers.choice_schema(["a", "b"])),
        (
            {"question": "Which?", "answer_schema": {"type": "object", "required": ["n"]}},
            {"type": "object", "required": ["n"]},
        ),
    ],
)
def test_a_question_says_what_its_answer_must_fit(
    arguments: dict[str, Any], schema: dict[str, Any]
) -> None:
    (question,) = questions_of(after(begun(), asks(("ask_person", json.dumps(arguments)))))
    assert question.text == "Which?"
    assert question.answer_schema == schema


@pytest.mark.parametrize(
    "arguments",
    [
        "not json",
        "[]",
        "{}",
        '{"question": "  "}',
        '{"question": "a", "choices": ["one"]}',
        '{"question": "a", "choices": ["a", "b"], "answer_schema": {"type": "object"}}',
        '{"question": "a", "answer_schema": {"type": "string"}}',
        '{"question": "a", "answer_schema": {"type": "object", "required": 5}}',
        '{"question": "a", "answer_schema": {"type": "object", "properties":'
        ' {"x": {"pattern": "(a+)+$"}}}}',
        '{"question": "a", "answer_schema": {"type": "object", "$ref": "http://host/x"}}',
    ],
)
def test_a_question_that_cannot_be_put_is_an_error_for_the_model(arguments: str) -> None:
    (plan,) = planned(after(begun(), asks(("ask_person", arguments))))
    assert plan.reason == "TOOL_ARGUMENTS_INVALID"


def test_only_an_agent_with_the_tool_asks_its_user() -> None:
    chat = AgentSpec("chat", "", AgentType.CHAT, "Help.")
    (plan,) = planned(after(begun(chat), asks(("ask_person", '{"question": "Which?"}'))))
    assert plan == PlannedCall(plan.call)


def test_answers_to_other_questions_are_no_approval() -> None:
    """A journal that approves another call than the one at hand is not gone on with."""
    waiting = after(begun(), asks(PAY))
    other = after(begun(), asks(("pay", '{"euro": 5000}')))
    with pytest.raises(JournalUnreadable):
        after(waiting, answered(questions_of(other), {"approved": True}))


def test_what_was_asked_and_answered_replays_from_its_stored_form() -> None:
    answer = asks(PAY, ("ask_person", '{"question": "Which?", "choices": ["a", "b"]}'))
    waiting = after(begun(), answer)
    said = answered(questions_of(waiting), {"approved": True}, {"choice": "a"})
    outcomes: list[Outcome] = [answer, said]
    stored = [
        step_rows.outcome_from(
            step_rows.KINDS[type(outcome)],
            orjson.loads(orjson.dumps(outcome)),
        )
        for outcome in outcomes
    ]
    steps = tuple(Step(number, 1, outcome) for number, outcome in enumerate(stored, start=1))
    assert planned(replayed(begun(), steps)) == planned(after(waiting, outcomes[1]))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"approved": "yes"}, "payload.approved"),
        ({}, "payload"),
        ({"approved": True, "amount": 5}, "payload"),
        ({"approved": True, "comment": "x" * 70_000}, "payload"),
    ],
)
def test_an_answer_that_does_not_fit_names_its_field(value: dict[str, Any], field: str) -> None:
    question = Question(InterruptKind.APPROVAL, "May it?")
    with pytest.raises(InvalidArgument) as caught:
        answers.check(question, value)
    assert caught.value.field_violations[0].field == field


def test_an_answer_that_fits_is_taken() -> None:
    answers.check(Question(InterruptKind.APPROVAL, ""), {"approved": False, "comment": "no"})
    answers.check(Question(InterruptKind.QUESTION, ""), {"anything": [1]})
