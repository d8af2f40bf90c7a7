"""Defining agents: the rules of versions and shares, and the desk where tenants do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common.context import Principal
from meshwright_common.errors import FailedPrecondition, invalid
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.approvals import ASK_PERSON
from meshwright_orchestrator.domain.definitions import (
    NO_SHARES,
    WHOLE,
    AgentHead,
    AgentVersion,
    Definition,
    NewVersion,
    Shares,
)
from meshwright_orchestrator.domain.errors import (
    AgentExists,
    TooManyAgents,
    VersionConflict,
)

MAX_AGENTS: Final = 1_000
"""Of a tenant."""
MAX_VERSIONS: Final = 1_000
"""Of an agent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What defining changes: the version that the definition has then, and everybody's share."""

    version: int
    is_new: bool
    shares: Shares


def planned(head: AgentHead | None, new: NewVersion, *, is_newest: bool, agents: int) -> Plan:
    """Return what `new` does to an agent; `is_newest`: its newest version says the same already.
    `agents`: how many the tenant has.

    Raises: VersionConflict, TooManyAgents, FailedPrecondition.
    """
    newest = 0 if head is None else head.newest
    if new.expected is not None and new.expected != newest:
        raise VersionConflict(agent=new.name, newest=str(newest), expected=str(new.expected))
    if head is None and agents >= MAX_AGENTS:
        raise TooManyAgents(limit=str(MAX_AGENTS))
    if newest >= MAX_VERSIONS and not is_newest:
        raise TooManyAgents(f"an agent has at most {MAX_VERSIONS} versions")
    version = newest if is_newest else newest + 1
    share = WHOLE if version == 1 or new.share is None else new.share
    before = NO_SHARES if head is None else head.shares
    shares = before.with_share(version, share)
    if shares is None:
        raise FailedPrecondition(
            "no other version has a share of the traffic: traffic_percent must be 100; roll back"
            " to a version first to give it some"
        )
    return Plan(version, is_new=not is_newest, shares=shares)


class AgentStore(Protocol):
    """The agents that tenants defined, with all their versions."""

    async def define(self, caller: Principal, new: NewVersion) -> AgentVersion:
        """Store a definition by `planned`, with its audit record; a known request_id returns what
        it made. Raises: as `planned`; RequestIdReused.
        """
        ...

    async def roll_back(self, tenant_id: str, name: str, version: int) -> AgentHead:
        """Give a version all new tasks. Raises: AgentNotFound, VersionNotFound."""
        ...

    async def head(self, tenant_id: str, name: str) -> AgentHead:
        """Raises: AgentNotFound."""
        ...

    async def heads(
        self, tenant_id: str, *, after: str, types: Sequence[AgentType], limit: int
    ) -> Sequence[AgentHead]:
        """Return agents by name, those after the name `after`. No `types`: of all."""
        ...

    async def stored(self, tenant_id: str, name: str, version: int) -> AgentVersion:
        """Raises: AgentNotFound, VersionNotFound."""
        ...

    async def versions(
        self, tenant_id: str, name: str, *, before: int, limit: int
    ) -> Sequence[AgentVersion]:
        """Return versions, newest first, those below `before`. Raises: AgentNotFound."""
        ...


class Neighbourhood(Protocol):
    """What a definition may name, as far as the caller may see it: what is not for the caller to
    see counts as there.
    """

    async def unknown_tools(self, names: Sequence[str]) -> Sequence[str]:
        """Return those of the tools that the caller's tenant does not have."""
        ...

    async def unknown_models(self, names: Sequence[str]) -> Sequence[str]:
        """Return those of the models that nobody serves for the caller's tenant."""
        ...

    async def unknown_guards(self, names: Sequence[str]) -> Sequence[str]:
        """Return those of the guards that neither the tenant has nor the operator."""
        ...


class AgentDesk:
    """What callers may do with definitions."""

    def __init__(
        self, directory: AgentDirectory, store: AgentStore, neighbourhood: Neighbourhood
    ) -> None:
        self._directory = directory
        self._store = store
        self._neighbourhood = neighbourhood

    async def define(self, caller: Principal, new: NewVersion) -> AgentVersion:
        """Define an agent, or its next version.

        Raises: AgentExists when the name is somebody else's; InvalidArgument for a tool, model or
        guard that there is not; VersionConflict, RequestIdReused, TooManyAgents,
        FailedPrecondition, Unavailable.
        """
        if await self._directory.is_taken(caller.tenant_id, new.name):
            raise AgentExists(agent=new.name)
        await self._check(new.definition)
        return await self._store.define(caller, new)

    async def roll_back(self, caller: Principal, name: str, version: int) -> AgentHead:
        """Give all new tasks to a version. Raises: AgentNotFound, VersionNotFound;
        FailedPrecondition for an agent that nobody defined.
        """
        if await self._directory.is_taken(caller.tenant_id, name):
            raise FailedPrecondition(f"{name} was not defined by this tenant: it has no versions")
        return await self._store.roll_back(caller.tenant_id, name, version)

    async def versions(
        self, caller: Principal, name: str, *, before: int, limit: int
    ) -> Sequence[AgentVersion]:
        """Return versions of a defined agent, newest first. Raises: AgentNotFound."""
        return await self._store.versions(caller.tenant_id, name, before=before, limit=limit)

    async def heads(
        self, caller: Principal, *, after: str, types: Sequence[AgentType], limit: int
    ) -> Sequence[AgentHead]:
        """Return the tenant's agents by name."""
        return await self._store.heads(caller.tenant_id, after=after, types=types, limit=limit)

    async def in_use(self, caller: Principal, name: str) -> tuple[AgentHead, AgentVersion]:
        """Return an agent with its newest version in use. Raises: AgentNotFound."""
        head = await self._store.head(caller.tenant_id, name)
        version = await self._store.stored(caller.tenant_id, name, head.shares.newest)
        return head, version

    async def _check(self, definition: Definition) -> None:
        near = self._neighbourhood
        tools = [name for name in definition.tools if name != ASK_PERSON]
        _refuse(await near.unknown_tools(tools), "tool", {"tools": definition.tools})
        model = (definition.model,) if definition.model else ()
        models = (*model, *definition.fallback_models)
        policy = {
            "model_policy.fallback_models": definition.fallback_models,
            "model_policy.model": model,
        }
        _refuse(await near.unknown_models(models) if models else (), "model", policy)
        sides = {
            "input_guards": definition.input_guards,
            "output_guards": definition.output_guards,
        }
        guards = (*definition.input_guards, *definition.output_guards)
        _refuse(await near.unknown_guards(guards) if guards else (), "guard", sides)


def _refuse(unknown: Sequence[str], thing: str, fields: Mapping[str, Sequence[str]]) -> None:
    """Raises: InvalidArgument naming the first of the fields that has an unknown name."""
    for field, names in fields.items():
        for index, name in enumerate(names):
            if name in unknown:
                place = "" if field.endswith(".model") else f"[{index}]"
                raise invalid(f"definition.{field}{place}", f"there is no {thing} named {name}")
