"""The connections to the instances of a peer, and whose turn it is."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from typing import Final

import grpc
import grpc.aio

from meshwright_common.clock import Clock
from meshwright_common.registry.ports import Endpoint
from meshwright_common.rpc.sub_channel import SubChannel
from meshwright_common.telemetry import metrics
from meshwright_common.telemetry.logging import get_logger

READY: Final = grpc.ChannelConnectivity.READY
FAILING: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE
WAIT_SECONDS: Final = 2.0
"""How long a call waits for a first instance, or for a connection that is being made."""
MEETING_SECONDS: Final = 1.5
"""How long a call waits for a peer of which no instance was ever connected: it may have begun to
listen in the pause between two attempts to connect, 1.2 s at most (limits.py)."""
RELEASE_SECONDS: Final = 330.0
"""How long calls of an instance that has left may go on: longer than any stream."""
RENEW_LOOK_SECONDS: Final = 1.0
"""How often is looked whether the old connection still stands while a new one is being made."""
TELL_SECONDS: Final = 5.0
"""An instance that cannot be reached for so long is told of: one that starts is there by then."""

OpenChannel = Callable[[str], grpc.aio.Channel]
Watch = Callable[[], AsyncGenerator[tuple[Endpoint, ...], None]]
_logger = get_logger(__name__)


class NotSent(grpc.aio.AioRpcError):
    """No instance could be reached, and nothing of the call has left this process."""

    def __init__(self, details: str) -> None:
        super().__init__(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
        )


class Pool:
    """The instances of `peer` as `watch` yields them, each with a channel of `open_channel`.

    It watches and connects from the beginning: a registry that fails later has told us by then.
    Make it inside the running loop.
    """

    def __init__(self, peer: str, watch: Watch, open_channel: OpenChannel, clock: Clock) -> None:
        self._peer = peer
        self._watch = watch
        self._open_channel = open_channel
        self._clock = clock
        self._members: dict[str, SubChannel] = {}
        self._changed = asyncio.Event()
        self._tending: dict[SubChannel, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._met = False
        self._when_connected: Callable[[], None] = lambda: None
        # house: naked-task: ended by `close`
        self._following = asyncio.create_task(self._follow(), name=f"instances-of-{peer}")

    def pick(self) -> SubChannel | None:
        """Return whose turn it is among those that are connected; None: nobody is, now.

        Left out are ejected instances and, if there are others, those that failed a moment ago.
        """
        members = self._members.values()
        candidates = [one for one in members if not one.outlier.is_ejected]
        rested = [one for one in candidates if not one.outlier.rests]
        return (
            _next_ready(rested)
            or (len(rested) < len(candidates) and _next_ready(candidates))
            or (len(candidates) < len(members) and _next_ready(members))
            or None
        )

    async def wait_and_pick(self, remaining_seconds: float | None) -> SubChannel:
        """Return whose turn it is as soon as anybody is connected.

        Raises: NotSent after `WAIT_SECONDS` or what remains of the call's time. When nobody can be
        reached: at once, and after `MEETING_SECONDS` if nobody ever was.
        """
        left = WAIT_SECONDS if remaining_seconds is None else remaining_seconds
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + MEETING_SECONDS
        try:
            async with asyncio.timeout(min(left, WAIT_SECONDS)):
                while True:
                    changed = self._changed
                    picked = self.pick()
                    if picked is not None:
                        return picked
                    if self._closed:
                        raise NotSent("the channel is closed")
                    if not self._members or any(
                        one.state is not FAILING for one in self._members.values()
                    ):
                        await changed.wait()
                        continue
                    patience = patient_until - loop.time()
                    if self._met or patience <= 0:
                        raise NotSent(f"no instance of {self._peer} can be reached")
                    with suppress(TimeoutError):
                        async with asyncio.timeout(patience):
                            await changed.wait()
        except TimeoutError:
            what = "can be reached" if self._members else "is known"
            raise NotSent(f"no instance of {self._peer} {what}") from None

    def succeeded(self, member: SubChannel) -> None:
        """A call was answered."""
        member.outlier.succeeded()

    def failed(self, member: SubChannel) -> None:
        """A call found the instance unavailable."""
        if member.outlier.failed([one.outlier for one in self._members.values()]):
            metrics.RPC_CLIENT_EJECTIONS.labels(self._peer).inc()
            _logger.warning("instance_ejected", peer=self._peer, address=member.address)

    def when_connected(self, call: Callable[[], None]) -> None:
        """Call this whenever an instance was connected, for the first time or again."""
        self._when_connected = call

    def state(self) -> grpc.ChannelConnectivity:
        """Return the best state of all connections."""
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        states = {one.state for one in self._members.values()}
        for better in (READY, grpc.ChannelConnectivity.CONNECTING, FAILING):
            if better in states:
                return better
        return grpc.ChannelConnectivity.IDLE

    async def wait_while(self, state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one."""
        while True:
            changed = self._changed
            if self.state() is not state:
                return
            await changed.wait()

    def renew(self) -> None:
        """Open every channel anew: what channels are opened with has changed."""
        for member in tuple(self._members.values()):
            # house: naked-task: ended by itself, or by `close`
            task = asyncio.create_task(self._replace(member))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self, grace: float | None) -> None:
        """Stop watching and close all channels; calls under way get `grace` seconds."""
        self._closed = True
        tasks = [self._following, *self._tending.values(), *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        members = tuple(self._members.values())
        self._members.clear()
        self._tending.clear()
        self._notify()
        await asyncio.gather(*(member.close(grace or 0.0) for member in members))

    async def _follow(self) -> None:
        changes = self._watch()
        try:
            async for endpoints in changes:
                self._update(endpoints)
        finally:
            await changes.aclose()

    def _update(self, endpoints: tuple[Endpoint, ...]) -> None:
        now = {endpoint.address: endpoint for endpoint in endpoints}
        for address in self._members.keys() - now.keys():
            member = self._members.pop(address)
            self._tending.pop(member).cancel()
            self._release(member)
        for address, endpoint in now.items():
            known = self._members.get(address)
            if known is None:
                self._join(endpoint, self._open_channel(address))
            else:
                known.weight = endpoint.weight
        metrics.RPC_CLIENT_INSTANCES.labels(self._peer).set(len(self._members))
        self._notify()

    def _join(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        member = SubChannel(endpoint, channel, self._clock)
        self._members[endpoint.address] = member
        # house: naked-task: ended when the instance leaves, or by `close`
        self._tending[member] = asyncio.create_task(self._tend(member))

    async def _tend(self, member: SubChannel) -> None:
        """Keep it connected, wake who waits for that, and say once why it cannot be."""
        was_ready = told = False
        while True:
            state = member.state
            if state is READY:
                if was_ready:
                    member.outlier.reconnected()
                self._when_connected()
            was_ready = was_ready or state is READY
            self._met = self._met or was_ready
            self._notify()
            if state is FAILING and not told and await self._stays_away(member):
                reason = await member.why_unreachable()
                _logger.warning(
                    "instance_unreachable", peer=self._peer, address=member.address, reason=reason
                )
                told = True
            told = told and state is not READY
            await member.channel.wait_for_state_change(state)

    async def _stays_away(self, member: SubChannel) -> bool:
        """Wait until a failing member is connected, or has not been for `TELL_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TELL_SECONDS):
                while (state := member.state) is not READY:
                    self._notify()
                    await member.channel.wait_for_state_change(state)
                return False
        return True

    async def _replace(self, member: SubChannel) -> None:
        """Put a new connection in the place of `member`'s, when it stands or the old one falls."""
        channel = self._open_channel(member.address)
        try:
            while member.state is READY and self._members.get(member.address) is member:
                state = channel.get_state(try_to_connect=True)
                if state is READY:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_LOOK_SECONDS):
                        await channel.wait_for_state_change(state)
            replaced = self._members.get(member.address) is member
        except asyncio.CancelledError:
            await channel.close()
            raise
        if not replaced:
            await channel.close()
            return
        self._tending.pop(member).cancel()
        self._join(Endpoint(member.address, member.weight), channel)
        self._release(member)
        self._notify()

    def _release(self, member: SubChannel) -> None:
        # house: naked-task: ended by itself, or by `close`
        task = asyncio.create_task(member.close(RELEASE_SECONDS))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _next_ready(members: Iterable[SubChannel]) -> SubChannel | None:
    """Take turns by weight, the smooth way of nginx: 5, 1, 1 gives a a b a c a a.

    Everybody gains its weight, the richest goes and pays the sum. Who is not connected gains
    nothing meanwhile.
    """
    total = 0
    best: SubChannel | None = None
    for member in members:
        if member.state is not READY:
            continue
        total += member.weight
        member.turn += member.weight
        if best is None or member.turn > best.turn:
            best = member
    if best is not None:
        best.turn -= total
    return best
