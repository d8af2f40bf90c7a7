"""The client's side of calls whose state is a `LocalRpc`: in this process, or over a link."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import grpc
import grpc.aio

from meshwright_common.rpc.local_rpc import LocalRpc
from meshwright_common.rpc.local_server import Codec

Req = TypeVar("Req")
Res = TypeVar("Res")
Metadata = grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]
Requests = AsyncIterable[Req] | Iterable[Req]


class CallChannel(grpc.aio.Channel):
    """The four kinds of calls, all begun by `start`."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Req, Res]:
        codec = self._codec(request_serializer, response_deserializer)
        return _UnaryUnary(self, method, codec)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Req, Res]:
        codec = self._codec(request_serializer, response_deserializer)
        return _UnaryStream(self, method, codec)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Req, Res]:
        codec = self._codec(request_serializer, response_deserializer)
        return _StreamUnary(self, method, codec)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Req, Res]:
        codec = self._codec(request_serializer, response_deserializer)
        return _StreamStream(self, method, codec)

    @abstractmethod
    def start(
        self,
        method: str,
        codec: Codec,
        request: Req | None,
        timeout: float | None,
        metadata: Metadata | None,
    ) -> LocalRpc[Req, Any]:
        """Start a call; `request` is None when requests come as a stream."""

    @abstractmethod
    def _codec(self, serializer: Any, deserializer: Any) -> Codec:
        """Return how the messages of a method cross."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


class _Call(Generic[Req, Res], grpc.aio.Call):
    """The client's side of a call."""

    def __init__(self, rpc: LocalRpc[Req, Res]) -> None:
        self._rpc = rpc
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        # As in grpc.aio: a call that nobody holds ends. The collector may run in any thread.
        rpc = self._rpc
        if rpc.code is None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(rpc.cancel)

    def cancel(self) -> bool:
        return self._rpc.cancel()

    def cancelled(self) -> bool:
        return self._rpc.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.code is not None

    def time_remaining(self) -> float | None:
        deadline = self._rpc.deadline
        return None if deadline is None else max(deadline - time.monotonic(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._rpc.on_completion(partial(callback, self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*await self._rpc.initial())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._rpc.completion()
        return grpc.aio.Metadata(*self._rpc.trailing)

    async def code(self) -> grpc.StatusCode:
        await self._rpc.completion()
        return self._rpc.code or grpc.StatusCode.UNKNOWN

    async def details(self) -> str:
        await self._rpc.completion()
        return self._rpc.details

    async def debug_error_string(self) -> str:
        await self._rpc.completion()
        return self._rpc.details

    async def wait_for_connection(self) -> None:
        # There is nothing to connect; one turn lets the server refuse.
        await asyncio.sleep(0)
        if self._rpc.code is not None:
            self._raise_for_status()

    def _raise_for_status(self) -> None:
        if self._rpc.locally_cancelled:
            raise asyncio.CancelledError
        if self._rpc.code is not grpc.StatusCode.OK:
            raise self._rpc.error()


class _OneResponse(_Call[Req, Res]):
    def __await__(self) -> Generator[Any, None, Res]:
        if self._rpc.code is None:
            try:
                yield from self._rpc.completion()
            except asyncio.CancelledError:
                self.cancel()
                raise
        self._raise_for_status()
        return cast(Res, self._rpc.response)


class _ManyResponses(_Call[Req, Res]):
    _messages: AsyncIterator[Res] | None = None

    def __aiter__(self) -> AsyncIterator[Res]:
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def _iterate(self) -> AsyncIterator[Res]:
        take = self._rpc.responses.take
        while True:
            try:
                message = await take()
            except asyncio.CancelledError:
                self.cancel()
                raise
            if message is None:
                break
            yield message
        self._raise_for_status()

    async def read(self) -> Res | object:
        try:
            message = await self._rpc.responses.take()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if message is not None:
            return message
        self._raise_for_status()
        return grpc.aio.EOF


class _ManyRequests(_Call[Req, Res]):
    def send(self, requests: Requests[Req] | None) -> None:
        """Start to hand over what the caller's iterator yields, in a task of its own."""
        if requests is not None and self._rpc.code is None:
            # house: naked-task: owned by the call, whose end cancels it
            self._rpc.sender_task = self._loop.create_task(_send(self._rpc, requests))

    async def write(self, request: Req) -> None:
        if self._rpc.sender_task is not None:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed.")
        if self._rpc.code is not None:
            self._raise_for_status()
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._rpc.fits(request):
            await self._rpc.requests.put(request)

    async def done_writing(self) -> None:
        self._rpc.requests.end()


class _UnaryUnaryCall(_OneResponse[Req, Res], grpc.aio.UnaryUnaryCall[Req, Res]):
    pass


class _UnaryStreamCall(_ManyResponses[Req, Res], grpc.aio.UnaryStreamCall[Req, Res]):
    pass


class _StreamUnaryCall(
    _OneResponse[Req, Res], _ManyRequests[Req, Res], grpc.aio.StreamUnaryCall[Req, Res]
):
    pass


class _StreamStreamCall(
    _ManyResponses[Req, Res], _ManyRequests[Req, Res], grpc.aio.StreamStreamCall[Req, Res]
):
    pass


async def _send(rpc: LocalRpc[Req, Res], requests: Requests[Req]) -> None:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                if not rpc.fits(request):
                    return
                await rpc.requests.put(request)
        else:
            for request in requests:
                if not rpc.fits(request):
                    return
                await rpc.requests.put(request)
        rpc.requests.end()
    except asyncio.CancelledError:
        rpc.cancel()
        raise
    # house: broad-except: the caller's own code; PolicyChannel keeps the error for the caller
    except Exception:
        # As in grpc.aio: a caller whose iterator fails has cancelled its call.
        rpc.cancel()


class _Method:
    __slots__ = ("_channel", "_codec", "_method")

    def __init__(self, channel: CallChannel, method: str, codec: Codec) -> None:
        self._channel = channel
        self._method = method
        self._codec = codec


class _UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryUnaryCall[Req, Res]:
        rpc = self._channel.start(self._method, self._codec, request, timeout, metadata)
        return _UnaryUnaryCall(rpc)


class _UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryStreamCall[Req, Res]:
        rpc = self._channel.start(self._method, self._codec, request, timeout, metadata)
        return _UnaryStreamCall(rpc)


class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: Requests[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Req, Res]:
        rpc: LocalRpc[Req, Res]
        rpc = self._channel.start(self._method, self._codec, None, timeout, metadata)
        call = _StreamUnaryCall(rpc)
        call.send(request_iterator)
        return call


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: Requests[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Req, Res]:
        rpc: LocalRpc[Req, Res]
        rpc = self._channel.start(self._method, self._codec, None, timeout, metadata)
        call = _StreamStreamCall(rpc)
        call.send(request_iterator)
        return call
