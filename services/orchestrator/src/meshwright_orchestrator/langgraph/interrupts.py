"""Interrupts of a graph as questions to people, and their answers as what resumes it.

LangGraph names an interrupt by the run of its node, which is another one in the next attempt. What
stays is where the node stands in the graph and what it asks, so questions go by that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from langgraph.types import Command, Interrupt, StateSnapshot

from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.waiting import (
    MAX_QUESTIONS,
    Answer,
    InterruptKind,
    Question,
)

VALUE: Final = "value"
"""A payload or an answer with this key alone stands for what is under it."""
UPDATE: Final = "update"
PAUSE_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {UPDATE: {"type": "object"}},
    "additionalProperties": False,
}
"""Of the answer to a pause before or after a node: values to set in the graph's state, if any."""


@dataclass(frozen=True, slots=True)
class Open:
    """What a graph waits for: its interrupts' ids and, in the same order, the questions.

    A pause that was set from outside, before or after a node, is one question without an id.
    """

    ids: tuple[str, ...]
    questions: tuple[Question, ...]


def open_of(snapshot: StateSnapshot) -> Open | None:
    """Return what the graph waits for; None when it has ended.

    Of more than a task asks at a time it is the first ones: the others are asked after those.
    """
    if snapshot.interrupts:
        places = dict(_places(snapshot, ()))
        found = sorted(
            ((places.get(one.id, ()), _question(one), one.id) for one in snapshot.interrupts),
            key=lambda entry: (entry[0], _plain_text(entry[1].payload)),
        )[:MAX_QUESTIONS]
        return Open(tuple(one[2] for one in found), tuple(one[1] for one in found))
    if snapshot.next:
        nodes = sorted(snapshot.next)
        text = f"The graph has paused before {', '.join(nodes)}. Shall it go on?"
        pause = Question(
            InterruptKind.QUESTION, text, answer_schema=PAUSE_SCHEMA, payload={"next": nodes}
        )
        return Open((), (pause,))
    return None


def resumed_by(waiting: Open, answers: Sequence[Answer]) -> Command[Any]:
    """Return what resumes the interrupts with these answers, which are in their order."""
    values = [
        answer.value[VALUE] if set(answer.value) == {VALUE} else dict(answer.value)
        for answer in answers
    ]
    return Command(resume=dict(zip(waiting.ids, values, strict=True)))


def _places(
    snapshot: StateSnapshot, above: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for task in snapshot.tasks:
        place = (*above, *map(str, task.path))
        for one in task.interrupts:
            yield one.id, place
        if isinstance(task.state, StateSnapshot):
            # An interrupt of a subgraph is its node's, too; the place within says more.
            yield from _places(task.state, place)


def _question(asked: Interrupt[Any]) -> Question:
    value = orjson.loads(_plain_text(asked.value))
    payload = value if isinstance(value, dict) else {VALUE: value}
    text = value if isinstance(value, str) else payload.get("question", "")
    return Question(
        InterruptKind.QUESTION,
        text if isinstance(text, str) else "",
        answer_schema=_schema(asked.response_schema),
        payload=payload,
    )


def _plain_text(value: object) -> bytes:
    # Objects of the graph's own are shown as their text.
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)


def _schema(given: object) -> JsonObject | None:
    """Return the schema of an answer, an object: of any other value, it is under `value`."""
    if not isinstance(given, Mapping):
        return None
    schema = dict(given)
    if schema.get("type") == "object":
        return schema
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    wrapped: dict[str, object] = {
        "type": "object",
        "properties": {VALUE: inner},
        "required": [VALUE],
        "additionalProperties": False,
    }
    return wrapped | ({"$defs": schema["$defs"]} if "$defs" in schema else {})
