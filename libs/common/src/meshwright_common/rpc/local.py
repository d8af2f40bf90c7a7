"""A channel to servicers in this process, with the call surface of `grpc.aio`."""

import asyncio
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio

from meshwright_common.rpc.calls import CallChannel, Metadata
from meshwright_common.rpc.local_rpc import LocalRpc
from meshwright_common.rpc.local_server import Codec, LocalServer

__all__ = ["LocalChannel", "LocalServer"]

Req = TypeVar("Req")


class LocalChannel(CallChannel):
    """Calls the servicers of `server` without a socket.

    Messages are handed over as they are: what is received is read-only. With `copy_messages`
    they are serialised and parsed, which shows code that shares what it must not.
    """

    def __init__(self, server: LocalServer, *, copy_messages: bool = False) -> None:
        self._server = server
        self._copy_messages = copy_messages
        self._closed = False
        self._running: set[LocalRpc[Any, Any]] = set()

    def start(
        self,
        method: str,
        codec: Codec,
        request: Req | None,
        timeout: float | None,
        metadata: Metadata | None,
    ) -> LocalRpc[Req, Any]:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        loop = asyncio.get_running_loop()
        rpc: LocalRpc[Req, Any] = LocalRpc(method, tuple(metadata or ()), timeout, loop)
        if timeout is not None and timeout <= 0:
            rpc.finish(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif request is None or rpc.fits(request):
            self._running.add(rpc)
            rpc.on_completion(partial(self._running.discard, rpc))
            self._server.accept(rpc, request, codec)
        return rpc

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        if self._running and grace:
            await asyncio.wait([rpc.completion() for rpc in self._running], timeout=grace)
        for rpc in tuple(self._running):
            rpc.cancel()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        if self.get_state() is last_observed_state:
            # A local channel is ready until somebody closes it, which nobody waits for.
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """A local channel is always ready."""

    def _codec(self, serializer: Any, deserializer: Any) -> Codec:
        return Codec(self._copy_messages, serializer, deserializer)
