"""Where agents that join may live: what the operator allows, looked up anew for each call."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from meshwright_common.egress import EgressRefused, Resolve
from meshwright_common.errors import invalid

MAX_CHARACTERS: Final = 255
_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network


class AgentAddresses:
    """Addresses: see the port. `networks` are the operator's, in CIDR notation; `hosts` are
    `host:port` that are allowed wherever they lie.

    Loopback and link-local addresses are in no network but one of nothing else: 0.0.0.0/0 does not
    allow 127.0.0.1. A name is looked up for each call, and the call goes to the address that was
    judged.
    """

    def __init__(
        self, networks: Sequence[str], hosts: Sequence[str], *, resolve: Resolve | None = None
    ) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._hosts = frozenset(host.lower() for host in hosts)
        self._resolve = resolve or _system_resolve

    async def judged(self, address: str) -> str:
        host, port = parsed(address)
        try:
            found = [str(ip_address(host))]
        except ValueError:
            try:
                found = list(await self._resolve(host, port))
            except OSError:
                raise invalid("address", f"the name {host} cannot be resolved") from None
        if not found:
            raise invalid("address", f"the name {host} cannot be resolved")
        if f"{host}:{port}".lower() not in self._hosts:
            for one in found:
                self._judge(ip_address(one.partition("%")[0]))
        first = found[0]
        return f"ipv6:[{first}]:{port}" if ":" in first else f"ipv4:{first}:{port}"

    def _judge(self, address: _Address) -> None:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not any(_holds(network, address) for network in self._networks):
            raise EgressRefused(
                f"the operator allows no agents at {address}: see"
                " MESHWRIGHT_ORCHESTRATOR__REMOTE_AGENTS__NETWORKS"
            )


def parsed(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[address]:port". Raises: InvalidArgument."""
    host, _, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    good_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if len(address) > MAX_CHARACTERS or not good_port or not host or not host.isprintable():
        raise invalid("address", f"must be host:port, at most {MAX_CHARACTERS} characters")
    if any(character in host for character in " /@,?#[]"):
        raise invalid("address", "must be host:port, with nothing else in it")
    return host, int(port)


def _holds(network: _Network, address: _Address) -> bool:
    if network.version != address.version or address not in network:
        return False
    if address.is_loopback:
        return network.is_loopback
    if address.is_link_local:
        return network.is_link_local
    return not (address.is_unspecified or address.is_multicast)


async def _system_resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
