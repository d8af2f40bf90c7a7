"""The calls of `BalancedChannel`: a call of one instance's channel, chosen when it starts."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio

from meshwright_common.rpc.pool import NotSent, Pool
from meshwright_common.rpc.sub_channel import SubChannel

Req = TypeVar("Req")
Res = TypeVar("Res")

UNREACHED: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""What an instance that cannot take calls answers; CANCELLED is a server's that stops
(grpc/grpc #37239): whoever cancels a call himself sees an asyncio.CancelledError instead."""
LATE: Final = grpc.StatusCode.DEADLINE_EXCEEDED
"""Says neither: the caller chose the deadline."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a call is made once somebody is chosen."""

    pool: Pool
    kind: str
    path: str
    codecs: tuple[Any, Any]
    request: object
    timeout: float | None
    options: dict[str, Any]


class _Call(Generic[Req, Res], grpc.aio.Call):
    """Starts at once when an instance is connected, else as soon as one is.

    It counts as running until its status is known or it is cancelled.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._pool = start.pool
        self._inner: Any = None
        self._member: SubChannel | None = None
        self._running = False
        self._failure: NotSent | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._deadline = None if start.timeout is None else time.monotonic() + start.timeout
        member = self._pool.pick()
        if member is not None:
            self._begin(member, start.timeout)
        else:
            # house: naked-task: awaited by whoever needs the call, ended by `cancel`
            self._waiting = asyncio.create_task(self._wait())

    def _begin(self, member: SubChannel, timeout: float | None) -> None:
        start = self._start
        method = member.method(start.kind, start.path, *start.codecs)
        self._inner = method(start.request, timeout=timeout, **start.options)
        self._member = member
        self._running = True
        member.began()
        for callback in self._callbacks:
            self._inner.add_done_callback(partial(_tell, callback, self))

    async def _wait(self) -> None:
        try:
            member = await self._pool.wait_and_pick(self.time_remaining())
        except NotSent as failure:
            self._failure = failure
            for callback in self._callbacks:
                callback(self)
        else:
            self._begin(member, self.time_remaining())

    async def _started(self) -> Any:
        """Return the call of the instance. Raises: NotSent, CancelledError."""
        if self._inner is None:
            if self._waiting is not None:
                await asyncio.wait({self._waiting})
            if self._failure is not None:
                raise self._failure
            if self._inner is None:
                raise asyncio.CancelledError
        return self._inner

    def _finish(self) -> None:
        if self._running and self._member is not None:
            self._running = False
            self._member.ended()

    def _judge(self, error: grpc.aio.AioRpcError) -> None:
        """Tell the pool what an error says about the instance."""
        self._finish()
        if self._member is None:
            return
        if error.code() in UNREACHED:
            self._pool.failed(self._member)
        elif error.code() is not LATE:
            self._pool.succeeded(self._member)

    def __del__(self) -> None:
        self._finish()

    def cancel(self) -> bool:
        if self._inner is not None:
            self._finish()
            return bool(self._inner.cancel())
        return self._waiting is not None and self._waiting.cancel()

    def cancelled(self) -> bool:
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return self._waiting is not None and self._waiting.cancelled()

    def done(self) -> bool:
        if self._inner is not None:
            return bool(self._inner.done())
        return self._waiting is None or self._waiting.done()

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._inner is not None:
            self._inner.add_done_callback(partial(_tell, callback, self))
        elif self._failure is not None:
            asyncio.get_running_loop().call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        metadata: grpc.aio.Metadata = await (await self._started()).initial_metadata()
        return metadata

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        try:
            metadata: grpc.aio.Metadata = await (await self._started()).trailing_metadata()
        except NotSent as failure:
            metadata = failure.trailing_metadata()
        self._finish()
        return metadata

    async def code(self) -> grpc.StatusCode:
        try:
            code: grpc.StatusCode = await (await self._started()).code()
        except NotSent as failure:
            return failure.code()
        self._finish()
        return code

    async def details(self) -> str:
        try:
            details: str = await (await self._started()).details()
        except NotSent as failure:
            return failure.details() or ""
        self._finish()
        return details

    async def wait_for_connection(self) -> None:
        await (await self._started()).wait_for_connection()


class _OneResponse(_Call[Req, Res]):
    def __await__(self) -> Generator[Any, None, Res]:
        return self._run().__await__()

    async def _run(self) -> Res:
        try:
            inner = self._inner
            response: Res = await (inner if inner is not None else await self._started())
        except asyncio.CancelledError:
            self.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            self._judge(error)
            raise
        self._finish()
        assert self._member is not None  # noqa: S101 - it has answered
        self._pool.succeeded(self._member)
        return response


class _ManyResponses(_Call[Req, Res]):
    _messages: AsyncIterator[Res] | None = None

    def __aiter__(self) -> AsyncIterator[Res]:
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def read(self) -> Any:
        try:
            message = await (await self._started()).read()
        except grpc.aio.AioRpcError as error:
            self._judge(error)
            raise
        if message is grpc.aio.EOF:
            self._finish()
        return message

    async def _iterate(self) -> AsyncIterator[Res]:
        try:
            inner = await self._started()
            async for message in inner:
                yield message
        except asyncio.CancelledError:
            self.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            self._judge(error)
            raise
        self._finish()
        assert self._member is not None  # noqa: S101 - it has answered
        self._pool.succeeded(self._member)


class _ManyRequests(_Call[Req, Res]):
    async def write(self, request: Req) -> None:
        await (await self._started()).write(request)

    async def done_writing(self) -> None:
        await (await self._started()).done_writing()


class UnaryUnary(_OneResponse[Req, Res], grpc.aio.UnaryUnaryCall[Req, Res]):
    """One request, one response."""


class UnaryStream(_ManyResponses[Req, Res], grpc.aio.UnaryStreamCall[Req, Res]):
    """One request, many responses."""


class StreamUnary(
    _OneResponse[Req, Res], _ManyRequests[Req, Res], grpc.aio.StreamUnaryCall[Req, Res]
):
    """Many requests, one response."""


class StreamStream(
    _ManyResponses[Req, Res], _ManyRequests[Req, Res], grpc.aio.StreamStreamCall[Req, Res]
):
    """Many requests, many responses."""


def _tell(callback: Callable[[Any], None], call: Any, _inner: Any) -> None:
    """Call back with our call, not with the one inside."""
    callback(call)
