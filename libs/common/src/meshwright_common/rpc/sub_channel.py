"""The connection to one instance of a peer, and what is known about the instance."""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio

from meshwright_common.clock import Clock
from meshwright_common.registry.ports import Endpoint
from meshwright_common.rpc.outliers import Outlier
from meshwright_common.telemetry.logging import get_logger

HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_logger = get_logger(__name__)


class SubChannel:
    """The connection to one instance, kept up as long as the instance is known."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, clock: Clock) -> None:
        self.address = endpoint.address
        self.weight = endpoint.weight
        self.turn = 0
        self.running = 0
        self.outlier = Outlier(clock)
        self.channel = channel
        self._methods: dict[tuple[str, str], Any] = {}
        self._released = asyncio.Event()

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """What its connection is like; asking makes it connect."""
        return self.channel.get_state(try_to_connect=True)

    def method(self, kind: str, path: str, *codecs: Any) -> Any:
        """Return its multi-callable for one method, the same one each time."""
        key = kind, path
        found = self._methods.get(key)
        if found is None:
            found = self._methods[key] = getattr(self.channel, kind)(path, *codecs)
        return found

    async def why_unreachable(self) -> str:
        """Return why there is no connection, which gRPC tells with a failed call alone."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            HEALTH_CHECK
        )
        try:
            await check(b"", timeout=1.0)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return ""

    def began(self) -> None:
        """A call began."""
        self.running += 1

    def ended(self, _call: object = None) -> None:
        """A call has ended."""
        self.running -= 1
        if self.running == 0:
            self._released.set()

    async def close(self, seconds: float) -> None:
        """Close it when its calls have ended, in `seconds` at the latest."""
        try:
            async with asyncio.timeout(seconds):
                while self.running:
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            _logger.warning("instance_calls_cut", address=self.address, calls=self.running)
        finally:
            await self.channel.close()
