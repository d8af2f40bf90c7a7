"""What the offline model reads of a prompt: the question, what came before, what tools answered."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from meshwright_model_router.domain.conversation import Message, Prompt, Role, ToolCall
from meshwright_model_router.providers.offline.passages import (
    Passage,
    passages_in,
    passages_of_search,
)
from meshwright_model_router.providers.words.analysis import WIDE

_WIDE: Final = re.compile(f"[{WIDE}]")
_LETTER: Final = re.compile(r"[^\W\d_]")
_CHINESE_SHARE: Final = 0.3
_FIELD: Final = re.compile(r'"(\w+)":\s*("(?:[^"\\]|\\.)*"?|[\d.]+|true|false|null)', re.DOTALL)
_NOTES: Final = re.compile(r"^About the user:\n((?:- .*(?:\n|\Z))+)", re.MULTILINE)
_CUT_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?$")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A call since the last question, with what came back: decoded JSON, else the text."""

    call: ToolCall
    content: object


class Conversation:
    """A prompt as the offline model sees it."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        messages = prompt.messages
        asked = [at for at, message in enumerate(messages) if message.role is Role.USER]
        self._question_at = asked[-1] if asked else -1

    @cached_property
    def question(self) -> str:
        """What the user said last."""
        return self._question_message.text.strip() if self._question_at >= 0 else ""

    @property
    def images(self) -> int:
        """Number of images sent with the question."""
        return self._question_message.images if self._question_at >= 0 else 0

    @property
    def _question_message(self) -> Message:
        return self.prompt.messages[self._question_at]

    @cached_property
    def earlier(self) -> list[str]:
        """What the user said before, oldest first."""
        before = self.prompt.messages[: max(self._question_at, 0)]
        return [message.text for message in before if message.role is Role.USER and message.text]

    @cached_property
    def notes(self) -> list[str]:
        """What an agent says to know about the user: a list in its instructions."""
        instructions = [one.text for one in self.prompt.messages if one.role is Role.SYSTEM]
        found = _NOTES.search("\n\n".join(instructions))
        return [] if found is None else [line[2:] for line in found[1].splitlines()]

    @property
    def first_turn(self) -> bool:
        """True when the assistant has said nothing yet."""
        return not any(
            message.role is Role.ASSISTANT and message.text for message in self.prompt.messages
        )

    @cached_property
    def chinese(self) -> bool:
        """True when the answer should be in Chinese."""
        letters = len(_LETTER.findall(self.question))
        return bool(letters) and len(_WIDE.findall(self.question)) >= _CHINESE_SHARE * letters

    @cached_property
    def results(self) -> list[ToolResult]:
        """What tools answered since the question, in order."""
        since = self.prompt.messages[self._question_at + 1 :]
        calls = {call.id: call for message in since for call in message.tool_calls}
        return [
            ToolResult(calls[message.tool_call_id], _decoded(message.text))
            for message in since
            if message.role is Role.TOOL and message.tool_call_id in calls
        ]

    @cached_property
    def passages(self) -> list[Passage] | None:
        """The passages to answer from: those of a search since the question, else the prompt's.

        None: there was nothing to search.
        """
        for result in reversed(self.results):
            if (found := passages_of_search(result.content)) is not None:
                return found
        return passages_in(self.prompt.messages)


def _decoded(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict) and isinstance(value.get("truncated"), str):
        return _salvaged(value["truncated"]) or value
    return value


def _salvaged(start: str) -> dict[str, object]:
    """Return the fields of a JSON object of which only the start is left; the last may be cut."""
    fields: dict[str, object] = {}
    for name, value in _FIELD.findall(start):
        whole = value
        if value.startswith('"') and not (len(value) > 1 and value.endswith('"')):
            whole = _CUT_ESCAPE.sub("", value) + '"'
        try:
            fields[name] = json.loads(whole)
        except ValueError:
            fields[name] = value.strip('"')
    return fields
