"""The server's side of links: calls that arrive on them get to the servicers of this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from meshwright_common.rpc import link_frames as wire
from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES
from meshwright_common.rpc.link_flow import Incoming, Outgoing
from meshwright_common.rpc.link_frames import Ending, LinkError
from meshwright_common.rpc.link_outbox import Outbox
from meshwright_common.rpc.local_rpc import LocalRpc, Pairs
from meshwright_common.rpc.local_server import Codec, LocalServer
from meshwright_common.rpc.wrapping import Handler
from meshwright_common.telemetry.logging import get_logger

LINGER_SECONDS: Final = 2.0
"""How long a retired link without calls waits for the client to take its leave."""
_logger = get_logger(__name__)


class LinkHost(grpc.aio.ServerInterceptor):
    """Takes links on a gRPC server, as its outermost interceptor.

    A link itself needs no credentials, as a connection needs none: each call on it passes the
    interceptors of `local`. All links together have at most `maximum_calls` at a time.
    """

    def __init__(self, local: LocalServer, maximum_calls: int) -> None:
        self._local = local
        self._maximum_calls = maximum_calls
        self._links: set[ServedLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handler: Handler = grpc.stream_stream_rpc_method_handler(self._exchange)
        local.on_stopping(self._retire)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        if handler_call_details.method == wire.LINK_PATH:
            return self._handler
        return await continuation(handler_call_details)

    @property
    def has_room(self) -> bool:
        """Whether one more call may begin."""
        return sum(link.running for link in self._links) < self._maximum_calls

    def see_off(self, task: asyncio.Task[None]) -> None:
        """Hold a task of a link that has ended until it has too, and its error with it."""
        if not task.done():
            self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # The call is over, which is what it says.
            task.exception()

    def _retire(self) -> None:
        for link in self._links:
            link.retire()

    async def _exchange(self, batches: AsyncIterator[bytes], context: Any) -> None:
        if self._local.is_stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        link = ServedLink(self, self._local)
        self._links.add(link)
        try:
            await context.send_initial_metadata(((wire.HELLO, wire.VERSION),))
            await link.serve(batches, context.write)
        except LinkError as error:
            _logger.warning("link_broken", error=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self._links.discard(link)


class ServedLink:
    """One link, with the calls that run on it."""

    def __init__(self, host: LinkHost, local: LocalServer) -> None:
        self._host = host
        self._local = local
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop)
        self._calls: dict[int, ServedRpc] = {}
        self._latest = 0
        self._retired = False

    @property
    def running(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    async def serve(
        self, batches: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Serve until the client takes its leave, or until it is retired and has no calls.

        Raises: LinkError.
        """
        # house: naked-task: both end with the call
        writer = asyncio.create_task(self._outbox.run(write))
        # house: naked-task: both end with the call
        reader = asyncio.create_task(self._read(batches))
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()
        finally:
            self.break_off()
            # Not cancelled: gRPC must not lose track of an operation that is under way. Both end
            # with the call, the reader only after this.
            await asyncio.wait({writer}, timeout=LINGER_SECONDS)
            for task in (reader, writer):
                self._host.see_off(task)

    def retire(self) -> None:
        """Take no new calls, and end when those that run have ended."""
        if not self._retired:
            self._retired = True
            self._outbox.send(wire.frame(wire.RETIRE, 0))
            self._end_if_idle()

    def break_off(self) -> None:
        """Cancel the calls: the client is gone."""
        self._outbox.close(drop=True)
        for rpc in tuple(self._calls.values()):
            rpc.cancel()

    def ended(self, rpc: "ServedRpc", ending: Ending) -> None:
        """Tell the client how a call ended, and forget it."""
        self._calls.pop(rpc.call, None)
        response = ending.response
        is_long = response is not None and len(response) > wire.PART_BYTES
        if is_long and response is not None:
            for one in wire.long_frames(rpc.call, response):
                self._outbox.send(one, bulk=True)
            ending = Ending(ending.code, ending.details, ending.trailing, None, ending.refused)
        self._outbox.send(wire.ending_frame(rpc.call, ending), bulk=is_long)
        self._end_if_idle()

    def send_initial(self, rpc: "ServedRpc", metadata: Pairs) -> None:
        """Send the initial metadata of a call."""
        self._outbox.send(wire.initial_frame(rpc.call, metadata))

    async def _read(self, batches: AsyncIterator[bytes]) -> None:
        async for batch in batches:
            for kind, call, body in wire.frames(batch):
                if kind == wire.OPEN:
                    self._open(call, wire.read_opening(body))
                elif (rpc := self._calls.get(call)) is not None:
                    self._follow(rpc, kind, body)

    def _open(self, call: int, opening: wire.Opening) -> None:
        if call <= self._latest:
            raise LinkError("the number of a call was used before")
        self._latest = call
        if self._retired:
            self._refuse(call, grpc.StatusCode.UNAVAILABLE, "the server is stopping", refused=True)
        elif not self._host.has_room:
            self._refuse(call, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")
        elif wire.metadata_bytes(opening.metadata) > wire.MAX_METADATA_BYTES:
            self._refuse(call, grpc.StatusCode.RESOURCE_EXHAUSTED, "too much metadata")
        else:
            rpc = ServedRpc(self, self._loop, self._outbox, call, opening)
            self._calls[call] = rpc
            if opening.streams or opening.request is not None:
                self._local.accept(rpc, opening.request, rpc.codec)

    def _refuse(
        self, call: int, code: grpc.StatusCode, details: str, *, refused: bool = False
    ) -> None:
        ending = Ending(code.value[0], details, (), None, refused)
        self._outbox.send(wire.ending_frame(call, ending))

    def _follow(self, rpc: "ServedRpc", kind: int, body: bytes) -> None:
        match kind:
            case wire.DATA | wire.PART:
                rpc.incoming.feed(body, is_part=kind == wire.PART)
            case wire.LONG:
                rpc.gather(body)
            case wire.HALF if rpc.streams:
                rpc.requests.end()
            case wire.HALF:
                self._local.accept(rpc, rpc.gathered(), rpc.codec)
            case wire.CANCEL:
                rpc.cancel()
            case wire.CREDIT:
                rpc.outgoing.grant(wire.read_credit(body))
            case _:
                raise LinkError(f"frame {kind} is not a client's")

    def _end_if_idle(self) -> None:
        if self._retired and not self._calls:
            # The client, who was told, leaves first: a call that it had begun is refused till then.
            self._loop.call_later(LINGER_SECONDS, self._outbox.close)


class ServedRpc(LocalRpc[bytes, bytes]):
    """A call that came over a link."""

    __slots__ = ("_link", "_parts", "_size", "call", "codec", "incoming", "outgoing", "streams")

    def __init__(
        self,
        link: ServedLink,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        call: int,
        opening: wire.Opening,
    ) -> None:
        self._link = link
        self.call = call
        self.streams = opening.streams
        self._parts: list[bytes] = []
        self._size = 0
        self.incoming: Incoming[bytes] = Incoming(loop, outbox, call, None, self.interrupt)
        self.outgoing: Outgoing[bytes] = Outgoing(loop, outbox, call, None)
        self.codec = _WireCodec(self)
        super().__init__(
            *(opening.path, opening.metadata, opening.timeout_seconds, loop),
            requests=self.incoming,
            responses=self.outgoing,
        )

    def gather(self, part: bytes) -> None:
        """Keep a part of the one request; too many of them end the call."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_MESSAGE_BYTES:
            self.interrupt(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({self._size} vs. {MAX_MESSAGE_BYTES})",
            )

    def gathered(self) -> bytes:
        """Return the one request, whose parts are all here."""
        request = b"".join(self._parts)
        self._parts = []
        return request

    def send_initial(self, metadata: Pairs) -> None:
        if metadata and not self.initial_sent:
            self._link.send_initial(self, metadata)
        super().send_initial(metadata)

    def finish(self, code: grpc.StatusCode, details: str = "", trailing: Pairs = ()) -> None:
        if self.code is not None:
            return
        super().finish(code, details, trailing)
        response = self.response if code is grpc.StatusCode.OK else None
        self._link.ended(self, Ending(code.value[0], details or "", trailing, response, False))


class _WireCodec(Codec):
    """Messages cross as bytes, parsed and serialised by the handler's own functions."""

    __slots__ = ("_rpc",)

    def __init__(self, rpc: ServedRpc) -> None:
        super().__init__(True, None, None)
        self._rpc = rpc

    def request_reader(self, handler: Handler) -> Callable[[Any], Any]:
        parse = handler.request_deserializer

        def read(request: bytes | None) -> Any:
            try:
                if request is None:
                    raise DecodeError
                return request if parse is None else parse(request)
            except DecodeError:
                self._rpc.finish(grpc.StatusCode.INTERNAL, "the request cannot be read")
                raise grpc.aio.AbortError("the request cannot be read") from None

        return read

    def response_reader(self, handler: Handler) -> Callable[[Any], Any]:
        return handler.response_serializer or _as_it_is


def _as_it_is(message: Any) -> Any:
    return message
