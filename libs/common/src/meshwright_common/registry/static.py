"""Peers known from the settings: nothing is announced, and nothing changes."""

from collections.abc import AsyncGenerator, Iterable, Mapping

from meshwright_common.registry.known import Known
from meshwright_common.registry.ports import Endpoint, Instance


class StaticRegistrar:
    """For arrangements where addresses are configured, or DNS knows them."""

    async def register(self, instance: Instance) -> None:
        """Do nothing: whoever configured the addresses knows already."""

    async def deregister(self, instance: Instance) -> None:
        """Do nothing."""


class StaticDiscovery:
    """A table of addresses by peer, each with the same weight."""

    def __init__(self, addresses: Mapping[str, Iterable[str]]) -> None:
        self._known = {
            peer: Known(Endpoint(address) for address in listed)
            for peer, listed in addresses.items()
        }

    def watch(self, peer: str) -> AsyncGenerator[tuple[Endpoint, ...], None]:
        """Yield the addresses of `peer`, then wait. Raises: KeyError when the table lacks it."""
        return self._known[peer].watch()


def target_of(peer: str, peers: Mapping[str, str], *, watched: bool = False) -> str:
    """Return the target of `peer`: the configured one, or its name where names are looked up.

    That is the registry if one is `watched`, else DNS, port 50051.
    """
    return peers.get(peer) or (f"consul:///{peer}" if watched else f"dns:///{peer}:50051")
