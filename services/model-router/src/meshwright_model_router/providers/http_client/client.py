"""HTTP/1.1 to providers: keep-alive connections, a request at a time on each, no more than needed.

On asyncio's protocols and httptools, because a general client costs several times the rest of the
path of a model call (docs/adr/0022). No redirections, no cookies, no proxies, no pipelining.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from meshwright_common.telemetry import propagation
from meshwright_model_router.providers.http_client.answer import Answer
from meshwright_model_router.providers.http_client.connection import Connection
from meshwright_model_router.providers.http_client.errors import (
    ConnectTimeout,
    HeadTimeout,
    NotSent,
    RequestUnsendable,
)
from meshwright_model_router.providers.http_client.pool import Origin, Pool
from meshwright_model_router.providers.http_client.resolving import Resolver

POOL_WAIT_SECONDS: Final = 2.0
"""How long a request waits for a free connection beyond the time to connect."""
_MAX_URLS: Final = 4096
_COMMON: Final = (
    # An SSE stream gains nothing from compression and loses its promptness.
    b"accept: */*\r\naccept-encoding: identity\r\nuser-agent: meshwright\r\n"
)


class _Target:
    """Where the requests below one base URL go. `is_told`: they carry the trace."""

    __slots__ = ("host", "is_told", "name", "pool", "prefix")

    def __init__(self, pool: Pool, prefix: str, name: str, host: str) -> None:
        self.pool = pool
        self.name = name
        self.is_told = propagation.is_told(name)
        self.prefix = prefix
        self.host = host


class Client:
    """The connections of one process to all its providers; `close` ends them."""

    def __init__(self, maximum_connections: int) -> None:
        """`maximum_connections` limits each server's."""
        self._limit = maximum_connections
        self._resolver = Resolver()
        self._pools: dict[Origin, Pool] = {}
        self._targets: dict[tuple[str, bool], _Target] = {}
        self._context: asyncio.Task[ssl.SSLContext] | None = None

    async def post(
        self,
        base_url: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        connect_seconds: float,
        seconds: float,
        public_only: bool = False,
    ) -> Answer:
        """Send JSON and return the answer, whatever its status; its body is still to be read.

        A request is sent a second time only when nothing of it left this machine, and with
        `public_only` to no private address.
        Raises: HeadTimeout after `seconds`; what `errors` lists.
        """
        target = self._target(base_url, public_only)
        if target.is_told:
            headers = {**headers, **propagation.headers_for(target.name)}
        head = _head(b"POST ", target, path, headers, body)
        return await _exchange(target.pool, head, body, connect_seconds, seconds)

    async def get(
        self,
        base_url: str,
        path: str,
        headers: Mapping[str, str],
        *,
        connect_seconds: float,
        seconds: float,
        public_only: bool = False,
    ) -> Answer:
        """Ask without a body; otherwise as `post`."""
        target = self._target(base_url, public_only)
        head = _head(b"GET ", target, path, headers, None)
        return await _exchange(target.pool, head, b"", connect_seconds, seconds)

    def idle_connections(self, base_url: str) -> int:
        """Return how many connections wait for the next request."""
        return self._target(base_url, False).pool.idle_count

    async def close(self) -> None:
        """Close all connections."""
        await self._resolver.close()
        if self._context is not None:
            self._context.cancel()
        for pool in self._pools.values():
            await pool.close()

    def _target(self, base_url: str, public_only: bool) -> _Target:
        target = self._targets.get((base_url, public_only))
        if target is None:
            if len(self._targets) >= _MAX_URLS:
                # Addresses of tenants come and go; the pools stay.
                self._targets.clear()
            target = self._parsed(base_url, public_only)
            self._targets[base_url, public_only] = target
        return target

    def _parsed(self, base_url: str, public_only: bool) -> _Target:
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError as error:
            raise RequestUnsendable("its address cannot be read") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RequestUnsendable("its address is neither http:// nor https://")
        tls = parts.scheme == "https"
        usual = 443 if tls else 80
        host = parts.hostname
        if not _is_sendable(parts.path) or " " in parts.path:
            raise RequestUnsendable("its address holds characters that no address may hold")
        try:
            name = host if host.isascii() else host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise RequestUnsendable("its host name cannot be written") from error
        origin = Origin(name, port or usual, tls, public_only)
        pool = self._pools.get(origin)
        if pool is None:
            pool = Pool(origin, self._limit, self._resolver, self._tls_context)
            self._pools[origin] = pool
        shown = f"[{name}]" if ":" in name else name
        if origin.port != usual:
            shown += f":{origin.port}"
        return _Target(pool, parts.path.rstrip("/"), name, shown)

    async def _tls_context(self) -> ssl.SSLContext:
        """Return the one context: the system's authorities, which take a while to be read."""
        if self._context is None:
            # house: naked-task: kept in _context, awaited by whoever wants it; ended by `close`
            self._context = asyncio.create_task(asyncio.to_thread(_make_context))
        return await asyncio.shield(self._context)


async def _exchange(
    pool: Pool, head: bytes, body: bytes, connect_seconds: float, seconds: float
) -> Answer:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        connection = pool.take_idle() or await _opened(pool, connect_seconds, end)
        try:
            return await connection.exchange(head, body, end - loop.time())
        except NotSent:
            if connection.requests <= 1:
                raise
            # The server closed while it was idle: not a failure, the next one will do.


async def _opened(pool: Pool, connect_seconds: float, end: float) -> Connection:
    """Return a connection of the pool. Raises: HeadTimeout at `end`; as `Pool.acquire`."""
    loop = asyncio.get_running_loop()
    left = end - loop.time()
    try:
        return await pool.acquire(
            min(connect_seconds, left), max(0.0, min(POOL_WAIT_SECONDS, left - connect_seconds))
        )
    except ConnectTimeout:
        if loop.time() >= end:
            raise HeadTimeout from None
        raise


def _make_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _head(
    method: bytes, target: _Target, path: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """Return the head of a request. Raises: RequestUnsendable."""
    lines = f"{target.prefix}/{path} HTTP/1.1\r\nhost: {target.host}\r\n"
    for name, value in headers.items():
        if not (_is_sendable(name) and _is_sendable(value)):
            raise RequestUnsendable(f"the header {name!r} holds characters that no header may hold")
        lines += f"{name}: {value}\r\n"
    if not _is_sendable(path) or " " in path:
        raise RequestUnsendable("its path cannot be written")
    length = b""
    if body is not None:
        length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return method + lines.encode("ascii") + _COMMON + length + b"\r\n"


def _is_sendable(text: str) -> bool:
    return text.isascii() and text.isprintable()
