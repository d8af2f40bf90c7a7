"""The offline model as a caller has it, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar, Final

import pytest

from meshwright_model_router.domain.conversation import (
    JsonObject,
    Message,
    Prompt,
    Role,
    ToolCall,
    ToolDefinition,
)
from meshwright_model_router.domain.output import Ended, Opened, Piece
from meshwright_model_router.domain.tally import Tally
from meshwright_model_router.providers.offline.chat import OfflineChat


def text_schema(*names: str, required: bool = True) -> JsonObject:
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names) if required else [],
    }


CALCULATOR = ToolDefinition("calculator", "Compute.", text_schema("expression"))
CLOCK = ToolDefinition("current_time", "Tell the time.", text_schema("zone", required=False))
HTTP_GET = ToolDefinition("http_get", "Fetch an address.", text_schema("url"))
SEARCH = ToolDefinition("knowledge_search", "Find passages.", text_schema("query"))
WEATHER = ToolDefinition(
    "get_weather",
    "Get the weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
    },
)
TOOLS = (CALCULATOR, CLOCK, HTTP_GET, SEARCH, WEATHER)
PASSAGES: Final = """You answer from passages.

Passages:
[1] handbook.pdf, page 7
Every employee gets thirty days of paid vacation a year. Unused days expire in March.

[2] notes.md
The office is in Berlin.
"""


class Said:
    """What the model said to a prompt."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.pieces: list[Piece] = []
        self.ended: Ended | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return self.tally.tool_calls


class Offline:
    """Makes prompts and takes answers."""

    TOOLS: ClassVar[tuple[ToolDefinition, ...]] = TOOLS
    PASSAGES: ClassVar[str] = PASSAGES

    async def say(self, prompt: Prompt) -> Said:
        """Return what the model says to a prompt."""
        said = Said()
        stream = OfflineChat().stream("offline", prompt, seconds_left=None)
        outputs = [output async for output in stream]
        assert outputs[0] == Opened("offline")
        for output in outputs[1:-1]:
            assert isinstance(output, Piece)
            said.tally.add(output)
            said.pieces.append(output)
        assert isinstance(outputs[-1], Ended)
        said.ended = outputs[-1]
        return said

    def asked(self, *texts: str, tools: Sequence[ToolDefinition] = (), system: str = "") -> Prompt:
        """Return a conversation in which the model answered "ok" so far."""
        messages = [Message(Role.SYSTEM, (system,))] if system else []
        for text in texts[:-1]:
            messages += [Message(Role.USER, (text,)), Message(Role.ASSISTANT, ("ok",))]
        return Prompt((*messages, Message(Role.USER, (texts[-1],))), tuple(tools))

    async def answered(self, question: str, result: object, *, system: str = "") -> str:
        """Return the answer after the tool that the question calls has returned `result`."""
        prompt = self.asked(question, tools=TOOLS, system=system)
        calls = (await self.say(prompt)).calls
        results = tuple(
            Message(Role.TOOL, (json.dumps(result),), tool_call_id=call.id) for call in calls
        )
        messages = (*prompt.messages, Message(Role.ASSISTANT, (), calls), *results)
        said = await self.say(Prompt(messages, TOOLS))
        assert said.calls == ()
        return said.text


@pytest.fixture
def offline() -> Offline:
    """The offline model."""
    return Offline()
