"""How processes announce themselves to each other, and find each other."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "[::]", "::"})  # noqa: S104 -- to refuse them
"""Hosts on which a process listens without being there for others."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process that serves: by names of services ("rag"), the "host:port" where each listens."""

    addresses: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An instance of a peer as others see it. `weight` is its share of the calls, from 1 on."""

    address: str
    weight: int = 1


class Registrar(Protocol):
    """Where a ready process says that it takes calls."""

    async def register(self, instance: Instance) -> None:
        """Announce `instance`, and keep the announcement alive until `deregister`.

        A registry that cannot be reached delays the announcement, not the caller.
        """
        ...

    async def deregister(self, instance: Instance) -> None:
        """Take the announcement back. Does nothing when there is none."""
        ...


class Discovery(Protocol):
    """Where a process learns who serves a peer."""

    def watch(self, peer: str) -> AsyncGenerator[tuple[Endpoint, ...], None]:
        """Yield the instances of `peer`, sorted by address: those now, then after each change.

        The first ones come as soon as any are known. What comes is never empty: a registry that
        is away, or that suddenly knows nobody, says nothing about the processes. Runs until it is
        closed.
        """
        ...
