"""How processes announce themselves to each other."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instance:
    """One process that serves: its service names and the "host:port" where it listens."""

    services: tuple[str, ...]
    address: str


class Registrar(Protocol):
    """Where a ready process says that it takes calls."""

    async def register(self, instance: Instance) -> None:
        """Announce `instance`, and keep the announcement alive until `deregister`."""
        ...

    async def deregister(self, instance: Instance) -> None:
        """Take the announcement back. Does nothing when there is none."""
        ...
