"""State of one call on its side of the process, and the view of it that its handler gets."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, NoReturn, Protocol, TypeVar, cast

import grpc
import grpc.aio

from meshwright_common.rpc.handover import Handover, Passage
from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES

Req = TypeVar("Req")
Res = TypeVar("Res")
Pairs = tuple[tuple[str, str | bytes], ...]
Serializer = Callable[[object], bytes]
Deserializer = Callable[[bytes], object]

LOCAL_CANCELLATION: Final = "Locally cancelled by application!"


class _Sized(Protocol):
    def ByteSize(self) -> int: ...


class LocalRpc(Generic[Req, Res]):
    """One call: what went in, how it ended, and the two hand-overs between the sides.

    `code` is None until the call ended; the first end wins. Whoever ends it from the client's
    side (cancel, deadline) also cancels the handler's task and does not wait for it.
    """

    __slots__ = (
        "_callbacks",
        "_initial",
        "_initial_waiters",
        "_loop",
        "_timer",
        "_waiters",
        "code",
        "deadline",
        "details",
        "handler_task",
        "locally_cancelled",
        "metadata",
        "path",
        "requests",
        "response",
        "responses",
        "sender_task",
        "trailing",
    )

    def __init__(
        self,
        path: str,
        metadata: Pairs,
        timeout_seconds: float | None,
        loop: asyncio.AbstractEventLoop,
        requests: Passage[Req] | None = None,
        responses: Passage[Res] | None = None,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: Pairs = ()
        self.locally_cancelled = False
        self.response: Res | None = None
        self.responses: Passage[Res] = responses or Handover(loop)
        self.requests: Passage[Req] = requests or Handover(loop)
        self.handler_task: asyncio.Task[None] | None = None
        self.sender_task: asyncio.Task[None] | None = None
        self._loop = loop
        self._initial: Pairs | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._initial_waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.deadline: float | None = None
        if timeout_seconds is not None:
            self.deadline = time.monotonic() + timeout_seconds
            self._timer = loop.call_later(max(timeout_seconds, 0), self._expire)

    def finish(self, code: grpc.StatusCode, details: str = "", trailing: Pairs = ()) -> None:
        """End the call. What the handler handed over before is still delivered."""
        if self.code is not None:
            return
        self.code, self.details, self.trailing = code, details, trailing
        if self._timer is not None:
            self._timer.cancel()
        self.send_initial(())
        self.responses.end(drop=self.locally_cancelled)
        self.requests.end(drop=True)
        if self.sender_task is not None:
            self.sender_task.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for callback in self._callbacks:
            self._loop.call_soon(callback)
        self._waiters, self._callbacks = [], []

    def cancel(self) -> bool:
        """End the call from the client's side. Returns whether it was still running."""
        if self.code is not None:
            return False
        self.locally_cancelled = True
        self.interrupt(grpc.StatusCode.CANCELLED, LOCAL_CANCELLATION)
        return True

    def interrupt(self, code: grpc.StatusCode, details: str) -> None:
        """End the call over the head of its handler, whose task is cancelled."""
        if self.code is None:
            self.finish(code, details)
            if self.handler_task is not None:
                self.handler_task.cancel()

    def _expire(self) -> None:
        self.interrupt(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def send_initial(self, metadata: Pairs) -> None:
        """Make the initial metadata known, once."""
        if self._initial is None:
            self._initial = metadata
            for waiter in self._initial_waiters:
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def initial_sent(self) -> bool:
        """Whether the initial metadata is on its way."""
        return self._initial is not None

    async def initial(self) -> Pairs:
        """Return the initial metadata, when the handler sent it or anything else."""
        if self._initial is None:
            waiter = self._loop.create_future()
            self._initial_waiters.append(waiter)
            await waiter
        return self._initial or ()

    def completion(self) -> "asyncio.Future[None]":
        """Return a future that is done when the call has ended."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self.code is None:
            self._waiters.append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def on_completion(self, callback: Callable[[], None]) -> None:
        """Call `callback` soon after the call ended."""
        if self.code is None:
            self._callbacks.append(callback)
        else:
            self._loop.call_soon(callback)

    def fits(self, message: object) -> bool:
        """Return whether `message` is within the size limit; if not, the call has ended."""
        if not hasattr(message, "ByteSize"):
            return True
        size = cast(_Sized, message).ByteSize()
        if size <= MAX_MESSAGE_BYTES:
            return True
        self.interrupt(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"Sent message larger than max ({size} vs. {MAX_MESSAGE_BYTES})",
        )
        return False

    def error(self) -> grpc.aio.AioRpcError:
        """Return the error of a call that ended with another code than OK."""
        return grpc.aio.AioRpcError(
            self.code or grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(*(self._initial or ())),
            grpc.aio.Metadata(*self.trailing),
            details=self.details,
            debug_error_string=f"{self.path}: {self.details}",
        )


class LocalServicerContext(grpc.aio.ServicerContext[Req, Res]):
    """What a handler knows of its call and may do with it."""

    __slots__ = ("_abort_error", "_code", "_convert", "_details", "_read", "_rpc", "_trailing")

    def __init__(
        self, rpc: LocalRpc[Req, Res], read: Callable[[Req], Req], convert: Callable[[Res], Res]
    ) -> None:
        self._rpc = rpc
        self._read = read
        self._convert = convert
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Pairs = ()
        self._abort_error: grpc.aio.AbortError | None = None

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: grpc.aio.Metadata | Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        if self._abort_error is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self._code = code
        self._details = details or self._details
        self._trailing = tuple(trailing_metadata) or self._trailing
        self._abort_error = grpc.aio.AbortError("Locally aborted.")
        self._rpc.finish(code, self._details, self._trailing)
        raise self._abort_error

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Req:
        self.raise_if_over()
        request = await self._rpc.requests.take()
        self.raise_if_over()
        return cast(Req, grpc.aio.EOF) if request is None else self._read(request)

    async def write(self, message: Res) -> None:
        if self._rpc.code is not None:
            self.raise_if_over()
        if not self._rpc.initial_sent:
            self._rpc.send_initial(())
        if self._rpc.fits(message):
            await self._rpc.responses.put(self._convert(message))
        else:
            self.raise_if_over()

    async def send_initial_metadata(
        self, initial_metadata: grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]
    ) -> None:
        self.raise_if_over()
        if self._rpc.initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        self._rpc.send_initial(tuple(initial_metadata))

    def raise_if_over(self) -> None:
        """Stop a handler whose call was aborted or has ended."""
        if self._abort_error is not None:
            raise self._abort_error
        if self._rpc.code is not None:
            raise grpc.aio.UsageError("RPC already finished.")

    def set_trailing_metadata(
        self, trailing_metadata: grpc.aio.Metadata | Iterable[tuple[str, str | bytes]]
    ) -> None:
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return cast(grpc.aio.Metadata, self._trailing)

    def invocation_metadata(self) -> grpc.aio.Metadata | None:
        return cast(grpc.aio.Metadata, self._rpc.metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return cast(grpc.StatusCode, self._code)

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed inside a process."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed inside a process."""

    def peer(self) -> str:
        return "local:"

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> float:
        deadline = self._rpc.deadline
        # None for "no deadline" is what the real context returns, whatever its stub says.
        return cast(float, None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def add_done_callback(
        self, callback: Callable[["LocalServicerContext[Req, Res]"], None]
    ) -> None:
        self._rpc.on_completion(lambda: callback(self))

    def done(self) -> bool:
        return self._rpc.code is not None

    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED
