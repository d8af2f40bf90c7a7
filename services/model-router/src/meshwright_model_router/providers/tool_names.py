"""Names of tools on their way to a provider and back."""

import re
from collections.abc import Iterable
from typing import Final

from meshwright_model_router.domain.conversation import ToolDefinition

_FORBIDDEN_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


class ToolNames:
    """Tool names as providers allow them, and back: ours may hold dots, theirs may not."""

    def __init__(self, tools: Iterable[ToolDefinition]) -> None:
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        for tool in tools:
            theirs = _FORBIDDEN_IN_NAMES.sub("_", tool.name)
            if theirs in self._ours:
                theirs = f"{theirs[:60]}_{len(self._ours)}"
            self._theirs[tool.name] = theirs
            self._ours[theirs] = tool.name

    def encode(self, name: str) -> str:
        """Return the provider's form of a name."""
        return self._theirs.get(name) or _FORBIDDEN_IN_NAMES.sub("_", name)

    def decode(self, name: str) -> str:
        """Return our form of a name the model wrote; one it invented stays as it is."""
        return self._ours.get(name, name)
