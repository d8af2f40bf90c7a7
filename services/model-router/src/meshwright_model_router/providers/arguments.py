"""Arguments of tool calls in a history, for protocols that take objects only."""

from typing import Any, Final

import msgspec

INVALID: Final = "invalid_json"
"""Where arguments stand that a model wrote and nobody can read."""


def parsed_arguments(text: str) -> dict[str, Any]:
    """Return the arguments as an object; what is none stands under `invalid_json`."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {INVALID: text}
    return value if isinstance(value, dict) else {INVALID: text}
