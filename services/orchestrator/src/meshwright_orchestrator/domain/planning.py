"""What a model is asked for a plan and its steps, and reading what it answered.

Models write JSON as well as they can: it may stand in a fence, after a sentence or in a list of
objects. What cannot be read as a plan is no plan, and is asked for once more.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.plan import PlanStep, PlanStepState

MAX_PLAN_STEPS: Final = 8
"""Steps of a plan; more are cut. Longer plans are wrong before their end is reached."""
MAX_STEP_CHARACTERS: Final = 400
MAX_RESULT_CHARACTERS: Final = 8_000
"""Of a step's result that later steps are told."""
_MAX_STARTS: Final = 64
"""Places in an answer at which JSON is looked for."""

PLANNING: Final = (
    "Make a plan for the user's last message before anything is done. Answer with one JSON object "
    f'and nothing else: {{"steps": ["...", "..."]}}. Each step is one sentence that says what to '
    f"find out or do, in the language of the question; at most {MAX_PLAN_STEPS} steps, as few as "
    "it takes, each using what the ones before it found. Only what the tools on offer and the "
    "conversation can give is a step; writing the final answer is none. When the message can be "
    'answered at once, answer {"steps": []}.'
)
REPAIR: Final = (
    'That was not the JSON object that was asked for. Answer again, with {"steps": ["..."]} and '
    "nothing else."
)
WORKING: Final = (
    "You work on one step of a plan at a time. Its result is read by the steps after it, not by "
    "the user: give facts, numbers and the [n] of sources, without introduction. If the step "
    "cannot be done, begin your answer with FAILED: and say why. If what you found makes the rest "
    "of the plan wrong, begin your answer with REPLAN: and say why, then give the result."
)
ANSWERING: Final = (
    "All that could be done of the plan is done. Answer the user's question from the results of "
    "its steps. Keep the [n] of sources with the statements that rest on them, and say so where a "
    "step that matters to the answer failed. Do not describe the plan."
)
NO_PLAN: Final = "The model made no plan that could be read: it answers directly."
NO_ROOM: Final = "The task may take too few steps for a plan: it is answered directly."

_FAILED: Final = re.compile(r"[\s*_#]*failed\b[\s*_]*:", re.IGNORECASE)
_REPLAN: Final = re.compile(r"[\s*_#]*replan\b[\s*_]*:", re.IGNORECASE)
_STEP_KEYS: Final = ("step", "text", "description", "task", "title")
_LIST_KEYS: Final = ("steps", "plan")


def steps_from(answer: str) -> tuple[str, ...] | None:
    """Return the steps of the first plan in a model's answer, at most `MAX_PLAN_STEPS`.

    Empty when it says that none are needed; None when there is no plan in it.
    """
    for found in _json_in(answer):
        steps = _steps(found)
        if steps is not None:
            return steps
    return None


def _json_in(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    end = 0
    for number, start in enumerate(re.finditer(r"[{\[]", text)):
        if number == _MAX_STARTS:
            return
        if start.start() < end:
            # Inside of something that was read already.
            continue
        try:
            found, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        yield found


def _steps(found: object) -> tuple[str, ...] | None:
    if isinstance(found, dict):
        lists = [found[key] for key in _LIST_KEYS if isinstance(found.get(key), list)]
        if not lists:
            return None
        found = lists[0]
    elif not found:
        # A bare [] says nothing: it may as well be part of a sentence.
        return None
    if not isinstance(found, list):
        return None
    texts = [_text(item) for item in found]
    steps = tuple(text for text in texts if text)
    return steps[:MAX_PLAN_STEPS] if steps or not found else None


def _text(item: object) -> str:
    if isinstance(item, dict):
        item = next((item[key] for key in _STEP_KEYS if isinstance(item.get(key), str)), None)
    if not isinstance(item, str):
        return ""
    text = " ".join(item.replace("\0", "").split())
    return text if len(text) <= MAX_STEP_CHARACTERS else text[: MAX_STEP_CHARACTERS - 1] + "…"


def says_failed(result: str) -> bool:
    """Return whether a step's result says that it could not be done."""
    return _FAILED.match(result) is not None


def wants_replan(result: str) -> bool:
    """Return whether a step's result says that the rest of the plan is wrong."""
    return _REPLAN.match(result) is not None


def instruction(text: str) -> Message:
    """Return a message of ours to the model: never with words of a model, a tool or a document."""
    return Message(Role.USER, (Text(text),))


def said(text: str) -> Message:
    """Return what the model said earlier, as its own message."""
    return Message(Role.ASSISTANT, (Text(text),))


def plan_message(steps: Sequence[PlanStep]) -> Message:
    """Return the plan as the model reads it: a line a step, done ones marked."""
    marks = {PlanStepState.COMPLETED: " (done)", PlanStepState.FAILED: " (failed)"}
    lines = [
        f"{number}. {step.text}{marks.get(step.state, '')}"
        for number, step in enumerate(steps, start=1)
    ]
    return said("\n".join(["Plan:", *lines]))


def do_step(number: int) -> Message:
    """Return the message that asks for a step's work."""
    return instruction(f"Do step {number} of the plan now, only this one. Answer with its result.")


def mend(number: int, *, failed: bool, most: int) -> Message:
    """Return the message that asks for another plan after step `number`, of `most` steps."""
    why = "failed" if failed else "showed that the plan is wrong"
    return instruction(
        f"Step {number} {why}. Answer with the steps that are still to be done now, at most "
        f'{most}, as {{"steps": ["...", "..."]}} and nothing else; do not repeat what is done, '
        'nor what failed in the same way. {"steps": []} when the question can be answered from '
        "what is known, or cannot be answered at all."
    )


def result_message(text: str) -> Message:
    """Return a step's result as later steps are told it, cut when it is long."""
    if len(text) > MAX_RESULT_CHARACTERS:
        text = text[:MAX_RESULT_CHARACTERS] + " …"
    return said(text)
