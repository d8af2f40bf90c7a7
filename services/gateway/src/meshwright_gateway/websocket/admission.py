"""Messages that make work count as the requests that they stand for."""

from types import TracebackType
from typing import Final, Self

from meshwright_common.context import Principal
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.limits.edge_limits import EdgeLimits
from meshwright_gateway.limits.load_shedding import priority_of
from meshwright_gateway.limits.request_limits import Ask

LIGHT_MESSAGES: Final = 50
"""So many messages that make no work (acknowledgements, pings) count as one request."""


class Admission:
    """Lets in what comes over one socket. Raises: RateLimited, Overloaded, from the blocks."""

    def __init__(self, limits: EdgeLimits, exchange: Exchange, caller: Principal) -> None:
        self._limits = limits
        self._exchange = exchange
        self._caller = caller
        self._light = 0

    def of(self, method: str, path: str) -> "Place":
        """Return the place of a message that stands for the request `method` `path`."""
        return Place(self._limits, self._exchange, self._caller, method, path)

    async def light(self) -> None:
        """Count a message that makes no work. Raises: RateLimited."""
        self._light += 1
        if self._light % LIGHT_MESSAGES == 0:
            await self._limits.take_as("GET", self._exchange.path, self._exchange, self._caller)


class Place:
    """What a message holds while its block runs: a place of its user's, and one of the load."""

    def __init__(
        self,
        limits: EdgeLimits,
        exchange: Exchange,
        caller: Principal,
        method: str,
        path: str,
    ) -> None:
        self._limits = limits
        self._exchange = exchange
        self._caller = caller
        self._method = method
        self._path = path
        self._ask: Ask | None = None
        self._is_load = False

    async def __aenter__(self) -> Self:
        load = self._limits.load
        if not load.try_enter():
            await load.enter(priority_of(self._path, self._exchange.headers))
        self._is_load = True
        try:
            self._ask, _ = await self._limits.take_as(
                self._method, self._path, self._exchange, self._caller
            )
        except BaseException:
            self.began()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.began()
        self.leave()

    def began(self) -> None:
        """The first answer is there: it counts no longer among those that wait for one."""
        if self._is_load:
            self._is_load = False
            self._limits.load.leave()

    def leave(self) -> None:
        """The user's place is free, though the conversation may go on."""
        ask, self._ask = self._ask, None
        if ask is not None:
            self._limits.requests.leave(ask)
