"""The connections to one server: so many at most, the last one used is used next."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from meshwright_common import addresses as judge
from meshwright_model_router.providers.http_client.connection import Connection
from meshwright_model_router.providers.http_client.errors import AddressRefused, ConnectTimeout
from meshwright_model_router.providers.http_client.resolving import Resolver

IDLE_SECONDS: Final = 60.0
"""How long a connection is kept that nobody uses."""
LEAST_ADDRESS_SECONDS: Final = 0.25
"""The time an address gets at least before the next one is tried."""

TlsContext = Callable[[], Awaitable[ssl.SSLContext]]


@dataclass(frozen=True, slots=True)
class Origin:
    """A server. `public_only`: connections to it go to public addresses alone."""

    host: str
    port: int
    tls: bool
    public_only: bool = False


class Pool:
    """Hands out connections to `origin`, `limit` at most; who comes later waits, in order."""

    def __init__(
        self, origin: Origin, limit: int, resolver: Resolver, tls_context: TlsContext
    ) -> None:
        self._origin = origin
        self._limit = limit
        self._resolver = resolver
        self._tls_context = tls_context
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._gone: asyncio.Future[None] | None = None

    @property
    def idle_count(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def take_idle(self) -> Connection | None:
        """Return an idle connection that is still good."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    async def acquire(self, connect_seconds: float, wait_seconds: float) -> Connection:
        """Return a connection; a new one has `connect_seconds` to come, a free one `wait_seconds`
        more. Raises: ConnectTimeout, OSError.
        """
        connection = self.take_idle()
        if connection is not None:
            return connection
        if len(self._all) + self._opening < self._limit:
            return await self._open(connect_seconds)
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(connect_seconds + wait_seconds):
                given = await waiter
        except BaseException as error:
            self._give_back(waiter)
            if isinstance(error, TimeoutError):
                raise ConnectTimeout("no connection became free in time") from error
            raise
        return given if given is not None else await self._open(connect_seconds)

    async def close(self) -> None:
        """Close all connections; what is under way on them breaks off."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._all):
            connection.abort()
        if self._all:
            self._gone = self._loop.create_future()
            await self._gone

    # --- Owner -----------------------------------------------------------------------------------

    def freed(self, connection: Connection) -> None:
        """As `Owner`."""
        if self._closed:
            connection.abort()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_SECONDS, self._close_idle)

    def lost(self, connection: Connection) -> None:
        """As `Owner`."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection in self._all:
            self._all.remove(connection)
            self._slot_freed()
        if self._gone is not None and not self._all and not self._gone.done():
            self._gone.set_result(None)

    def _slot_freed(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _give_back(self, waiter: "asyncio.Future[Connection | None]") -> None:
        """Pass on what was given to somebody who has left."""
        if waiter.done() and not waiter.cancelled():
            given = waiter.result()
            if given is not None:
                self.freed(given)
            else:
                self._slot_freed()
        elif waiter in self._waiters:
            self._waiters.remove(waiter)

    def _close_idle(self) -> None:
        self._sweep = None
        before = self._loop.time() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since <= before:
            self._idle.popleft().abort()
        if self._idle:
            due = self._idle[0].idle_since + IDLE_SECONDS
            self._sweep = self._loop.call_at(due, self._close_idle)

    # --- opening ---------------------------------------------------------------------------------

    async def _open(self, seconds: float) -> Connection:
        self._opening += 1
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connect(self._loop.time() + seconds)
        except TimeoutError as error:
            self._slot_freed()
            raise ConnectTimeout("no connection in time") from error
        except BaseException:
            self._slot_freed()
            raise
        finally:
            self._opening -= 1
        self._all.add(connection)
        return connection

    async def _connect(self, end: float) -> Connection:
        """Try the addresses one after the other, each with its share of the time left."""
        origin = self._origin
        context = await self._tls_context() if origin.tls else None
        addresses = await self._resolver.addresses(origin.host, origin.port)
        if origin.public_only:
            # What is connected to is what was looked at: a name has no second answer.
            addresses = [one for one in addresses if _is_public(one)]
            if not addresses:
                raise AddressRefused(f"{origin.host} has no public address")
        failure: OSError = OSError("its host name has no address")
        for position, address in enumerate(addresses):
            share = (end - self._loop.time()) / (len(addresses) - position)
            try:
                async with asyncio.timeout(max(share, LEAST_ADDRESS_SECONDS)):
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(self, self._loop),
                        address,
                        origin.port,
                        ssl=context,
                        server_hostname=origin.host if context is not None else None,
                    )
                    return connection
            except OSError as error:
                failure = error
        self._resolver.forget(origin.host, origin.port)
        raise failure


def _is_public(address: str) -> bool:
    return judge.refusal(address) is None and not judge.is_own(address)
