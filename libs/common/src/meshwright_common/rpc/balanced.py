"""A channel to all instances of a peer: each call goes to the one whose turn it is."""

from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from meshwright_common.clock import Clock, SystemClock
from meshwright_common.rpc import balanced_calls
from meshwright_common.rpc.balanced_calls import Start
from meshwright_common.rpc.pool import READY, OpenChannel, Pool, Watch

Req = TypeVar("Req")
Res = TypeVar("Res")
_OPTIONS: Final = ("metadata", "credentials", "wait_for_ready", "compression")
Metadata = grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]


class BalancedChannel(grpc.aio.Channel):
    """Behaves like `grpc.aio.Channel` over one channel per instance.

    `watch` yields the instances of `peer`, `open_channel` opens a channel to an address. An
    instance gets calls from the moment it is connected, by its weight; one that has left gets no
    new ones and is closed when its calls have ended; one that keeps failing pauses. A call waits
    for a connection that is being made; when it ends with `NotSent`, nothing of it has left this
    process.
    """

    def __init__(
        self, peer: str, watch: Watch, open_channel: OpenChannel, clock: Clock | None = None
    ) -> None:
        self._pool = Pool(peer, watch, open_channel, clock or SystemClock())

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Req, Res]:
        return _UnaryUnary(self._pool, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Req, Res]:
        return _UnaryStream(self._pool, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Req, Res]:
        return _StreamUnary(self._pool, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Req, Res]:
        return _StreamStream(self._pool, method, request_serializer, response_deserializer)

    def renew(self) -> None:
        """Open every connection anew, each replaced when its successor is connected."""
        self._pool.renew()

    def when_connected(self, call: Callable[[], None]) -> None:
        """Call this whenever an instance was connected, for the first time or again."""
        self._pool.when_connected(call)

    async def close(self, grace: float | None = None) -> None:
        await self._pool.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._pool.state()

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._pool.wait_while(last_observed_state)

    async def channel_ready(self) -> None:
        while (state := self.get_state(try_to_connect=True)) is not READY:
            await self.wait_for_state_change(state)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


class _Method:
    __slots__ = ("_codecs", "_path", "_pool")

    def __init__(self, pool: Pool, path: str, serializer: Any, deserializer: Any) -> None:
        self._pool = pool
        self._path = path
        self._codecs = (serializer, deserializer)

    def _start(self, kind: str, request: object, timeout: float | None, *options: Any) -> Start:
        given = {
            name: value for name, value in zip(_OPTIONS, options, strict=True) if value is not None
        }
        return Start(self._pool, kind, self._path, self._codecs, request, timeout, given)


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
        options = (metadata, credentials, wait_for_ready, compression)
        return balanced_calls.UnaryUnary(self._start("unary_unary", request, timeout, *options))


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
        options = (metadata, credentials, wait_for_ready, compression)
        return balanced_calls.UnaryStream(self._start("unary_stream", request, timeout, *options))


class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: AsyncIterable[Req] | Iterable[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Req, Res]:
        options = (metadata, credentials, wait_for_ready, compression)
        start = self._start("stream_unary", request_iterator, timeout, *options)
        return balanced_calls.StreamUnary(start)


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request_iterator: AsyncIterable[Req] | Iterable[Req] | None = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Req, Res]:
        options = (metadata, credentials, wait_for_ready, compression)
        start = self._start("stream_stream", request_iterator, timeout, *options)
        return balanced_calls.StreamStream(start)
