"""Peers known from the settings: nothing is announced, nothing is watched."""

from collections.abc import Mapping

from meshwright_common.registry.ports import Instance


class StaticRegistrar:
    """For arrangements where addresses are configured, or DNS knows them."""

    async def register(self, instance: Instance) -> None:
        """Do nothing: whoever configured the addresses knows already."""

    async def deregister(self, instance: Instance) -> None:
        """Do nothing."""


def target_of(peer: str, peers: Mapping[str, str]) -> str:
    """Return the gRPC target of `peer`: configured, or its name in DNS, port 50051."""
    return peers.get(peer) or f"dns:///{peer}:50051"
