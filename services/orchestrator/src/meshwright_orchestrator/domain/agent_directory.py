"""Which agents there are for a tenant, and which version of one answers a new task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_orchestrator.domain.agents import (
    BUILTIN_VERSION,
    AgentSpec,
    AgentType,
    BuiltinAgents,
)
from meshwright_orchestrator.domain.errors import AgentNotFound


class Graphs(Protocol):
    """Graphs that are installed beside the platform."""

    async def descriptions(self) -> Mapping[str, str]:
        """Return what each graph is good for, by its name as an agent."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers a new task: kind of work, version, and the definition if there is one.

    `version` stands in the limits of the task for good, so that every attempt finds the same.
    """

    kind: str
    version: int = BUILTIN_VERSION
    spec: AgentSpec | None = None


class DefinedAgents(Protocol):
    """The agents that tenants defined."""

    async def choose(self, tenant_id: str, name: str, key: str) -> AgentSpec | None:
        """Return the version that answers new tasks of `key`, None when there is no such agent."""
        ...

    async def version(self, tenant_id: str, name: str, version: int) -> AgentSpec | None:
        """Return a version, which never changes."""
        ...


class NoDefinedAgents:
    """Where nobody can define one."""

    async def choose(self, tenant_id: str, name: str, key: str) -> AgentSpec | None:
        return None

    async def version(self, tenant_id: str, name: str, version: int) -> AgentSpec | None:
        return None


NONE_DEFINED: Final = NoDefinedAgents()


class JoinedAgents(Protocol):
    """The agents that joined from outside."""

    async def description(self, tenant_id: str, name: str) -> str | None:
        """Return what an agent is good for, None when there is none of this name."""
        ...


class NoJoinedAgents:
    """Where nobody can join."""

    async def description(self, tenant_id: str, name: str) -> str | None:
        return None


NONE_JOINED: Final = NoJoinedAgents()


class AgentDirectory:
    """Every agent there is. A graph cannot take the name of a built-in agent, a definition neither
    that of one nor that of a graph; a graph that is installed later goes first. Who joins from
    outside takes a name that nobody has.

    `unlisted` agents can be asked by name and are shown to nobody.
    """

    def __init__(
        self,
        builtin: BuiltinAgents,
        graphs: Graphs,
        unlisted: Iterable[str] = (),
        defined: DefinedAgents = NONE_DEFINED,
        joined: JoinedAgents = NONE_JOINED,
    ) -> None:
        self.builtin = builtin
        self._graphs = graphs
        self._unlisted = frozenset(unlisted)
        self._defined = defined
        self._joined = joined

    async def pick(self, tenant_id: str, name: str, key: str) -> Choice:
        """Return who answers a new task: `key`, its session or itself, always gets the same version
        while the shares of traffic stay as they are.

        Raises: AgentNotFound, Unavailable.
        """
        if name in self._unlisted:
            return Choice(AgentType.CHAT.value)
        if name in self.builtin:
            spec = self.builtin.find(name)
            return Choice(spec.type.value, spec=spec)
        if name in await self.graphs():
            return Choice(AgentType.GRAPH.value)
        chosen = await self._defined.choose(tenant_id, name, key)
        if chosen is None:
            if await self._joined.description(tenant_id, name) is None:
                raise AgentNotFound(agent=name)
            return Choice(AgentType.REMOTE.value)
        return Choice(chosen.type.value, chosen.version, chosen)

    async def find(self, tenant_id: str, name: str, version: int) -> AgentSpec:
        """Return what a task was accepted for. Raises: AgentNotFound, Unavailable."""
        if version == BUILTIN_VERSION:
            return self.builtin.find(name)
        found = await self._defined.version(tenant_id, name, version)
        if found is None:
            raise AgentNotFound(agent=name)
        return found

    async def require(self, tenant_id: str, name: str) -> None:
        """Raises: AgentNotFound when the tenant has no such agent; Unavailable."""
        await self.pick(tenant_id, name, "")

    async def graphs(self) -> Mapping[str, str]:
        """Return the descriptions of the graphs by name."""
        found = await self._graphs.descriptions()
        return {name: text for name, text in found.items() if name not in self.builtin}

    async def descriptions(self, tenant_id: str, names: Iterable[str]) -> Mapping[str, str]:
        """Return what each of these agents is good for, by name; those that are gone are left out.

        Raises: Unavailable.
        """
        found: dict[str, str] = {}
        for name in names:
            try:
                choice = await self.pick(tenant_id, name, "")
            except AgentNotFound:
                continue
            if choice.spec is not None:
                found[name] = choice.spec.description
            elif choice.kind == AgentType.REMOTE.value:
                found[name] = await self._joined.description(tenant_id, name) or ""
            else:
                found[name] = (await self.graphs()).get(name, "")
        return found

    async def is_taken(self, tenant_id: str, name: str) -> bool:
        """Return whether the name belongs to an agent that the tenant cannot define."""
        if await self.comes_along(name):
            return True
        return await self._joined.description(tenant_id, name) is not None

    async def comes_along(self, name: str) -> bool:
        """Return whether the name belongs to an agent that comes with the platform."""
        return name in self._unlisted or name in self.builtin or await self.is_graph(name)

    async def is_graph(self, name: str) -> bool:
        """Return whether the name belongs to an installed graph."""
        return name in await self.graphs()
