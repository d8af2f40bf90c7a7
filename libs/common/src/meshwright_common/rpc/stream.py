"""Reading streams so that leaving them ends them."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc.aio

Res = TypeVar("Res")


class open_stream(Generic[Res]):
    """Iterate over a streaming call inside `async with`; leaving the block cancels the call.

    `async with open_stream(stub.StreamChat(request)) as events: async for event in events: …`.
    Without it, `break` leaves the handler running on the server until the deadline.
    """

    def __init__(
        self,
        call: grpc.aio.UnaryStreamCall[Any, Res] | grpc.aio.StreamStreamCall[Any, Res],
    ) -> None:
        self._call = call
        self._messages: AsyncIterator[Res] | None = None

    async def __aenter__(self) -> AsyncIterator[Res]:
        self._messages = self._call.__aiter__()
        return self._messages

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call.cancel()
        close = getattr(self._messages, "aclose", None)
        if close is not None:
            await close()
