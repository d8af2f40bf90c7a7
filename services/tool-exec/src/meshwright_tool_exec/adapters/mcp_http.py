"""The SDK's HTTP through the egress guard: each request is judged, resolved once and pinned.

Failures become answers instead of exceptions: the SDK would end the connection of all calls for
what one of them met. What really happened is noted for whoever sent the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import httpx2

from meshwright_common.egress import EgressClient, EgressStream
from meshwright_common.errors import ServiceError
from meshwright_tool_exec.adapters.mcp_credentials import Credentials

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of one answer that is no stream of events; an event of a stream has the SDK's limit of 1 MiB."""
_OURS: Final = frozenset(
    {"host", "content-length", "accept-encoding", "connection", "transfer-encoding", "user-agent"}
)
_UNAUTHORIZED: Final = 401
_NOT_ACCEPTED: Final = 406
_BAD_GATEWAY: Final = 502


@dataclass(slots=True)
class Exchange:
    """What became of the HTTP requests of one call: the last status, and why there was none."""

    status: int = 0
    error: ServiceError | None = None

    @property
    def was_not_sent(self) -> bool:
        """Whether nothing of the last request reached the server."""
        error = self.error
        return error is not None and (
            error.metadata.get("sent") == "no" or error.code == "PERMISSION_DENIED"
        )


exchange: ContextVar[Exchange | None] = ContextVar("mcp_exchange", default=None)
"""Where the requests of the current call are noted: the SDK sends them in its caller's context."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends what the SDK wants sent, with the credential, through the guard."""

    def __init__(self, egress: EgressClient, credentials: Credentials) -> None:
        self._egress = egress
        self._credentials = credentials

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        noted = exchange.get() or Exchange()
        noted.status, noted.error = 0, None
        stack = AsyncExitStack()
        try:
            answer = await self._send(request, stack)
        except ServiceError as error:
            noted.error = error
            await stack.aclose()
            return httpx2.Response(_BAD_GATEWAY, request=request)
        except BaseException:
            await stack.aclose()
            raise
        noted.status = answer.status
        body = _Body(answer, stack, noted)
        return httpx2.Response(
            answer.status, headers=dict(answer.headers), stream=body, request=request
        )

    async def _send(self, request: httpx2.Request, stack: AsyncExitStack) -> EgressStream:
        body = await request.aread()
        sent = {k.lower(): v for k, v in request.headers.items() if k.lower() not in _OURS}
        for attempt in (1, 2):
            try:
                credential = await self._credentials.headers()
            except ServiceError as error:
                # It was about the token: the request itself stayed here.
                error.metadata["sent"] = "no"
                raise
            answer = await stack.enter_async_context(
                self._egress.stream(
                    request.method,
                    str(request.url),
                    headers={**sent, "user-agent": "meshwright", **credential},
                    body=body or None,
                )
            )
            if answer.status != _UNAUTHORIZED or attempt > 1 or not self._credentials.renew():
                return answer
            await stack.aclose()
        raise AssertionError("the loop returns or raises")


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: EgressStream, stack: AsyncExitStack, noted: Exchange) -> None:
        self._answer = answer
        self._stack = stack
        self._noted = noted

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_stream = self._answer.headers.get("content-type", "").startswith("text/event-stream")
        received = 0
        try:
            async for piece in self._answer.pieces:
                received += len(piece)
                if received > MAX_ANSWER_BYTES and not is_stream:
                    raise httpx2.StreamError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
                yield piece
        except ServiceError as error:
            self._noted.error = error
            # The one kind of error that the SDK takes for the end of an answer.
            raise httpx2.StreamError(error.message) from error

    async def aclose(self) -> None:
        await self._stack.aclose()
