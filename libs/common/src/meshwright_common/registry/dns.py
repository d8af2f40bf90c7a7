"""Peers by the addresses that a name has in DNS, looked up again and again."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import Final

from meshwright_common.registry.ports import Endpoint
from meshwright_common.telemetry.logging import get_logger

LOOK_SECONDS: Final = 5.0
"""As long as names of Kubernetes' headless services are cached."""
_SCHEMES: Final = ("dns:///", "dns:")
_logger = get_logger(__name__)


class DnsDiscovery:
    """Every address of `host`, each with the same weight: an instance listens there at `port`."""

    def __init__(self, host: str, port: int, look_seconds: float = LOOK_SECONDS) -> None:
        self._host = host
        self._port = port
        self._look_seconds = look_seconds

    async def watch(self, peer: str) -> AsyncGenerator[tuple[Endpoint, ...], None]:
        """Yield the instances now and after each change. A name that fails changes nothing."""
        seen: tuple[Endpoint, ...] = ()
        told = False
        while True:
            try:
                found = await self._look()
            except OSError as error:
                if not told:
                    _logger.warning("name_unknown", peer=peer, host=self._host, error=str(error))
                told = True
            else:
                told = False
                if found and found != seen:
                    seen = found
                    yield seen
            await asyncio.sleep(self._look_seconds)

    async def _look(self) -> tuple[Endpoint, ...]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        hosts = {str(address[0]) for *_, address in found}
        return tuple(
            Endpoint(f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}")
            for host in sorted(hosts)
        )


def name_in(target: str) -> tuple[str, int] | None:
    """Return host and port of a target that gRPC would look up in DNS by this machine's rules.

    None for targets of another kind, as `unix:` or one that names a server to ask.
    """
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            break
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or "/" in host or (":" in host and host[0] != "["):
        return None
    return host.strip("[]"), int(port)
