"""Which tools exist, and who may use them."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_common.context import Principal
from meshwright_tool_exec.domain import arguments
from meshwright_tool_exec.domain.errors import ToolNotFound
from meshwright_tool_exec.domain.models import (
    CallScope,
    JsonObject,
    Source,
    ToolOutput,
    ToolSpec,
)

Run = Callable[[dict[str, object], CallScope], Awaitable[ToolOutput]]
"""Does a tool's work on checked arguments. Raises ToolFailed or another ServiceError."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and the function behind it."""

    spec: ToolSpec
    run: Run
    check: Callable[[dict[str, object], JsonObject], None] = arguments.check
    """Raises ToolArgumentsInvalid for arguments that do not fit the schema."""


class TenantTools(Protocol):
    """Tools that come and go while the process runs."""

    def tools_of(self, tenant_id: str) -> Mapping[str, Tool]:
        """Return a tenant's tools by name; of "" those of everybody."""
        ...


class Registry:
    """The tools of this process. A tool that a caller may not use looks absent to it."""

    def __init__(self, tools: Iterable[Tool], tenants: TenantTools | None = None) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._tenants = tenants

    def visible(self, caller: Principal, names: Collection[str] = ()) -> Sequence[ToolSpec]:
        """Return the tools `caller` may use, by name; only `names` when given."""
        return [
            tool.spec
            for name, tool in sorted(self._all(caller.tenant_id).items())
            if _may_use(caller, tool.spec) and (not names or name in names)
        ]

    def find(self, caller: Principal, name: str) -> Tool:
        """Return the tool. Raises: ToolNotFound also when `caller` may not use it."""
        tool = self._all(caller.tenant_id).get(name)
        if tool is None or not _may_use(caller, tool.spec):
            raise ToolNotFound(tool=name)
        return tool

    def source_of(self, caller: Principal, name: str) -> Source | None:
        """Return where a tool comes from, None when there is none of this name."""
        tool = self._all(caller.tenant_id).get(name)
        return None if tool is None else tool.spec.source

    def _all(self, tenant_id: str) -> Mapping[str, Tool]:
        if self._tenants is None:
            return self._tools
        own, everybodys = self._tenants.tools_of(tenant_id), self._tenants.tools_of("")
        if not own and not everybodys:
            return self._tools
        return {**own, **everybodys, **self._tools}


def _may_use(caller: Principal, spec: ToolSpec) -> bool:
    return not spec.permission or caller.has(spec.permission)
