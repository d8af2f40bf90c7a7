"""What an agent is: data that one decider reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from meshwright_orchestrator.domain.conversation import ToolUse
from meshwright_orchestrator.domain.errors import AgentNotFound

SUMMARY: Final = "summary"
"""Summarises turns of a session. chat submits its tasks; it is listed to nobody."""
UNANNOUNCED: Final = frozenset({SUMMARY})
"""Agents whose tasks nobody handed in by hand: their ends are no notification."""


class AgentType(StrEnum):
    """How an agent works, as orchestrator/v1/agent.proto names it."""

    CHAT = "chat"
    RAG = "rag"
    TOOL_CALL = "tool_call"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A built-in agent. `recalls`: it searches the documents before the first model call;
    `remembers`: it asks what is remembered of the user.

    `first_tool_use` holds for the first model call, AUTO for the later ones.
    """

    name: str
    description: str
    type: AgentType
    instructions: str
    recalls: bool = False
    remembers: bool = False
    first_tool_use: ToolUse = ToolUse.AUTO


class BuiltinAgents:
    """The agents that come with the platform, by name."""

    def __init__(self, specs: Iterable[AgentSpec]) -> None:
        self._specs: Mapping[str, AgentSpec] = {spec.name: spec for spec in specs}

    def find(self, name: str) -> AgentSpec:
        """Return the agent. Raises: AgentNotFound."""
        spec = self._specs.get(name)
        if spec is None:
            raise AgentNotFound(agent=name)
        return spec

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def all(self) -> Sequence[AgentSpec]:
        """Return all of them by name."""
        return [self._specs[name] for name in sorted(self._specs)]


class Graphs(Protocol):
    """Graphs that are installed beside the platform."""

    async def descriptions(self) -> Mapping[str, str]:
        """Return what each graph is good for, by its name as an agent."""
        ...


class AgentDirectory:
    """Every agent there is. A graph cannot take the name of a built-in agent.

    `unlisted` agents can be asked by name and are shown to nobody.
    """

    def __init__(
        self, builtin: BuiltinAgents, graphs: Graphs, unlisted: Iterable[str] = ()
    ) -> None:
        self.builtin = builtin
        self._graphs = graphs
        self._unlisted = frozenset(unlisted)

    def kind_of(self, name: str) -> str:
        """Return the kind of work that the tasks of an agent are: its type."""
        if name in self._unlisted:
            return AgentType.CHAT.value
        return (self.builtin.find(name).type if name in self.builtin else AgentType.GRAPH).value

    async def graphs(self) -> Mapping[str, str]:
        """Return the descriptions of the graphs by name."""
        found = await self._graphs.descriptions()
        return {name: text for name, text in found.items() if name not in self.builtin}

    async def require(self, name: str) -> None:
        """Raises: AgentNotFound when there is no such agent."""
        if name in self._unlisted or name in self.builtin:
            return
        if name not in await self.graphs():
            raise AgentNotFound(agent=name)
