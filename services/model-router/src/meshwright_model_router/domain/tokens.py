"""Counting tokens without the model's own tokenizer.

An estimate on purpose: four characters a token in scripts with spaces, one character a token in
Chinese, Japanese and Korean. It errs on the high side for Chinese with recent tokenizers.
"""

import re
from collections.abc import Iterable
from typing import Final

from meshwright_model_router.domain.conversation import Message, ToolDefinition

CHARACTERS_PER_TOKEN: Final = 4
MESSAGE_OVERHEAD_TOKENS: Final = 4
"""What the chat templates of providers put around a message."""
IMAGE_TOKENS: Final = 765
"""An image of 1024 x 1024 at high detail, as OpenAI counts it."""

# Kana, CJK with extension A, compatibility forms, Hangul, full-width forms, further planes.
_WIDE: Final = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)


def count_text(text: str) -> int:
    """Return the tokens of `text`; 0 for the empty text only."""
    if text.isascii():
        return -(-len(text) // CHARACTERS_PER_TOKEN)
    narrow = _WIDE.sub("", text)
    return len(text) - len(narrow) + -(-len(narrow) // CHARACTERS_PER_TOKEN)


def is_wide(char: str) -> bool:
    """Return whether a character is of a script that sets no blanks between words."""
    return _WIDE.match(char) is not None


def count_prompt(messages: Iterable[Message], tools: Iterable[ToolDefinition] = ()) -> int:
    """Return the tokens of a conversation and of the tools sent along."""
    total = 0
    for message in messages:
        total += MESSAGE_OVERHEAD_TOKENS + count_text(message.text)
        total += message.images * IMAGE_TOKENS
        for call in message.tool_calls:
            total += count_text(call.name) + count_text(call.arguments_json)
    for tool in tools:
        schema = str(tool.parameters)
        total += count_text(tool.name) + count_text(tool.description) + count_text(schema)
    return total
