"""The one HTTP client for addresses that are not ours: from users, models, documents, tools.

A name is resolved once, every answer is judged, the connection goes to a judged address, and the
peer is looked at again before the first byte is sent. Redirects are new requests under the same
rules. What operators configure (model providers, say) does not come through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from meshwright_common.egress_guard import (
    EgressFailed,
    EgressRefused,
    EgressSettings,
    EgressTimeout,
    EgressTooLarge,
    Guard,
    GuardedConnector,
    Resolve,
    is_address,
    system_resolve,
)
from meshwright_common.telemetry import propagation

__all__ = [
    "EgressClient",
    "EgressFailed",
    "EgressReceipt",
    "EgressRefused",
    "EgressResponse",
    "EgressSettings",
    "EgressStream",
    "EgressTimeout",
    "EgressTooLarge",
    "Resolve",
    "open_egress",
]

TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 3.0
MAX_BODY_BYTES: Final = 10 * 1024 * 1024
MAX_HEADERS: Final = 64
MAX_RATIO: Final = 100
"""Unpacked bytes per received byte, once more than 64 KiB are unpacked."""
RATIO_FLOOR_BYTES: Final = 64 * 1024
MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
KEPT_ON_HOST_CHANGE: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""All other headers may be credentials, whatever their name."""


@dataclass(frozen=True, slots=True)
class EgressResponse:
    """An answer: final `url` after redirects, header names in lower case, unpacked `body`."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class EgressReceipt:
    """What is known of an answer that nobody read: header names in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EgressStream:
    """An answer that is read as it comes: header names in lower case, no unpacking."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def open_egress(
    settings: EgressSettings, *, resolve: Resolve | None = None, for_streams: bool = False
) -> AsyncIterator[EgressClient]:
    """Open the guarded client. No proxies, no cookies, one connection per request.

    `for_streams` is for servers that are spoken to again and again: connections are kept for the
    next request (and judged again before it), and long answers do not keep others waiting.
    """
    guard = Guard(settings, resolve or system_resolve)
    connector = GuardedConnector(guard, for_streams=for_streams)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
        trust_env=False,
        auto_decompress=False,
        max_headers=MAX_HEADERS,
    ) as session:
        yield EgressClient(session, guard)


class EgressClient:
    """Fetches what is public. Made by `open_egress`."""

    def __init__(self, session: aiohttp.ClientSession, guard: Guard) -> None:
        self._session = session
        self._guard = guard

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int = MAX_BODY_BYTES,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> EgressResponse:
        """Send a request and return the whole answer, whatever its status.

        Follows up to 3 redirects, each judged anew; on another origin only harmless headers go
        along. `max_bytes` (at most 10 MiB) counts unpacked bytes; `timeout_seconds` (at most 30)
        counts everything. Raises: EgressRefused, EgressTooLarge, EgressTimeout, EgressFailed.
        """
        target = self._guard.parse(url)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        try:
            async with asyncio.timeout(min(timeout_seconds, TIMEOUT_SECONDS)):
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await self._send(
                        method, target, sent, body, min(max_bytes, MAX_BODY_BYTES)
                    )
                    if isinstance(answer, EgressResponse):
                        return answer
                    if answer.status == 303 or (answer.status in {301, 302} and method == "POST"):
                        method, body = "GET", None
                    if answer.target.origin() != target.origin():
                        sent = {n: v for n, v in sent.items() if n in KEPT_ON_HOST_CHANGE}
                    target = answer.target
        except TimeoutError as error:
            raise EgressTimeout(f"{target.host} took too long.") from error
        raise EgressRefused(f"More than {MAX_REDIRECTS} redirects.")

    def exempts(self, url: str) -> bool:
        """Return whether the operator exempts the URL's host. Raises: EgressRefused."""
        target = self._guard.parse(url)
        return self._guard.exempt(target.host or "", target.port or 0)

    def check(self, url: str) -> None:
        """Judge a URL as far as that goes without resolving its name. Raises: EgressRefused."""
        target = self._guard.parse(url)
        host = target.host or ""
        if is_address(host) and not self._guard.exempt(host, target.port or 0):
            self._guard.judge(host)

    async def post_once(
        self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_seconds: float
    ) -> EgressReceipt:
        """Send a body and return status and headers of the answer; what it says is not read.

        A redirect is an answer like any other. `timeout_seconds` (at most 30) counts everything.
        Raises: EgressRefused, EgressTimeout, EgressFailed.
        """
        target = self._guard.parse(url)
        sent = {**headers, **propagation.headers_for(target.host or "")}
        try:
            async with (
                asyncio.timeout(min(timeout_seconds, TIMEOUT_SECONDS)),
                self._session.request(
                    "POST", target, headers=sent, data=body, allow_redirects=False
                ) as response,
            ):
                return EgressReceipt(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                )
        except TimeoutError as error:
            raise EgressTimeout(f"{target.host} took too long.") from error
        except aiohttp.InvalidURL as error:
            raise EgressRefused("The URL is malformed.") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise EgressFailed(
                f"{target.host} could not be reached.", cause=type(error).__name__
            ) from error

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        read_timeout_seconds: float | None = None,
    ) -> AsyncIterator[EgressStream]:
        """Send a request and give the answer as it comes, whatever its status.

        A redirect is an answer like any other. How much is read is the caller's business.
        `read_timeout_seconds` counts from piece to piece; None: for ever. Raises, also from the
        pieces: EgressRefused, EgressTimeout, EgressFailed; `sent` in their metadata is "no" when
        nothing of the request went out.
        """
        target = self._guard.parse(url)
        host = target.host or ""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=read_timeout_seconds
        )
        with _translated(host):
            async with self._session.request(
                method,
                target,
                headers={
                    **headers,
                    **propagation.headers_for(host),
                    "accept-encoding": "identity",
                },
                data=body,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                coding = response.headers.get("content-encoding", "identity").strip().lower()
                if coding not in {"identity", ""}:
                    raise EgressFailed(f"The content coding {coding} was not asked for.")
                names = {name.lower(): value for name, value in response.headers.items()}
                yield EgressStream(response.status, names, _pieces(response, host))

    async def _send(
        self,
        method: str,
        target: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        max_bytes: int,
    ) -> EgressResponse | _Redirect:
        try:
            async with self._session.request(
                method,
                target,
                headers={
                    **headers,
                    **propagation.headers_for(target.host or ""),
                    "accept-encoding": "gzip, deflate",
                },
                data=body,
                allow_redirects=False,
            ) as response:
                location = response.headers.get("location")
                if response.status in REDIRECTS and location is not None:
                    return _Redirect(response.status, self._guard.follow(target, location))
                return EgressResponse(
                    status=response.status,
                    url=str(target),
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=await _read(response, max_bytes),
                )
        except aiohttp.InvalidURL as error:
            raise EgressRefused("The URL is malformed.") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise EgressFailed(
                f"{target.host} could not be reached.", cause=type(error).__name__
            ) from error


@dataclass(frozen=True, slots=True)
class _Redirect:
    status: int
    target: URL


@contextlib.contextmanager
def _translated(host: str) -> Iterator[None]:
    """Raise what a streamed request failed by as errors of ours."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise EgressRefused("The URL is malformed.", sent="no") from error
    except aiohttp.ClientConnectorError as error:
        raise EgressFailed(
            f"{host} could not be reached.", cause=type(error).__name__, sent="no"
        ) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise EgressTimeout(f"{host} took too long to accept a connection.", sent="no") from error
    except TimeoutError as error:
        raise EgressTimeout(f"{host} took too long.") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise EgressFailed(f"{host} could not be reached.", cause=type(error).__name__) from error


async def _pieces(response: aiohttp.ClientResponse, host: str) -> AsyncIterator[bytes]:
    with _translated(host):
        async for piece in response.content.iter_any():
            yield piece


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the unpacked body, never holding more than the limit."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip", "x-gzip", "deflate", ""}:
        raise EgressFailed(f"The content coding {coding} is not spoken here.")
    unpacker = zlib.decompressobj(wbits=47) if coding not in {"identity", ""} else None
    body, received = bytearray(), 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        received += len(chunk)
        try:
            # One byte over the limit is enough to know; a bomb is not unpacked further.
            room = max_bytes - len(body) + 1
            body += chunk if unpacker is None else unpacker.decompress(chunk, room)
        except zlib.error as error:
            raise EgressFailed("The answer's compression is broken.") from error
        if len(body) > max_bytes:
            raise EgressTooLarge(
                f"The answer has more than {max_bytes} bytes.", limit_bytes=str(max_bytes)
            )
        if len(body) > max(RATIO_FLOOR_BYTES, received * MAX_RATIO):
            raise EgressTooLarge(f"The answer unpacks to more than {MAX_RATIO} times its size.")
    if unpacker is not None and received and not unpacker.eof:
        raise EgressFailed("The answer ended before its end.")
    return bytes(body)
