"""Who may be connected to: the rules of the egress guard for URLs, names and sockets."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from meshwright_common import addresses
from meshwright_common.errors import (
    DeadlineExceeded,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from meshwright_common.settings import Section

MAX_URL_LENGTH: Final = 2048
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the numeric addresses of a host name. Raises OSError when it has none."""


class EgressSettings(Section):
    """Where tools may go. `allowed_hosts` are `host:port` of the operator's own that are exempt."""

    allowed_ports: tuple[int, ...] = (80, 443)
    allowed_hosts: tuple[str, ...] = ()


class EgressRefused(PermissionDenied):
    """The address, the port or the scheme is not allowed; nothing was sent there."""

    reason = "EGRESS_REFUSED"


class EgressFailed(Unavailable):
    """The other side could not be reached or did not speak HTTP."""


class EgressTooLarge(ResourceExhausted):
    """The answer is over a limit; it was dropped."""

    reason = "TOO_LARGE"


class EgressTimeout(DeadlineExceeded):
    """The other side took too long."""


class Guard:
    """The rules, in one place for URLs, names and sockets."""

    def __init__(self, settings: EgressSettings, resolve: Resolve) -> None:
        self._ports = frozenset(settings.allowed_ports)
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._resolve = resolve

    def parse(self, text: str) -> URL:
        """Return the URL if its form is allowed; the same object is used to connect."""
        if len(text) > MAX_URL_LENGTH or _UNPRINTABLE.search(text):
            raise EgressRefused("The URL is too long or holds spaces, backslashes or controls.")
        try:
            url = URL(text)
            port = url.port
        except ValueError as error:
            raise EgressRefused("The URL is malformed.") from error
        if url.scheme not in {"http", "https"} or not url.host or port is None:
            raise EgressRefused("Only http and https URLs with a host are allowed.")
        if url.user is not None or url.password is not None:
            raise EgressRefused("A URL with a user name is not allowed.")
        if not self.exempt(url.host, port) and port not in self._ports:
            raise EgressRefused(f"Port {port} is not allowed.", port=str(port))
        return url.with_fragment(None)

    def follow(self, source: URL, location: str) -> URL:
        """Return the target of a redirect if its form is allowed."""
        try:
            return self.parse(str(source.join(URL(location))))
        except ValueError as error:
            raise EgressRefused("The redirect is malformed.") from error

    def exempt(self, host: str, port: int) -> bool:
        """Return whether the operator allows `host:port` wherever it lies."""
        return f"{host.lower()}:{port}" in self._hosts

    async def addresses_of(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name, all of them public. One that is not refuses the name."""
        found = list(await self._resolve(host, port))
        if not self.exempt(host, port):
            for address in found:
                self.judge(address)
        return found

    def judge(self, address: str) -> None:
        """Raise EgressRefused when `address` is not public or is this machine's."""
        why = addresses.refusal(address)
        if why is None and addresses.is_own(address):
            why = "this machine"
        if why is not None:
            raise EgressRefused(f"The address is not public ({why}).")


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to judged addresses only, and looks at the peer before anything is sent."""

    def __init__(self, guard: Guard, *, for_streams: bool) -> None:
        super().__init__(
            resolver=_JudgingResolver(guard),
            use_dns_cache=False,
            force_close=not for_streams,
            limit=0 if for_streams else 100,
        )
        self._guard = guard

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        host, port = req.url.host or "", req.url.port or 0
        exempt = self._guard.exempt(host, port)
        if not exempt and is_address(host):
            # Numeric hosts do not pass through the resolver.
            self._guard.judge(host)
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        try:
            if not exempt:
                self._guard.judge(peer[0] if peer else "::")
        except EgressRefused:
            connection.close()
            raise
        return connection


class _JudgingResolver(AbstractResolver):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.addresses_of(host, port)
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def is_address(host: str) -> bool:
    try:
        addresses.refusal(host)
    except ValueError:
        return False
    return True


async def system_resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
