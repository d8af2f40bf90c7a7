"""Looking after the instances of all tenants: what a process needs to know for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_orchestrator.domain.remote import AgentLoad, InstanceState


@dataclass(frozen=True, slots=True)
class Silenced:
    """What became of an instance that was silent for too long."""

    instance_id: str
    agent: str
    state: InstanceState
    weight: int
    load: AgentLoad


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A task that ended here, and may go on at `address`."""

    tenant_id: str
    task_id: str
    remote_task_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Counted:
    """All instances of one name and state, in all tenants."""

    agent: str
    state: InstanceState
    instances: int
    weight: int
    pending: int


class InstanceCare(Protocol):
    """The instances of all tenants. Each change is made, and returned, by one process alone."""

    async def silence(self, offline_seconds: float, most: int) -> Sequence[Silenced]:
        """Change the state of instances that were silent for too long, and return them."""
        ...

    async def unfinished(self, most: int) -> Sequence[Unfinished]:
        """Forget the assignments of tasks that ended; return those that may go on elsewhere."""
        ...

    async def forget(self, kept_seconds: float) -> None:
        """Delete instances that left so long ago, and agents that have none any more."""
        ...

    async def count(self) -> Sequence[Counted]:
        """Return how many instances there are, and how loaded."""
        ...


class Cancelling(Protocol):
    """The programs, as far as they are told to stop."""

    async def cancel(self, address: str, tenant_id: str, remote_task_id: str) -> None:
        """Tell a program to stop. Raises: the ServiceError that the call ended with."""
        ...
