"""Whose requests count together when nobody has said who they are: the client's address."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from meshwright_gateway.limits.limit_settings import Network

_KEPT: Final = 10_000
_IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that say whose it is: the rest its holder chooses freely."""


class ClientAddresses:
    """Finds the address of a client, behind proxies that are trusted to tell it.

    `X-Forwarded-For` counts only when the connection comes from a trusted network, and then from
    its end, up to the first address that is no trusted proxy: what stands before it, the client
    may have written itself.
    """

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._groups: dict[str, str] = {}
        self._proxies: dict[str, bool] = {}

    def group_of(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Return the name of the address whose requests are counted together: letters and digits.

        `peer` is the other end of the connection. One that is no address is counted as one.
        """
        if self._trusted and self._is_proxy(peer):
            peer = self._forwarded(headers.get(b"x-forwarded-for", b""), peer)
        group = self._groups.get(peer)
        if group is None:
            if len(self._groups) >= _KEPT:
                self._groups.clear()
            group = self._groups[peer] = _group(peer)
        return group

    def _forwarded(self, header: bytes, peer: str) -> str:
        for text in reversed(header.decode("latin-1").split(",")):
            address = text.strip()
            if _parsed(address) is None:
                # Nobody knows what is written before it.
                break
            peer = address
            if not self._is_proxy(address):
                break
        return peer

    def _is_proxy(self, text: str) -> bool:
        known = self._proxies.get(text)
        if known is None:
            address = _parsed(text)
            known = address is not None and any(
                address.version == network.version and address in network
                for network in self._trusted
            )
            if len(self._proxies) >= _KEPT:
                self._proxies.clear()
            self._proxies[text] = known
        return known


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _group(text: str) -> str:
    address = _parsed(text)
    if address is None:
        return "unknown"
    if address.version == 6:
        return f"{int(address) >> (128 - _IPV6_PREFIX):016x}"
    return str(address)
