"""Which internet addresses are public: our own table, because `ipaddress` says so differently.

`is_private` and `is_global` change with Python's patch releases and call 64:ff9b::7f00:1 (NAT64 of
127.0.0.1), fec0::1 and multicast global. Addresses that carry an IPv4 address inside are judged by
that one where translation is in real use (mapped, NAT64) and refused where it is not.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

NOT_PUBLIC_V4: Final = {
    ip_network(network): name
    for network, name in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "carrier-grade NAT",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}
GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
NOT_PUBLIC_V6: Final = {
    IPv6Network(network): name
    for network, name in {
        "2001::/23": "protocol assignments, Teredo",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "3fff::/20": "documentation",
    }.items()
}
NAT64: Final = IPv6Network("64:ff9b::/96")
"""The well-known prefix: on networks without IPv4, every name of an IPv4 host resolves to it."""


def refusal(address: str) -> str | None:
    """Return why `address` (numeric, IPv4 or IPv6) is not public; None: it is.

    Raises: ValueError when it is not an address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv4Address):
        return _refusal_v4(parsed)
    inner = _translated(parsed)
    return _refusal_v4(inner) if inner is not None else _refusal_v6(parsed)


def is_own(address: str) -> bool:
    """Return whether `address` belongs to this machine. Sends nothing.

    The kernel chooses as the source of a connection to an own address that same address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False
        return ip_address(probe.getsockname()[0].partition("%")[0]) == ip_address(
            address.partition("%")[0]
        )


def _translated(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _refusal_v4(address: IPv4Address) -> str | None:
    return next((name for network, name in NOT_PUBLIC_V4.items() if address in network), None)


def _refusal_v6(address: IPv6Address) -> str | None:
    if address not in GLOBAL_UNICAST_V6:
        return "not global unicast"
    return next((name for network, name in NOT_PUBLIC_V6.items() if address in network), None)
