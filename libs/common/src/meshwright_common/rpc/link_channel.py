"""A channel to one process whose calls share one stream, opened anew whenever it is due."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from meshwright_common.rpc.calls import CallChannel, Metadata
from meshwright_common.rpc.link_client import ClientLink, LinkUnknown
from meshwright_common.rpc.local_rpc import LocalRpc
from meshwright_common.rpc.local_server import Codec
from meshwright_common.telemetry.logging import get_logger

Req = TypeVar("Req")

TURN_SECONDS: Final = 25.0
"""How long a link takes new calls. The connection below it may be retired at any time, and gives
what runs on it 330 s: a link that began calls for longer would see some of them cut (limits.py)."""
AGAIN_SECONDS: Final = 60.0
"""After so long a peer that knows no links is asked again: it may have been replaced."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
_HEALTH: Final = "/grpc.health.v1.Health/"
_READY: Final = grpc.ChannelConnectivity.READY
_logger = get_logger(__name__)


class LinkChannel(CallChannel):
    """Makes calls over a link to the peer that `inner` is connected with.

    It is ready when the link is. While there is none, and to a peer that knows none, calls are
    `inner`'s; so are health checks, which ask for the connection.
    """

    def __init__(self, inner: grpc.aio.Channel, turn_seconds: float = TURN_SECONDS) -> None:
        self._inner = inner
        self._turn_seconds = turn_seconds
        self._link: ClientLink | None = None
        self._leaving: set[ClientLink] = set()
        self._is_plain = False
        self._closed = False
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def link(self) -> ClientLink | None:
        """The link that calls begin on now, if there is one."""
        link = self._link
        return link if link is not None and link.takes_calls else None

    def unary_unary(self, method: str, *codecs: Any, **options: Any) -> Any:
        return self._either("unary_unary", super().unary_unary, method, codecs, options)

    def unary_stream(self, method: str, *codecs: Any, **options: Any) -> Any:
        return self._either("unary_stream", super().unary_stream, method, codecs, options)

    def stream_unary(self, method: str, *codecs: Any, **options: Any) -> Any:
        return self._either("stream_unary", super().stream_unary, method, codecs, options)

    def stream_stream(self, method: str, *codecs: Any, **options: Any) -> Any:
        return self._either("stream_stream", super().stream_stream, method, codecs, options)

    def start(
        self,
        method: str,
        codec: Codec,
        request: Req | None,
        timeout: float | None,
        metadata: Metadata | None,
    ) -> LocalRpc[Req, Any]:
        link = self.link
        if link is None:
            raise grpc.aio.UsageError("there is no link")
        return link.start(method, codec, request, timeout, tuple(metadata or ()))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if try_to_connect and not self._tasks:
            # house: naked-task: both ended by `close`
            self._tasks.append(asyncio.create_task(self._follow_connection()))
            # house: naked-task: both ended by `close`
            self._tasks.append(asyncio.create_task(self._keep_link()))
        state = self._inner.get_state(try_to_connect)
        if state is _READY and self.link is None and not self._is_plain:
            return grpc.ChannelConnectivity.CONNECTING
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            await self._changed.wait()

    async def channel_ready(self) -> None:
        while (state := self.get_state(try_to_connect=True)) is not _READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        links = {self._link, *self._leaving} - {None}
        await asyncio.gather(*(link.close(grace) for link in links if link is not None))
        self._notify()
        await self._inner.close(grace)

    def _codec(self, serializer: Any, deserializer: Any) -> Codec:
        return Codec(True, serializer, deserializer)

    def _either(
        self, kind: str, linked: Any, method: str, codecs: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        plain = getattr(self._inner, kind)(method, *codecs, **options)
        if method.startswith(_HEALTH):
            return plain
        return _Either(self, linked(method, *codecs, **options), plain)

    async def _follow_connection(self) -> None:
        while True:
            state = self._inner.get_state(try_to_connect=True)
            self._notify()
            await self._inner.wait_for_state_change(state)

    async def _keep_link(self) -> None:
        """Open a link when the connection stands, and the next one when its turn is over."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            if self._inner.get_state() is not _READY:
                await self._changed.wait()
                continue
            try:
                link = await ClientLink.open(self._inner, self._notify)
            except LinkUnknown:
                _logger.info("link_unknown")
                self._is_plain = True
                self._notify()
                await asyncio.sleep(AGAIN_SECONDS)
            except (grpc.aio.AioRpcError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS
                self._replace(link)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._turn_seconds):
                        await self._until_unusable(link)

    def _replace(self, link: ClientLink) -> None:
        before, self._link, self._is_plain = self._link, link, False
        if before is not None and not before.is_over:
            self._leaving.add(before)
            before.retire()
        self._leaving = {one for one in self._leaving if not one.is_over}
        self._notify()

    async def _until_unusable(self, link: ClientLink) -> None:
        while link.takes_calls:
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class _Either:
    """One method: over the link if there is one now, else plainly."""

    __slots__ = ("_channel", "_linked", "_plain")

    def __init__(
        self, channel: LinkChannel, linked: Callable[..., Any], plain: Callable[..., Any]
    ) -> None:
        self._channel = channel
        self._linked = linked
        self._plain = plain

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        call = self._plain if self._channel.link is None else self._linked
        return call(*arguments, **options)
