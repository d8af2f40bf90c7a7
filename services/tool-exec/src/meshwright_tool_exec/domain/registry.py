"""Which tools exist, and who may use them."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from meshwright_common.context import Principal
from meshwright_tool_exec.domain.errors import ToolNotFound
from meshwright_tool_exec.domain.models import CallScope, ToolOutput, ToolSpec

Run = Callable[[dict[str, object], CallScope], Awaitable[ToolOutput]]
"""Does a tool's work on checked arguments. Raises ToolFailed or another ServiceError."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and the function behind it."""

    spec: ToolSpec
    run: Run


class Registry:
    """The tools of this process. A tool that a caller may not use looks absent to it."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}

    def visible(self, caller: Principal, names: Collection[str] = ()) -> Sequence[ToolSpec]:
        """Return the tools `caller` may use, by name; only `names` when given."""
        return [
            tool.spec
            for name, tool in sorted(self._tools.items())
            if _may_use(caller, tool.spec) and (not names or name in names)
        ]

    def find(self, caller: Principal, name: str) -> Tool:
        """Return the tool. Raises: ToolNotFound also when `caller` may not use it."""
        tool = self._tools.get(name)
        if tool is None or not _may_use(caller, tool.spec):
            raise ToolNotFound(tool=name)
        return tool


def _may_use(caller: Principal, spec: ToolSpec) -> bool:
    return not spec.permission or caller.has(spec.permission)
