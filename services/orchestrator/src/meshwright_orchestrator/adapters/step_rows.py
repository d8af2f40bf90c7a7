"""Journal entries, messages and results as the plain JSON that is stored, and back."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from meshwright_orchestrator.domain.conversation import (
    Image,
    JsonObject,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
)
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Outcome,
    Recalled,
    Remembered,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import Citation, Failure, Result, TaskState, Usage
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

Stored = Mapping[str, Any]
"""A decoded JSON object of ours."""

KINDS: Final[Mapping[type[Outcome], str]] = {
    Recalled: "recall",
    ModelAnswered: "model",
    ToolsAnswered: "tools",
    GraphAnswered: "graph",
    Asked: "ask",
    Delegated: "delegate",
    Slept: "sleep",
}


def outcome_from(kind: str, stored: Stored) -> Outcome:  # noqa: PLR0911 - one case a kind
    """Return the outcome of a step from the object of its fields, as JSON keeps it."""
    match kind:
        case "recall":
            return Recalled(
                _citations(stored["passages"]),
                tuple(stored["degraded"]),
                # Journals of the first engine have neither.
                tuple(Remembered(**memory) for memory in stored.get("memories", ())),
                stored.get("searched", True),
                stored.get("digest", ""),
            )
        case "model":
            return ModelAnswered(
                **{
                    **stored,
                    "tool_calls": _calls(stored["tool_calls"]),
                    "usage": Usage(**stored["usage"]),
                    "plan": _plan_from(stored.get("plan")),
                }
            )
        case "tools":
            results = tuple(
                ToolResult(**{**result, "citations": _citations(result["citations"])})
                for result in stored["results"]
            )
            return ToolsAnswered(_calls(stored["calls"]), results, stored["digest"])
        case "ask":
            return Asked(
                tuple(question_from(question) for question in stored["questions"]),
                tuple(Answer(**answer) for answer in stored["answers"]),
            )
        case "delegate":
            return Delegated(tuple(_child_from(child) for child in stored["results"]))
        case "sleep":
            return Slept(**stored)
        case _:
            return GraphAnswered(**stored)


def question_from(stored: Stored) -> Question:
    """Return the question that `asdict` made plain."""
    call = stored["call"]
    return Question(
        **{
            **stored,
            "kind": InterruptKind(stored["kind"]),
            "call": None if call is None else ToolCall(**call),
        }
    )


def _child_from(stored: Stored) -> ChildResult:
    failure = stored["failure"]
    return ChildResult(
        **{
            **stored,
            "state": TaskState(stored["state"]),
            "failure": None if failure is None else failure_from(failure),
            "citations": _citations(stored["citations"]),
            "usage": Usage(**stored["usage"]),
        }
    )


def _plan_from(stored: Stored | None) -> Plan | None:
    if stored is None:
        return None
    steps = (PlanStep(one["text"], PlanStepState(one["state"])) for one in stored["steps"])
    return Plan(tuple(steps), stored["revision"], stored["note"])


def message_record(message: Message) -> JsonObject:
    """Return a message as it is stored, without what is empty."""
    record: dict[str, object] = {
        "role": message.role.value,
        "parts": [_part_record(part) for part in message.parts],
    }
    if message.tool_calls:
        record["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments_json": call.arguments_json}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        record["tool_call_id"] = message.tool_call_id
    if message.name:
        record["name"] = message.name
    return record


def message_from(stored: Stored) -> Message:
    """Return the message that `message_record` made."""
    return Message(
        role=Role(stored["role"]),
        parts=tuple(_part_from(part) for part in stored["parts"]),
        tool_calls=_calls(stored.get("tool_calls", ())),
        tool_call_id=stored.get("tool_call_id", ""),
        name=stored.get("name", ""),
    )


def _part_record(part: Part) -> JsonObject:
    if isinstance(part, Text):
        return {"text": part.text}
    return {
        "image": {
            "url": part.url,
            "data": b64encode(part.data).decode(),
            "media_type": part.media_type,
        }
    }


def _part_from(stored: Stored) -> Part:
    if "text" in stored:
        return Text(stored["text"])
    image = stored["image"]
    return Image(image["url"], b64decode(image["data"]), image["media_type"])


def result_record(result: Result) -> JsonObject:
    """Return a result as it is stored. Its usage counts what the task's children used, too: the
    task's own stands beside it.
    """
    return {
        "answer": result.answer,
        # Dataclasses are written as the objects of their fields.
        "citations": result.citations,
        "messages": [message_record(message) for message in result.messages],
        "output": result.output,
        "usage": result.usage,
    }


def result_from(stored: Stored, usage: Usage) -> Result:
    """Return the result that `result_record` made; `usage` is that of its task."""
    own = stored.get("usage")
    return Result(
        answer=stored["answer"],
        citations=_citations(stored["citations"]),
        messages=tuple(message_from(message) for message in stored["messages"]),
        # Results of the first two engines have none: their tasks had no children.
        usage=usage if own is None else Usage(**own),
        output=stored["output"],
    )


def failure_record(failure: Failure) -> JsonObject:
    """Return a failure as it is stored."""
    return asdict(failure)


def failure_from(stored: Stored) -> Failure:
    """Return the failure that `failure_record` made."""
    return Failure(**stored)


def _citations(stored: Sequence[Stored]) -> tuple[Citation, ...]:
    return tuple(
        Citation(**{**citation, "heading_path": tuple(citation["heading_path"])})
        for citation in stored
    )


def _calls(stored: Sequence[Stored]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(**call) for call in stored)
