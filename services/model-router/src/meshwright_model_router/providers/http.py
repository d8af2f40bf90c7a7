"""Requests to providers: the limits of time on each, and failures in the platform's words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeAlias

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.errors import ProviderTimeout, ProviderUnavailable
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import (
    broken_protocol,
    from_connection,
    from_status,
    timed_out,
)
from meshwright_model_router.providers.http_client.answer import Answer, Body, InflatedBody
from meshwright_model_router.providers.http_client.client import Client
from meshwright_model_router.providers.http_client.errors import HeadTimeout

HttpClient: TypeAlias = Client
HttpResponse: TypeAlias = Answer

MAX_ERROR_BODY_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
DRAIN_SECONDS: Final = 5.0
OK: Final = 200


@asynccontextmanager
async def open_session(maximum_connections: int) -> AsyncIterator[HttpClient]:
    """Open the client; `maximum_connections` limits each provider's host."""
    client = Client(maximum_connections)
    try:
        yield client
    finally:
        await client.close()


class post:
    """Send a request and give its answer, status 200, inside `async with`; its body is unread.

    The connection is kept for the next request when the body was read to its end, else closed,
    which is what tells the provider to stop generating.
    Raises: what `failures` makes of a connection or status that says no; ProviderTimeout when the
    head of the answer took longer than `seconds`.
    """

    __slots__ = ("_body", "_client", "_endpoint", "_path", "_response", "_seconds")

    def __init__(
        self, client: HttpClient, endpoint: Endpoint, path: str, body: bytes, *, seconds: float
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._path = path
        self._body = body
        self._seconds = seconds

    async def __aenter__(self) -> HttpResponse:
        endpoint = self._endpoint
        try:
            response = await self._client.post(
                endpoint.base_url,
                self._path,
                self._body,
                endpoint.request_headers,
                connect_seconds=endpoint.timeouts.connect,
                seconds=self._seconds,
                public_only=endpoint.public_only,
            )
        except HeadTimeout as error:
            raise timed_out(endpoint, "no answer", self._seconds) from error
        except OSError as error:
            raise from_connection(endpoint, error) from error
        self._response = response
        if response.status == OK:
            return response
        try:
            raise await refusal(endpoint, response)
        finally:
            response.release()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._response.release()


async def read_body(endpoint: Endpoint, response: HttpResponse, *, seconds: float) -> bytes:
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
    except OSError as error:
        raise ProviderUnavailable(
            f"The provider of {endpoint.deployment!r} broke off its answer.",
            deployment=endpoint.deployment,
        ) from error
    return b"".join(parts)


async def refusal(endpoint: Endpoint, response: HttpResponse) -> ServiceError:
    """Return the error for an answer with an error status, by what its body says."""
    body = b""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while len(body) < MAX_ERROR_BODY_BYTES and (part := await response.content.readany()):
                body += part
    except OSError:
        pass  # the status says enough
    return from_status(endpoint, response.status, response.headers, body[:MAX_ERROR_BODY_BYTES])


class StreamWatch:
    """Ends the reading of a body that is silent for too long or takes too long in all.

    One timer that is moved only when it fires, so that a byte that arrives costs an assignment.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        content: Body | InflatedBody,
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
