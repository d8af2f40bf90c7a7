"""What readers of a task are told, and telling it again from the journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from meshwright_orchestrator.domain.conversation import ToolCall
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Recalled,
    Step,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import Failure, Result, TaskState
from meshwright_orchestrator.domain.plan import Plan
from meshwright_orchestrator.domain.waiting import Asked, Delegated, Question, Slept

SEPARATOR: Final = "\n\n"
"""Stands between the texts of two model calls, in the stream and in the answer."""


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt began, with so many steps found in the journal; or, within an attempt, the model
    begins its message anew. Chunks after the last checkpoint are withdrawn."""

    agent: str
    resumed_steps: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the model's output."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A step is journaled; so many characters of answer text up to here are never withdrawn."""

    step: int
    answer_characters: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A person is asked, and the task waits. Not told again once it is answered."""

    interrupt_id: str
    question: Question


@dataclass(frozen=True, slots=True)
class Child:
    """A child of the task: it was accepted (QUEUED), or it ended in `state`."""

    task_id: str
    agent: str
    state: TaskState


TaskEvent: TypeAlias = (
    Started
    | Recalled
    | Chunk
    | ToolCall
    | ToolResult
    | Interrupted
    | Child
    | Plan
    | Checkpoint
    | Result
    | Failure
)


@dataclass(frozen=True, slots=True)
class Told:
    """An event in the stream of one reader."""

    task_id: str
    sequence: int
    attempt: int
    event: TaskEvent


def retold(step: Step, answer_characters: int) -> tuple[Sequence[TaskEvent], int]:
    """Return the events of a journaled step, its text whole, and the answer's length after it.

    `answer_characters` is the length of the answer before it.
    """
    events: list[TaskEvent] = []
    match step.outcome:
        case Recalled(searched=False):
            # Memory is asked in silence: nothing to tell, nothing to come back to.
            return (), answer_characters
        case Recalled() as recalled:
            events.append(recalled)
        case ModelAnswered() as answer:
            told, text = _of_model(answer, follows_text=bool(answer_characters))
            events.extend(told)
            answer_characters += len(text)
        case ToolsAnswered(calls, results):
            events.extend(calls)
            events.extend(results)
        case GraphAnswered(text):
            if text:
                text = SEPARATOR + text if answer_characters else text
                events.append(Chunk(text))
                answer_characters += len(text)
        case Delegated(results):
            events.extend(
                Child(child.task_id, child.agent, child.state)
                for child in results
                # One that was refused never was a task.
                if child.task_id
            )
        case Asked() | Slept():
            # Open questions are told while they are open.
            pass
    events.append(Checkpoint(step.number, answer_characters))
    return events, answer_characters


def _of_model(answer: ModelAnswered, *, follows_text: bool) -> tuple[Sequence[TaskEvent], str]:
    """Return what is told of a model's message, and what of it is text of the answer."""
    text, reasoning = answer.text, answer.reasoning
    if answer.hidden:
        text, reasoning = "", reasoning + text
    elif answer.silent:
        text = ""
    if text and follows_text:
        text = SEPARATOR + text
    events: list[TaskEvent] = [Chunk(text, reasoning)] if text or reasoning else []
    if answer.plan is not None:
        events.append(answer.plan)
    return events, text


def joined(texts: Sequence[str]) -> str:
    """Return the answer that the texts of several model calls make together."""
    return SEPARATOR.join(text for text in texts if text)
