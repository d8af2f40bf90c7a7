"""How much of a conversation a model gets to see."""

from collections.abc import Collection, Sequence
from typing import Final

from meshwright_orchestrator.domain.conversation import Image, Message, Part, Role

BYTES_PER_TOKEN: Final = 3
"""English has about four bytes a token, Chinese about three: the lower one is on the safe side."""
MOST_BYTES: Final = 4
"""Of a character in UTF-8."""
IMAGE_TOKENS: Final = 1_000
"""What providers charge for an image, roughly."""
MESSAGE_TOKENS: Final = 4
"""What a provider adds around each message."""


def estimated_tokens(message: Message) -> int:
    """Return about how many tokens a message takes."""
    size = len(message.name) + sum(
        len(call.name) + len(call.arguments_json.encode()) for call in message.tool_calls
    )
    tokens = sum(_part_tokens(part) for part in message.parts)
    return MESSAGE_TOKENS + tokens + size // BYTES_PER_TOKEN


def _part_tokens(part: Part) -> int:
    if isinstance(part, Image):
        return IMAGE_TOKENS
    return len(part.text.encode()) // BYTES_PER_TOKEN + 1


def fitted(
    messages: Sequence[Message], pinned: Collection[int], max_tokens: int
) -> tuple[Message, ...]:
    """Return `messages` without the oldest ones that do not fit `max_tokens`.

    Tool exchanges go or stay whole. Always kept, whatever their size: system messages, those with
    the indexes `pinned`, such as the question, and the last exchange.
    """
    if _surely_fit(messages, max_tokens):
        return tuple(messages)
    groups = _groups(messages)
    kept = _kept(messages, groups, pinned, max_tokens)
    return tuple(message for group in kept for message in messages[group.start : group.stop])


def newest(messages: Sequence[Message], most: int) -> tuple[Message, ...]:
    """Return the newest `most` messages, and the system messages of before, which do not count.

    Tool exchanges go or stay whole, and the last one always stays.
    """
    kept: list[range] = []
    left = most
    for group in reversed(_groups(messages)):
        if messages[group.start].role is Role.SYSTEM:
            kept.append(group)
            continue
        left -= len(group)
        if left >= 0 or not kept:
            kept.append(group)
    return tuple(message for group in kept[::-1] for message in messages[group.start : group.stop])


def _surely_fit(messages: Sequence[Message], max_tokens: int) -> bool:
    """Return whether all fit if each character takes the most bytes: quick, for every step."""
    characters = tokens = 0
    for message in messages:
        tokens += MESSAGE_TOKENS
        characters += len(message.name)
        for part in message.parts:
            if isinstance(part, Image):
                tokens += IMAGE_TOKENS
            else:
                tokens += 1
                characters += len(part.text)
        for call in message.tool_calls:
            characters += len(call.name) + len(call.arguments_json)
    return tokens + characters * MOST_BYTES // BYTES_PER_TOKEN <= max_tokens


def _kept(
    messages: Sequence[Message],
    groups: Sequence[range],
    pinned_messages: Collection[int],
    max_tokens: int,
) -> Sequence[range]:
    sizes = [sum(estimated_tokens(messages[index]) for index in group) for group in groups]
    pinned = [
        any(index in group for index in pinned_messages)
        or messages[group.start].role is Role.SYSTEM
        or group is groups[-1]
        for group in groups
    ]
    left = max_tokens - sum(size for size, pin in zip(sizes, pinned, strict=True) if pin)
    kept: list[range] = []
    full = False
    for group, size, pin in reversed(list(zip(groups, sizes, pinned, strict=True))):
        if not pin:
            # Once one does not fit, everything older goes: no holes in the middle.
            full = full or size > left
            left -= size
        if pin or not full:
            kept.append(group)
    return kept[::-1]


def _groups(messages: Sequence[Message]) -> list[range]:
    """Return ranges of messages that belong together: a call and its results, else one each."""
    groups: list[range] = []
    for index, message in enumerate(messages):
        if message.role is Role.TOOL and groups:
            groups[-1] = range(groups[-1].start, index + 1)
        else:
            groups.append(range(index, index + 1))
    return groups
