"""Long answers: they end when their client leaves, when its key is revoked, when we stop."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

from meshwright_common.errors import (
    FailedPrecondition,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.auth.credentials import Authenticator
from meshwright_gateway.errors import ClientGone
from meshwright_gateway.http.exchange import API_HEADERS, Exchange
from meshwright_gateway.http.problems import Headers
from meshwright_gateway.http.sse import HEARTBEAT

_TICK_SECONDS: Final = 0.5
MOST_HELD_CHARACTERS: Final = 64 * 1024
"""Text that is held for a client that does not keep up; then its model has to wait, too."""
TextFrame: TypeAlias = Callable[[str], bytes]
"""Makes the event of a piece of text."""

_OPEN_SECONDS: Final = 1.0
"""How long a stream that may be over already waits before it sends its head."""
_logger = get_logger(__name__)


class LongAnswers:
    """The long answers of this process."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        heartbeat_seconds: float,
        recheck_seconds: float,
    ) -> None:
        self._authenticator = authenticator
        self._heartbeat_seconds = heartbeat_seconds
        self._recheck_seconds = recheck_seconds
        self._running: set[Presence] = set()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        """Answers under way."""
        return len(self._running)

    def enter(self, answer: "Presence") -> None:
        """Count an answer in. Raises: Unavailable when the process is about to stop."""
        self.refuse_when_leaving()
        self._running.add(answer)
        self._idle.clear()

    def refuse_when_leaving(self) -> None:
        """Raises: Unavailable when the process is about to stop."""
        if self._draining:
            raise _leaving()

    def leave(self, answer: "Presence") -> None:
        """Count an answer out."""
        self._running.discard(answer)
        if not self._running:
            self._idle.set()

    async def keep_alive(self) -> None:
        """Send heartbeats on quiet streams, for as long as this process lives."""
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, self._heartbeat_seconds / 2))
            now = asyncio.get_running_loop().time()
            for answer in tuple(self._running):
                await answer.beat(now, self._heartbeat_seconds)

    async def recheck(self) -> None:
        """End the answers whose credential is no longer good, for as long as this process lives."""
        while True:
            await asyncio.sleep(self._recheck_seconds)
            for answer in tuple(self._running):
                credential = answer.exchange.credential
                if credential is None:
                    continue
                try:
                    await self._authenticator.confirm(credential)
                except (Unauthenticated, FailedPrecondition) as error:
                    answer.interrupt(error)
                except ServiceError as error:
                    # The directory is away: a key that was good stays good until it says no.
                    _logger.warning("recheck_failed", reason=error.reason)
                    break

    async def drain(self, seconds: float) -> None:
        """Take no further answers, wait for the running ones, and end those that take longer.

        Endless ones are ended at once: their clients go on elsewhere.
        """
        self._draining = True
        for answer in tuple(self._running):
            if answer.endless:
                answer.interrupt(_leaving())
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _logger.warning("long_answers_cut", count=len(self._running))
            for answer in tuple(self._running):
                answer.interrupt(_leaving())


def _leaving() -> Unavailable:
    return Unavailable("the gateway is shutting down", retry_after_seconds=1.0)


class Presence:
    """Runs a block for as long as its client is there; afterwards `left` says whether it went.

    `deferred`: do not leave the block yet when the client goes; `raise_if_left` does it later.
    `endless`: nothing but the client ends the block, so a shutdown does not wait for it.
    Raises from the block: what interrupted it (revoked key, shutdown).
    """

    def __init__(self, exchange: Exchange, answers: LongAnswers) -> None:
        self.exchange = exchange
        self.left = False
        self.deferred = False
        self.endless = False
        self._answers = answers
        self._error: ServiceError | None = None
        self._interrupted = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        self._answers.enter(self)
        self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101 - handlers run in tasks
        self._cancelling = self._task.cancelling()
        self.exchange.connection.on_gone(self._client_left)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._answers.leave(self)
        self.exchange.connection.on_gone(None)
        task, self._task = self._task, None
        ours = (
            self._interrupted
            and task is not None
            and task.uncancel() <= self._cancelling
            and exc_type is asyncio.CancelledError
        )
        if ours or exc_type is ClientGone:
            if self._error is not None:
                await self.fail(self._error)
            return True
        if isinstance(exc_value, ServiceError):
            await self.fail(exc_value)
            return True
        if exc_type is None:
            await self.end()
        return False

    def interrupt(self, error: ServiceError | None = None) -> None:
        """Leave the block now; with `error`, say so to the client."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._error = error
            self._task.cancel()

    def raise_if_left(self) -> None:
        """Stop being deferred. Raises: ClientGone when the client went meanwhile."""
        self.deferred = False
        if self.left:
            raise ClientGone

    async def beat(self, now: float, heartbeat_seconds: float) -> None:
        """Show a waiting client that we are here, if nothing was sent for so long."""

    async def fail(self, error: ServiceError) -> None:
        """Tell the client that the answer ends with `error`."""
        raise error

    async def end(self) -> None:
        """The block was left in peace."""

    def _client_left(self) -> None:
        self.left = True
        if not self.deferred:
            self.interrupt()


class EventStream(Presence):
    """A stream of events. Its head leaves with the first event; an error before that is a
    problem with a status, after it the last event. Without any event the answer is 204.

    `opens_early`: when there is no event for a moment, the head leaves alone.

    Text goes out at once while the client keeps up. While it does not, text that comes meanwhile
    is held and leaves as one event as soon as the connection takes more: no timer, nothing is lost,
    and a client that is behind gets fewer and larger events instead of ever older ones.
    """

    def __init__(
        self,
        exchange: Exchange,
        answers: LongAnswers,
        *,
        headers: Headers,
        preamble: bytes,
        error_frame: Callable[[ServiceError], bytes],
        opens_early: bool = False,
    ) -> None:
        super().__init__(exchange, answers)
        self.headers = [*headers, *API_HEADERS]
        self._preamble = preamble
        self._error_frame = error_frame
        self._opens_early = opens_early
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._last = b""
        self._held: list[str] = []
        self._held_characters = 0
        self._held_kind = ""
        self._frame_of: TextFrame | None = None
        self._releasing: asyncio.Task[None] | None = None

    async def send(self, frame: bytes) -> None:
        """Send an event, after the text that is held; waits while the client does not keep up."""
        if self._releasing is not None:
            await self._releasing
        await self._write(frame)

    async def send_last(self, frame: bytes) -> None:
        """Send the last event, which leaves with the end of the stream: the block has to be left
        now, and its end is whole whatever becomes of it from now on.
        """
        if self._releasing is not None:
            await self._releasing
        self._last += frame

    async def send_text(self, kind: str, text: str, frame_of: TextFrame) -> None:
        """Send a piece of text; `frame_of` makes the event, of it and of what was held before it.

        Only pieces of one `kind` are merged. Waits when very much is held.
        """
        if self._releasing is None and self.exchange.connection.is_writable:
            await self._write(frame_of(text))
            return
        if self._releasing is not None and (
            kind != self._held_kind or self._held_characters > MOST_HELD_CHARACTERS
        ):
            await self._releasing
        self._held.append(text)
        self._held_characters += len(text)
        self._held_kind, self._frame_of = kind, frame_of
        if self._releasing is None:
            # house: naked-task: awaited before anything else is sent, ended with the stream
            self._releasing = asyncio.create_task(self._release())

    async def _release(self) -> None:
        """Write what is held whenever the connection takes more, until nothing is."""
        try:
            while self._held and self._frame_of is not None:
                await self.exchange.connection.drain()
                text = "".join(self._held)
                self._held.clear()
                self._held_characters = 0
                await self._write(self._frame_of(text))
        finally:
            self._releasing = None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            if self._releasing is not None and isinstance(exc_value, ServiceError | None):
                # What was generated before an error is the client's.
                await self._releasing
            return await super().__aexit__(exc_type, exc_value, traceback)
        finally:
            if (releasing := self._releasing) is not None:
                releasing.cancel()
                await asyncio.wait({releasing})

    async def _write(self, frame: bytes) -> None:
        self._last_write = self._loop.time()
        exchange = self.exchange
        if not exchange.status:
            await exchange.start(200, self.headers, body_follows=True)
            frame = self._preamble + frame
        await exchange.write(frame)

    async def beat(self, now: float, heartbeat_seconds: float) -> None:
        quiet_seconds = now - self._last_write
        if self.exchange.status:
            if quiet_seconds >= heartbeat_seconds and self.exchange.connection.is_writable:
                await self.send(HEARTBEAT)
        elif self._opens_early and quiet_seconds >= _OPEN_SECONDS:
            await self.send(HEARTBEAT)

    async def fail(self, error: ServiceError) -> None:
        if self._last:
            await self.end()
        elif not self.exchange.status:
            raise error
        else:
            await self.exchange.finish(self._error_frame(error))

    async def end(self) -> None:
        if self.exchange.status:
            await self.exchange.finish(self._last)
        elif self._last:
            await self.exchange.start(200, self.headers, body_follows=True)
            await self.exchange.finish(self._preamble + self._last)
        else:
            await self.exchange.respond(204, b"", API_HEADERS)
