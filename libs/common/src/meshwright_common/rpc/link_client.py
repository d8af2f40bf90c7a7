"""The client's side of one link: a stream to one process, and the calls that run on it."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from meshwright_common.rpc import link_frames as wire
from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES
from meshwright_common.rpc.link_flow import Incoming, Outgoing
from meshwright_common.rpc.link_frames import LinkError
from meshwright_common.rpc.link_outbox import Outbox
from meshwright_common.rpc.local_rpc import LocalRpc, Pairs
from meshwright_common.rpc.local_server import Codec
from meshwright_common.rpc.pool import NotSent
from meshwright_common.telemetry.logging import get_logger

Req = TypeVar("Req")
Res = TypeVar("Res")

OPEN_SECONDS: Final = 5.0
"""How long a peer may take to say that it speaks links."""
CLOSE_SECONDS: Final = 1.0
"""How long it may take to let the stream go."""
_LOST: Final = "the connection to the peer was lost"
_logger = get_logger(__name__)


class LinkUnknown(Exception):
    """The peer takes calls, but no links."""


class ClientLink:
    """An open link. `on_change` is called when it stops taking calls."""

    def __init__(self, stream: Any, on_change: Callable[[], None]) -> None:
        self._stream = stream
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop)
        self._calls: dict[int, CallingRpc] = {}
        self._latest = 0
        self._retired = False
        # house: naked-task: ended by `close`, or when the peer ends the stream
        self._running = asyncio.create_task(self._run())

    @classmethod
    async def open(cls, channel: grpc.aio.Channel, on_change: Callable[[], None]) -> Self:
        """Open a link over `channel`, which is connected.

        Raises: LinkUnknown when the peer has none, AioRpcError and TimeoutError when it fails.
        """
        method: Any = channel.stream_stream(wire.LINK_PATH)
        stream = method()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                for name, value in await stream.initial_metadata() or ():
                    if name == wire.HELLO and value == wire.VERSION:
                        return cls(stream, on_change)
                if await stream.code() is grpc.StatusCode.UNIMPLEMENTED:
                    raise LinkUnknown
                raise grpc.aio.AioRpcError(
                    await stream.code(),
                    await stream.initial_metadata(),
                    await stream.trailing_metadata(),
                    details=await stream.details(),
                )
        except BaseException:
            stream.cancel()
            raise

    @property
    def takes_calls(self) -> bool:
        """Whether a call may begin on it."""
        return not self._retired

    def start(
        self, path: str, codec: Codec, request: Req | None, timeout: float | None, metadata: Pairs
    ) -> "CallingRpc":
        """Begin a call; `request` is None when requests come as a stream."""
        self._latest += 1
        rpc = CallingRpc(self, self._loop, self._outbox, self._latest, path, codec, timeout)
        rpc.metadata = metadata
        if timeout is not None and timeout <= 0:
            rpc.end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif self._outbox.is_stuck:
            rpc.refused = True
            rpc.end(grpc.StatusCode.UNAVAILABLE, "the peer takes nothing of what is sent to it")
        elif request is None or rpc.fits(request):
            self._calls[rpc.call] = rpc
            self._open(rpc, codec, request, timeout)
        return rpc

    def retire(self) -> None:
        """Begin no more calls; the link ends with those that run."""
        self._retired = True
        if not self._calls:
            self._outbox.close()

    async def close(self, grace: float | None) -> None:
        """End it, with its calls: they get `grace` seconds."""
        self._retired = True
        if self._calls and grace:
            await asyncio.wait([rpc.completion() for rpc in self._calls.values()], timeout=grace)
        for rpc in tuple(self._calls.values()):
            rpc.cancel()
        self._outbox.close()
        await asyncio.wait({self._running}, timeout=CLOSE_SECONDS)
        self._stream.cancel()
        await asyncio.wait({self._running})

    async def ended(self) -> None:
        """Return when it is over."""
        await asyncio.wait({self._running})

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self._running.done()

    def forget(self, rpc: "CallingRpc") -> None:
        """Take note that a call has ended; the server is told if it does not know."""
        if self._calls.pop(rpc.call, None) is not None and not rpc.told:
            self._outbox.send(wire.frame(wire.CANCEL, rpc.call))
        if self._retired and not self._calls:
            self._outbox.close()

    def _open(
        self, rpc: "CallingRpc", codec: Codec, request: object, timeout: float | None
    ) -> None:
        call, data = rpc.call, None
        if request is not None:
            serialize = codec.request_serializer
            data = cast(bytes, request) if serialize is None else serialize(request)
        is_long = data is not None and len(data) > wire.PART_BYTES
        opening = wire.Opening(
            *(rpc.path, timeout, rpc.metadata, None if is_long else data), request is None
        )
        self._outbox.send(wire.opening_frame(call, opening))
        if is_long and data is not None:
            for one in wire.long_frames(call, data):
                self._outbox.send(one, bulk=True)
            self._outbox.send(wire.frame(wire.HALF, call), bulk=True)

    async def _run(self) -> None:
        """Send and receive until the stream ends, then end the calls that are left."""
        # house: naked-task: both end with this
        writer = asyncio.create_task(self._write())
        # house: naked-task: both end with this
        reader = asyncio.create_task(self._read())
        try:
            await reader
        except (grpc.aio.AioRpcError, LinkError) as error:
            text = error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
            _logger.info("link_lost", reason=text, calls=len(self._calls))
        finally:
            self._retired = True
            # Not the tasks: gRPC must not lose track of an operation that is under way.
            self._stream.cancel()
            self._lose_calls()
            await asyncio.wait({writer, reader})
            self._on_change()

    async def _write(self) -> None:
        try:
            await self._outbox.run(self._stream.write)
            await self._stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # The stream has ended, which the reader sees, and why.
            pass

    async def _read(self) -> None:
        read = self._stream.read
        while (batch := await read()) is not grpc.aio.EOF:
            for kind, call, body in wire.frames(batch):
                if (rpc := self._calls.get(call)) is not None:
                    self._follow(rpc, kind, body)
                elif kind == wire.RETIRE:
                    self.retire()
                    self._on_change()

    def _follow(self, rpc: "CallingRpc", kind: int, body: bytes) -> None:
        match kind:
            case wire.DATA | wire.PART:
                if not rpc.initial_sent:
                    rpc.send_initial(())
                rpc.incoming.feed(body, is_part=kind == wire.PART)
            case wire.LONG:
                rpc.gather(body)
            case wire.END:
                rpc.conclude(wire.read_ending(body))
            case wire.CREDIT:
                rpc.outgoing.grant(wire.read_credit(body))
            case wire.INITIAL:
                rpc.send_initial(wire.read_initial(body))
            case _:
                raise LinkError(f"frame {kind} is not a server's")

    def _lose_calls(self) -> None:
        unsent = {wire.kind_and_call(one) for one in self._outbox.unsent()}
        self._outbox.close(drop=True)
        for call, rpc in tuple(self._calls.items()):
            rpc.refused = (wire.OPEN, call) in unsent
            rpc.end(grpc.StatusCode.UNAVAILABLE, _LOST)


class CallingRpc(LocalRpc[Any, Any]):
    """A call that goes out over a link."""

    __slots__ = (
        *("_gathered", "_link", "_parse", "_size", "call"),
        *("incoming", "outgoing", "refused", "told"),
    )

    def __init__(
        self,
        link: ClientLink,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        call: int,
        path: str,
        codec: Codec,
        timeout: float | None,
    ) -> None:
        self._link = link
        self._parse = codec.response_deserializer
        self._gathered: list[bytes] = []
        self._size = 0
        self.call = call
        self.refused = False
        self.told = False
        self.incoming: Incoming[Any] = Incoming(
            *(loop, outbox, call, codec.response_deserializer, self.interrupt)
        )
        self.outgoing: Outgoing[Any] = Outgoing(
            *(loop, outbox, call, codec.request_serializer, wire.HALF)
        )
        super().__init__(
            *(path, (), timeout, loop), requests=self.outgoing, responses=self.incoming
        )

    def gather(self, part: bytes) -> None:
        """Keep a part of the one response; too many of them end the call."""
        self._gathered.append(part)
        self._size += len(part)
        if self._size > MAX_MESSAGE_BYTES:
            self.interrupt(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({self._size} vs. {MAX_MESSAGE_BYTES})",
            )

    def conclude(self, ending: wire.Ending) -> None:
        """End as the server says."""
        self.refused = ending.refused
        data = b"".join(self._gathered) if self._gathered else ending.response
        if data is not None:
            try:
                self.response = data if self._parse is None else self._parse(data)
            except DecodeError:
                self.end(grpc.StatusCode.INTERNAL, "the response cannot be read")
        self.end(ending.status_code, ending.details, ending.trailing)

    def end(self, code: grpc.StatusCode, details: str, trailing: Pairs = ()) -> None:
        """End without a word to the server, which knows or cannot be told."""
        self.told = True
        self.finish(code, details, trailing)

    def finish(self, code: grpc.StatusCode, details: str = "", trailing: Pairs = ()) -> None:
        if self.code is None:
            super().finish(code, details, trailing)
            self._link.forget(self)

    def error(self) -> grpc.aio.AioRpcError:
        return NotSent(self.details) if self.refused else super().error()
