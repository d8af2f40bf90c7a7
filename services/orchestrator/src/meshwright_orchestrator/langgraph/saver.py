"""Where a graph's state rests while it is interrupted, within one attempt: in memory, as copies.

Nothing of it is stored. What lasts is the journal: the next attempt runs the graph again, with the
journaled answers of models, tools and people, and comes to the same state.
"""

import copy
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver


class Copies:
    """Keeps values as copies instead of bytes, and those that cannot be copied as they are."""

    def dumps_typed(self, obj: Any) -> tuple[str, Any]:
        return "copy", _copy(obj)

    def loads_typed(self, data: tuple[str, Any]) -> Any:
        return _copy(data[1])


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    # house: broad-except: what a graph's own objects raise when they are copied is their own, too
    except Exception:
        return value


def attempt_saver() -> InMemorySaver:
    """Return a checkpointer for one attempt of one task."""
    return InMemorySaver(serde=Copies())
