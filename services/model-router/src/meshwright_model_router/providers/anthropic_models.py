"""What a model of Anthropic's takes, by its version; the API refuses what it does not know.

Names hold the version before or after the family, and often a date: `claude-3-7-sonnet-20250219`,
`claude-haiku-4-5-20251001`, `claude-opus-4-7`. Other names (an alias, another vendor behind the
same protocol) get what has been there longest. The thresholds are those of Anthropic's pages on
thinking and structured outputs.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

ADAPTIVE_THINKING: Final = (4, 6)
"""From here on thinking is adaptive; a budget of tokens is refused by the versions after it."""
NO_SAMPLING: Final = (4, 7)
"""From here on temperature and top_p are refused."""
NATIVE_SCHEMA: Final = (4, 5)
"""From here on output_config.format holds the answer to a JSON schema."""

_NUMBER: Final = re.compile(r"(?<!\d)\d{1,2}(?!\d)")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model takes."""

    adaptive_thinking: bool = False
    sampling: bool = True
    native_schema: bool = False


@lru_cache(maxsize=256)
def traits_of(model: str) -> Traits:
    """Return what the model of this name takes."""
    _, found, rest = model.partition("claude")
    numbers = [int(number) for number in _NUMBER.findall(rest)]
    if not found or not numbers:
        return Traits()
    version = (numbers[0], numbers[1] if len(numbers) > 1 else 0)
    return Traits(
        adaptive_thinking=version >= ADAPTIVE_THINKING,
        sampling=version < NO_SAMPLING,
        native_schema=version >= NATIVE_SCHEMA,
    )
