"""Calls that a person decides on before they are made, and questions of an agent to its user.

All of it is a pure function of the agent and the calls, as the decider that it belongs to. When
one call of a message needs a person, none of the message is made before every answer is there: what
a model asked for at once, it gets at once, and people see all of it together.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from meshwright_orchestrator.domain import answers
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import JsonObject, ToolCall, ToolOffer
from meshwright_orchestrator.domain.errors import JournalUnreadable
from meshwright_orchestrator.domain.waiting import Answer, Asked, InterruptKind, Question

if TYPE_CHECKING:
    from meshwright_orchestrator.domain.decider import PlannedCall

ASK_PERSON: Final = "ask_person"
MAX_QUESTION_CHARACTERS: Final = 4_000
MAX_CHOICES: Final = 20
BAD_ARGUMENTS: Final = "TOOL_ARGUMENTS_INVALID"
REFUSED: Final = "APPROVAL_REFUSED"
EXPIRED: Final = "APPROVAL_EXPIRED"
NOT_ANSWERED: Final = "NOT_ANSWERED"

OFFER: Final = ToolOffer(
    ASK_PERSON,
    "Ask the user a question and wait for the answer, which may take long. Only for what you"
    " cannot know or decide by yourself. The answer is a JSON object: {answer} for free text,"
    " {choice} when you give choices, else what answer_schema says.",
    {
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "The question, for a person to read."},
            "choices": {
                "type": "array",
                "items": {"type": "string"},
                "description": "2 to 20 texts of which the user picks one.",
            },
            "answer_schema": {
                "type": "object",
                "description": "JSON Schema of the answer, an object. Instead of choices.",
            },
        },
        "required": ["question"],
    },
)
"""The tool by which an agent asks its user. It is offered to agents whose definition lists it."""


def may_ask(agent: AgentSpec) -> bool:
    """Return whether the agent's definition lists the tool by which it asks its user."""
    return ASK_PERSON in (agent.tools or ())


def prepared(
    agent: AgentSpec, planned: Sequence["PlannedCall"]
) -> tuple[tuple["PlannedCall", ...], tuple[Question, ...]]:
    """Return the calls, and what people are asked before any of them is made, in their order.

    A question to the user that cannot be put is a refused call: the model may mend it.
    """
    calls: list[PlannedCall] = []
    questions: list[Question] = []
    for plan in planned:
        asked = _question(agent, plan)
        if isinstance(asked, str):
            calls.append(replace(plan, refusal=asked, reason=BAD_ARGUMENTS))
            continue
        calls.append(plan)
        if asked is not None:
            questions.append(asked)
    return tuple(calls), tuple(questions)


def decided(
    agent: AgentSpec, planned: Sequence["PlannedCall"], outcome: Asked
) -> tuple["PlannedCall", ...]:
    """Return the calls with what people said. Raises: JournalUnreadable for other questions."""
    expected = tuple(asked for plan in planned if (asked := _question(agent, plan)) is not None)
    if expected != outcome.questions or len(outcome.answers) != len(expected):
        raise JournalUnreadable
    left = iter(outcome.answers)
    return tuple(
        plan if _question(agent, plan) is None else _answered(plan, next(left)) for plan in planned
    )


def _question(agent: AgentSpec, plan: "PlannedCall") -> Question | str | None:
    """Return what a person is asked about a call, None for nothing; a text: why it is refused."""
    if plan.refusal:
        return None
    if plan.call.name == ASK_PERSON and may_ask(agent):
        return _question_of(plan.call)
    if plan.call.name in agent.approval_tools:
        text = f"May the agent {agent.name} call {plan.call.name}?"
        return Question(InterruptKind.APPROVAL, text, call=plan.call)
    return None


def _question_of(call: ToolCall) -> Question | str:
    try:
        given = json.loads(call.arguments_json or "{}")
    except (ValueError, RecursionError):
        return "the arguments are no JSON"
    if not isinstance(given, dict):
        return "the arguments must be a JSON object"
    text = given.get("question")
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= MAX_QUESTION_CHARACTERS:
        return f"question must be a text of 1 to {MAX_QUESTION_CHARACTERS} characters"
    schema = _schema_of(given)
    if isinstance(schema, str):
        return schema
    return Question(InterruptKind.QUESTION, text.strip(), answer_schema=schema)


def _schema_of(given: Mapping[str, object]) -> JsonObject | str:
    choices, schema = given.get("choices"), given.get("answer_schema")
    if choices is not None and schema is not None:
        return "give choices or answer_schema, not both"
    if choices is not None:
        if (
            not isinstance(choices, list)
            or not 2 <= len(choices) <= MAX_CHOICES
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            return f"choices must be 2 to {MAX_CHOICES} texts"
        return answers.choice_schema(choices)
    if schema is None:
        return answers.TEXT_SCHEMA
    if not isinstance(schema, dict):
        return "answer_schema must be a JSON object"
    fault = answers.fault_of_schema(schema)
    return f"answer_schema {fault}" if fault else schema


def _answered(plan: "PlannedCall", answer: Answer) -> "PlannedCall":
    if plan.call.name == ASK_PERSON:
        if answer.expired:
            return replace(plan, refusal="nobody answered in time", reason=NOT_ANSWERED)
        return replace(plan, answer=orjson.dumps(answer.value).decode())
    if answer.expired:
        return replace(plan, refusal="nobody approved this call in time", reason=EXPIRED)
    if answer.value.get("approved") is True:
        return plan
    comment = str(answer.value.get("comment") or "")
    text = "a person refused this call"
    return replace(plan, refusal=f"{text}: {comment}" if comment else text, reason=REFUSED)
