"""The built-in model: no key, no network, the same answer to the same prompt."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from meshwright_model_router.domain.conversation import OutputFormat, Prompt, ToolCall
from meshwright_model_router.domain.errors import ContextLengthExceeded
from meshwright_model_router.domain.output import (
    Ended,
    FinishReason,
    Opened,
    Piece,
    ProviderOutput,
    ReportedUsage,
    ToolCallPiece,
)
from meshwright_model_router.domain.tokens import count_prompt, count_text
from meshwright_model_router.providers.offline.answering import answer, has_something_to_say
from meshwright_model_router.providers.offline.conversation import Conversation
from meshwright_model_router.providers.offline.schema_values import value_for
from meshwright_model_router.providers.offline.tool_plan import plan
from meshwright_model_router.providers.words.analysis import WIDE, prepare

CONTEXT_WINDOW: Final = 262_144
"""Tokens. Nothing in the model depends on it; a request of 1 MiB of text fits."""

_PIECE: Final = re.compile(rf"[{WIDE}]{{1,2}}[^\w\s]*\s*|(?:(?![{WIDE}])\S)+\s*|\s+")
"""Words with the blanks after them; scripts without blanks two characters at a time."""


class OfflineChat:
    """ChatProvider without a provider."""

    async def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        prompt_tokens = count_prompt(prompt.messages, prompt.tools)
        if prompt_tokens > CONTEXT_WINDOW:
            raise ContextLengthExceeded(
                f"The conversation has {prompt_tokens} tokens, more than {CONTEXT_WINDOW}.",
                limit_tokens=str(CONTEXT_WINDOW),
            )
        yield Opened(model)
        await prepare(message.text for message in prompt.messages)
        conversation = Conversation(prompt)
        calls = plan(conversation)
        if calls:
            async for piece in _call_pieces(calls):
                yield piece
            produced = sum(
                count_text(call.name) + count_text(call.arguments_json) for call in calls
            )
            yield Ended(FinishReason.TOOL_CALLS, ReportedUsage(prompt_tokens, produced))
            return
        text, reason = _limited(_formed(prompt, conversation), prompt)
        for word in _PIECE.findall(text):
            yield Piece(text=word)
            # Other calls get their turn; there is nothing else to wait for.
            await asyncio.sleep(0)
        yield Ended(reason, ReportedUsage(prompt_tokens, count_text(text)))


async def _call_pieces(calls: Sequence[ToolCall]) -> AsyncGenerator[Piece, None]:
    for index, call in enumerate(calls):
        yield Piece(tool_calls=(ToolCallPiece(index, call.id, call.name),))
        for part in _PIECE.findall(call.arguments_json):
            yield Piece(tool_calls=(ToolCallPiece(index, arguments=part),))
        await asyncio.sleep(0)


def _formed(prompt: Prompt, conversation: Conversation) -> str:
    """Return the answer in the form that was asked for."""
    text = answer(conversation)
    if prompt.output_format is OutputFormat.TEXT:
        return text
    value: object = {"answer": text}
    schema = prompt.output_schema
    if prompt.output_format is OutputFormat.JSON_SCHEMA and schema is not None:
        # Who wants data wants no introduction of the model in it.
        said = text if has_something_to_say(conversation) else ""
        value = value_for(schema, conversation.question, said)
    return json.dumps(value, ensure_ascii=False)


def _limited(text: str, prompt: Prompt) -> tuple[str, FinishReason]:
    """Return the text up to its first stop sequence and its limit of tokens."""
    ends = [at for stop in prompt.options.stop_sequences if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    limit = prompt.options.max_output_tokens
    if limit is None or count_text(text) <= limit:
        return text, FinishReason.STOP
    kept = ""
    for word in _PIECE.findall(text):
        if count_text(kept + word) > limit:
            break
        kept += word
    return kept, FinishReason.LENGTH
