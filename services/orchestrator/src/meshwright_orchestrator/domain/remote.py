"""Agents that joined from outside: their instances, who of them is next, and joining."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from meshwright_common.context import Principal
from meshwright_common.errors import Aborted, NotFound, ResourceExhausted, Unavailable
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.errors import AgentExists

MAX_INSTANCES: Final = 1_000
"""Of a tenant, those that left not counted."""
SILENT_BEATS: Final = 3
"""Heartbeats that an instance may miss."""


class InstanceState(StrEnum):
    """State of an instance, as orchestrator/v1/agent.proto describes it."""

    ONLINE = "online"
    DRAINING = "draining"
    UNKNOWN = "unknown"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class AgentLoad:
    """How busy an instance is by its own account: shares in [0, 1], and tasks that have not ended.

    `error_rate` is the failed share of the last minute's tasks.
    """

    cpu_free: float
    memory_free: float
    pending: int
    error_rate: float


@dataclass(frozen=True, slots=True)
class Instance:
    """A program that works as an agent. `load` is what it said last; None: nothing yet."""

    instance_id: str
    agent: str
    address: str
    state: InstanceState
    weight: int
    load: AgentLoad | None
    max_concurrent_tasks: int
    labels: Mapping[str, str]
    registered_at: datetime
    heartbeat_at: datetime | None


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """An agent that joined, and how many of its instances can take a task now."""

    name: str
    description: str
    online: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Registration:
    """What a program says of itself when it joins."""

    agent: str
    description: str
    address: str
    max_concurrent_tasks: int
    labels: Mapping[str, str]


class InstanceNotFound(NotFound):
    """No such instance for this tenant, or it is OFFLINE: it has to register again."""

    reason = "AGENT_INSTANCE_NOT_FOUND"
    text = "there is no such agent instance, or it is offline: register again"


class StreamReplaced(Aborted):
    """Another stream of heartbeats speaks for the instance now."""

    text = "a newer stream of heartbeats speaks for this agent instance"


class TooManyInstances(ResourceExhausted):
    """The tenant has as many instances as it may."""

    text = "a tenant has at most {limit} agent instances"


class AgentBusy(ResourceExhausted):
    """Every instance that could take the task has as many as it takes."""

    text = "every online instance of agent {agent} has as many tasks as it takes"


class AgentAway(Unavailable):
    """No instance can take the task."""

    text = "no instance of agent {agent} is online"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that may get the next task. `turn` is its place in the round."""

    instance_id: str
    weight: int
    turn: int


def next_turn(candidates: Sequence[Candidate]) -> tuple[str, Mapping[str, int]]:
    """Return whose turn it is, and everybody's place after it; there has to be a candidate.

    Smooth weighted round robin (nginx, ngx_http_upstream_round_robin): each gains its weight, the
    first in front goes, and falls back by the weight of all. In any stretch of turns each gets its
    share, give or take less than one turn for each candidate.
    """
    turns = {one.instance_id: one.turn + one.weight for one in candidates}
    chosen = max(candidates, key=lambda one: (turns[one.instance_id], one.instance_id))
    turns[chosen.instance_id] -= sum(one.weight for one in candidates)
    return chosen.instance_id, turns


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is worked on."""

    instance_id: str
    address: str


class Instances(Protocol):
    """The instances of all agents that joined, and which task each works on."""

    async def register(self, caller: Principal, new: Registration) -> Instance:
        """Store an instance, or return the one of this agent and address that did not leave.

        Raises: AgentExists when the name is a defined agent's; TooManyInstances.
        """
        ...

    async def beat(
        self, tenant_id: str, instance_id: str, epoch: int, load: AgentLoad, *, draining: bool
    ) -> tuple[Instance, int]:
        """Note a heartbeat of the stream `epoch`; 0: of a new one, which is the newest then.

        Returns the epoch. Raises: InstanceNotFound, StreamReplaced.
        """
        ...

    async def is_newest(self, tenant_id: str, instance_id: str, epoch: int) -> bool:
        """Return whether no newer stream speaks for the instance."""
        ...

    async def leave(self, tenant_id: str, instance_id: str, epoch: int) -> Instance:
        """Make the instance OFFLINE. Raises: InstanceNotFound, StreamReplaced."""
        ...

    async def of_agent(self, tenant_id: str, agent: str) -> Sequence[Instance]:
        """Return the instances that are not OFFLINE, by weight, at most 100."""
        ...

    async def agent(self, tenant_id: str, name: str) -> RemoteAgent | None:
        """Return an agent that joined; None: there is none of this name."""
        ...

    async def agents(self, tenant_id: str, *, after: str, limit: int) -> Sequence[RemoteAgent]:
        """Return agents by name, those after the name `after`."""
        ...

    async def pick(self, tenant_id: str, agent: str, task_id: str, tried: Collection[str]) -> Place:
        """Assign a task: to the instance that has it already, else to the one whose turn it is.

        Those that were `tried` get it no more. Raises: AgentNotFound, AgentAway, AgentBusy.
        """
        ...

    async def is_alive(self, tenant_id: str, instance_id: str) -> bool:
        """Return whether the instance was heard lately."""
        ...

    async def named(self, tenant_id: str, task_id: str, remote_task_id: str) -> None:
        """Note what the instance calls the task."""
        ...

    async def ended(self, tenant_id: str, task_id: str) -> None:
        """Note that the instance has ended the task."""
        ...


class Listeners(Protocol):
    """Everybody who wants to know how instances do."""

    async def tell(self, instance: Instance) -> None:
        """Tell how an instance does. What cannot be told now is told with its next heartbeat."""
        ...


class Addresses(Protocol):
    """Which addresses the operator lets agents have."""

    async def judged(self, address: str) -> str:
        """Return the numeric target of "host:port".

        Raises: PermissionDenied (EGRESS_REFUSED); InvalidArgument when it is none.
        """
        ...


class RemoteDesk:
    """Where programs join, say how they are, and leave."""

    def __init__(
        self, directory: AgentDirectory, instances: Instances, addresses: Addresses
    ) -> None:
        self._directory = directory
        self._instances = instances
        self._addresses = addresses

    async def register(self, caller: Principal, new: Registration) -> Instance:
        """Let a program work as an agent.

        Raises: AgentExists, EgressRefused, InvalidArgument, TooManyInstances, Unavailable.
        """
        if await self._directory.comes_along(new.agent):
            raise AgentExists(f"{new.agent} is an agent that comes with the platform")
        await self._addresses.judged(new.address)
        return await self._instances.register(caller, new)
