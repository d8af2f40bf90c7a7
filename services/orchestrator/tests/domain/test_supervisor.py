"""Work handed to other agents, and their answers put together. Pure: no engine, no loop."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright_orchestrator.agents.supervisor import SUPERVISOR
from meshwright_orchestrator.domain import supervisor
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import Role, ToolUse
from meshwright_orchestrator.domain.decider import CallTools, Decision, Fail, Finish
from meshwright_orchestrator.domain.deciding import begin
from meshwright_orchestrator.domain.errors import JournalUnreadable
from meshwright_orchestrator.domain.journal import GraphAnswered, ModelAnswered
from meshwright_orchestrator.domain.models import Failure, Limits, TaskState, Usage
from meshwright_orchestrator.domain.waiting import Ask, Delegate, Delegated
from services.orchestrator.tests.domain import driving
from services.orchestrator.tests.domain.driving import after, ended, model_call, says, used

SPEC = driving.spec(agent="supervisor")


def begun(max_steps: int = 25, agent: AgentSpec = SUPERVISOR) -> Decision:
    return begin(agent, SPEC, Limits(max_steps=max_steps))


def hands(*pairs: tuple[str, str], text: str = "") -> ModelAnswered:
    return says(
        text, *(("delegate", {"agent": name, "message": message}) for name, message in pairs)
    )


def children(decision: Decision) -> list[tuple[str, str]]:
    assert isinstance(decision.command, Delegate), decision.command
    return [(child.agent, child.messages[0].text) for child in decision.command.children]


def results(decision: Decision) -> list[Any]:
    """Return what the model is told of its last calls."""
    told = []
    for message in reversed(model_call(decision).messages):
        if message.role is not Role.TOOL:
            break
        told.append(json.loads(message.text))
    return told[::-1]


def test_model_is_offered_its_team() -> None:
    call = model_call(begun())
    assert call.agents == ("rag", "tool_call", "plan_execute")
    assert call.tool_use is ToolUse.AUTO
    assert supervisor.TEAM in call.messages[0].text
    offer = supervisor.offer({"rag": "Searches\nbooks.", "other": "Counts."})
    assert "- rag: Searches books.\n- other: Counts." in offer.description
    assert offer.parameters["properties"]["agent"]["enum"] == ["rag", "other"]  # type: ignore[index]


def test_supervisor_may_answer_by_itself() -> None:
    command = after(begun(), says("Four.")).command
    assert isinstance(command, Finish)
    assert command.result.answer == "Four."


def test_calls_of_one_message_are_handed_out_together() -> None:
    decision = after(begun(), hands(("rag", "Find it."), ("tool_call", "Count it.")))
    assert children(decision) == [("rag", "Find it."), ("tool_call", "Count it.")]
    answers = (ended("rag", "Found."), ended("tool_call", "Seven."))
    decision = after(decision, Delegated(answers))
    assert results(decision) == [
        {"agent": "rag", "answer": "Found."},
        {"agent": "tool_call", "answer": "Seven."},
    ]


def test_what_the_children_used_is_part_of_the_result_once() -> None:
    decision = after(begun(), hands(("rag", "A."), ("rag", "B.")))
    decision = after(decision, Delegated((ended("rag", "1"), ended("rag", "2"))))
    command = after(decision, says("End.")).command
    assert isinstance(command, Finish)
    assert command.result.usage == Usage(20 + 200, 4 + 40)


def test_sources_of_the_children_get_numbers_of_the_answer() -> None:
    decision = after(begun(), hands(("rag", "A."), ("rag", "B.")))
    first = ended("rag", "A [1], B [2].", citations=(driving.cited(1, "a"), driving.cited(2, "b")))
    second = ended(
        "rag",
        "B again [1]; C [4] and both [1, 4].",
        citations=(driving.cited(1, "b"), driving.cited(4, "c")),
    )
    decision = after(decision, Delegated((first, second)))
    assert [result["answer"] for result in results(decision)] == [
        "A [1], B [2].",
        "B again [2]; C [3] and both [2, 3].",
    ]
    assert results(decision)[1]["sources"] == [
        {"number": 2, "document_name": "book-b", "page": 3},
        {"number": 3, "document_name": "book-c", "page": 3},
    ]
    command = after(decision, says("All [3], [1].")).command
    assert isinstance(command, Finish)
    assert [(one.number, one.chunk_id) for one in command.result.citations] == [(1, "a"), (3, "c")]


def test_tools_are_called_before_the_work_is_handed_out() -> None:
    message = says(
        "",
        ("delegate", {"agent": "rag", "message": "A."}),
        ("add", {"a": 1}),
    )
    decision = after(begun(), message)
    assert isinstance(decision.command, CallTools)
    assert [plan.call.name for plan in decision.command.calls] == ["add"]
    decision = after(decision, used(decision.command, "7"))
    assert children(decision) == [("rag", "A.")]
    decision = after(decision, Delegated((ended("rag", "Found."),)))
    assert results(decision) == [{"agent": "rag", "answer": "Found."}, 7]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("not json", "AGENT_NOT_FOUND"),
        ('["rag"]', "AGENT_NOT_FOUND"),
        ('{"agent": "chat", "message": "x"}', "AGENT_NOT_FOUND"),
        ('{"agent": ["rag"], "message": "x"}', "AGENT_NOT_FOUND"),
        ('{"agent": "rag"}', "TOOL_ARGUMENTS_INVALID"),
        ('{"agent": "rag", "message": "  "}', "TOOL_ARGUMENTS_INVALID"),
        (json.dumps({"agent": "rag", "message": "x" * 20_001}), "TOOL_ARGUMENTS_INVALID"),
        ("[" * 100_000, "AGENT_NOT_FOUND"),
    ],
)
def test_call_that_hands_out_nothing_gets_an_error(arguments: str, reason: str) -> None:
    decision = after(begun(), says("", ("delegate", arguments)))
    assert isinstance(decision.command, CallTools)
    (plan,) = decision.command.calls
    assert plan.refusal
    assert plan.reason == reason


def test_one_message_hands_work_to_eight_agents_at_most() -> None:
    decision = after(begun(), hands(*(("rag", f"{n}") for n in range(10))))
    assert isinstance(decision.command, CallTools)
    assert [plan.reason for plan in decision.command.calls] == ["RESOURCE_EXHAUSTED"] * 2
    decision = after(decision, used(decision.command, '{"error": "e"}', '{"error": "e"}'))
    assert children(decision) == [("rag", f"{n}") for n in range(8)]


def test_same_work_is_not_handed_out_again_and_again() -> None:
    decision = begun()
    for _ in range(2):
        decision = after(decision, hands(("rag", "A.")), Delegated((ended("rag", "1"),)))
    decision = after(decision, hands(("rag", "A.")))
    assert isinstance(decision.command, CallTools)
    assert decision.command.calls[0].reason == "REPEATED_CALL"
    decision = after(decision, used(decision.command))
    assert model_call(decision).tool_use is ToolUse.NONE


@pytest.mark.parametrize(
    ("state", "failure", "reason"),
    [
        (TaskState.FAILED, Failure("STEP_LIMIT", "too many steps", False), "STEP_LIMIT"),
        (TaskState.CANCELLED, None, "TASK_CANCELLED"),
        (TaskState.EXPIRED, None, "TASK_EXPIRED"),
    ],
)
def test_child_without_a_result_is_an_error_for_the_model(
    state: TaskState, failure: Failure | None, reason: str
) -> None:
    decision = after(begun(), hands(("rag", "A."), ("rag", "B.")))
    lost = ended("rag", state=state, failure=failure)
    decision = after(decision, Delegated((lost, ended("rag", "Two."))))
    first, second = results(decision)
    assert (first["reason"], bool(first["error"])) == (reason, True)
    assert second["answer"] == "Two."
    assert isinstance(after(decision, says("Two.")).command, Finish)


def test_long_answers_of_children_are_cut_for_the_model() -> None:
    decision = after(begun(), hands(("rag", "A.")), Delegated((ended("rag", "x" * 50_000),)))
    (result,) = results(decision)
    assert len(result["answer"]) < 13_000


def test_output_of_a_child_is_told_too() -> None:
    child = replace(ended("rag", "A."), output={"price": 7})
    decision = after(begun(), hands(("rag", "A.")), Delegated((child,)))
    assert results(decision)[0]["output"] == {"price": 7}


def test_supervisor_without_tools_of_its_own_has_its_team() -> None:
    agent = replace(SUPERVISOR, tools=())
    message = says("", ("delegate", {"agent": "rag", "message": "A."}), ("add", {"a": 1}))
    decision = after(begun(agent=agent), message)
    assert isinstance(decision.command, CallTools)
    assert [plan.reason for plan in decision.command.calls] == ["TOOL_NOT_FOUND"]
    decision = after(decision, used(decision.command))
    assert children(decision) == [("rag", "A.")]


def test_model_that_was_chosen_for_the_task_is_that_of_its_children() -> None:
    decision = begin(SUPERVISOR, replace(SPEC, model="small"), Limits())
    command = after(decision, hands(("rag", "A."))).command
    assert isinstance(command, Delegate)
    assert [child.model for child in command.children] == ["small"]


def test_approvals_come_before_anything_is_handed_out() -> None:
    agent = replace(SUPERVISOR, tools=("add",), approval_tools=("add",))
    message = says("", ("delegate", {"agent": "rag", "message": "A."}), ("add", {}))
    assert isinstance(after(begun(agent=agent), message).command, Ask)


def test_supervisor_without_steps_left_answers_from_what_it_has() -> None:
    decision = after(begun(max_steps=3), hands(("rag", "A.")), Delegated((ended("rag", "1"),)))
    assert model_call(decision).tool_use is ToolUse.NONE
    assert isinstance(after(decision, hands(("rag", "B."))).command, Fail)


def test_outcome_that_was_not_asked_for_is_noticed() -> None:
    for outcome in (GraphAnswered(), Delegated((ended("rag"),))):
        with pytest.raises(JournalUnreadable):
            after(begun(), outcome)
    decision = after(begun(), hands(("rag", "A.")))
    with pytest.raises(JournalUnreadable):
        after(decision, Delegated((ended("rag"), ended("rag"))))


@pytest.mark.promise("TEAM-08")
@settings(max_examples=200, deadline=None)
@given(answers=driving.outcomes(), max_steps=st.integers(1, 25))
def test_every_task_ends_within_its_steps_and_replays(
    answers: Iterator[ModelAnswered], max_steps: int
) -> None:
    """R-06: whatever the model says; any journal gives the same commands again."""
    first = begun(max_steps)
    journal, last = driving.run(first, answers)
    assert isinstance(last.command, Finish | Fail)
    assert len(journal) <= max_steps + 1
    replayed = first
    for outcome in journal:
        expected = after(replayed, outcome)
        assert after(replayed, outcome) == expected
        replayed = expected
    assert replayed == last
