"""One HTTP client for all providers, and the limits of time on each request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeAlias

import aiohttp

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.errors import ProviderTimeout, ProviderUnavailable
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import (
    broken_protocol,
    from_connection,
    from_status,
    timed_out,
)

HttpClient: TypeAlias = aiohttp.ClientSession
HttpResponse: TypeAlias = aiohttp.ClientResponse

POOL_WAIT_SECONDS: Final = 2.0
"""How long a request waits for a free connection beyond the time to connect."""
MAX_ERROR_BODY_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
DRAIN_SECONDS: Final = 5.0

_HEADERS: Final = {
    "content-type": "application/json",
    # An SSE stream gains nothing from compression and loses its promptness.
    "accept-encoding": "identity",
    "user-agent": "meshwright",
}


@asynccontextmanager
async def open_session(maximum_connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the client; `maximum_connections` limits each provider's host."""
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=maximum_connections, keepalive_timeout=60, ttl_dns_cache=60
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        # Limits of time are set per request, below.
        timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
    ) as session:
        yield session


@asynccontextmanager
async def post(
    session: aiohttp.ClientSession, endpoint: Endpoint, path: str, body: bytes, *, seconds: float
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send a request and give its answer, status 200; the body is still to be read.

    The connection is kept for the next request when the body was read to its end, else closed.
    Raises: what `failures` makes of a connection or status that says no; ProviderTimeout when the
    head of the answer took longer than `seconds`.
    """
    connect = endpoint.timeouts.connect
    try:
        async with asyncio.timeout(seconds):
            response = await session.post(
                f"{endpoint.base_url}/{path}",
                data=body,
                headers=endpoint.request_headers,
                # A redirection would carry the key to a host that nobody configured.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=connect + POOL_WAIT_SECONDS, sock_connect=connect
                ),
            )
    except aiohttp.ConnectionTimeoutError as error:
        raise from_connection(endpoint, error) from error
    except TimeoutError as error:
        raise timed_out(endpoint, "no answer", seconds) from error
    except (aiohttp.ClientError, OSError) as error:
        raise from_connection(endpoint, error) from error
    try:
        if response.status != 200:
            raise await _refusal(endpoint, response)
        yield response
    finally:
        # Returns the connection to the pool when the body is complete; otherwise it is closed,
        # which is what tells the provider to stop generating.
        response.release()


async def read_body(
    endpoint: Endpoint, response: aiohttp.ClientResponse, *, seconds: float
) -> bytes:
    """Return the whole body. Raises: ProviderTimeout, ProviderProtocol, ProviderUnavailable."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while part := await response.content.readany():
                parts.append(part)
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise broken_protocol(endpoint, "its answer is too large")
    except TimeoutError as error:
        raise timed_out(endpoint, "no complete answer", seconds) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ProviderUnavailable(
            f"The provider of {endpoint.deployment!r} broke off its answer.",
            deployment=endpoint.deployment,
        ) from error
    return b"".join(parts)


async def _refusal(endpoint: Endpoint, response: aiohttp.ClientResponse) -> ServiceError:
    body = b""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while len(body) < MAX_ERROR_BODY_BYTES and (part := await response.content.readany()):
                body += part
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass  # the status says enough
    return from_status(endpoint, response.status, response.headers, body[:MAX_ERROR_BODY_BYTES])


class StreamWatch:
    """Ends the reading of a body that is silent for too long or takes too long in all.

    One timer that is moved only when it fires, so that a byte that arrives costs an assignment.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        content: aiohttp.StreamReader,
        *,
        began: float,
        total_seconds: float,
    ) -> None:
        """`began`: when the request was sent, on the event loop's clock."""
        self._endpoint = endpoint
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._total = total_seconds
        self._due = began + endpoint.timeouts.first_byte
        self._end = began + total_seconds
        self._first = True
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def received(self) -> None:
        """Note that bytes came."""
        self._first = False
        self._due = self._loop.time() + self._endpoint.timeouts.idle

    def _arm(self) -> None:
        self._timer = self._loop.call_at(min(self._due, self._end), self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now < min(self._due, self._end):
            self._arm()
            return
        self._content.set_exception(self._expiry(now))

    def _expiry(self, now: float) -> ProviderTimeout:
        timeouts = self._endpoint.timeouts
        if now >= self._end:
            return timed_out(self._endpoint, "no end of its answer", self._total)
        if self._first:
            return timed_out(self._endpoint, "no first byte", timeouts.first_byte)
        return timed_out(self._endpoint, "nothing more", timeouts.idle)
