"""Work that nobody waits for any more ends, where it changes nothing: model calls and searches."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from meshwright_gateway.errors import ClientGone
from meshwright_gateway.http.exchange import Exchange

_HARMLESS: Final = ("/v1/", "/api/v1/search", "/api/v1/memories/search")
"""What these routes do, by POST, leaves nothing behind. What others do goes on without a client."""


def may_end(exchange: Exchange) -> bool:
    """Return whether the work for an exchange is of use to its client alone."""
    return exchange.method == "POST" and exchange.path.startswith(_HARMLESS)


async def while_there(exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` for as long as the client is there; its body must have been read.

    Raises: ClientGone when it left, after the work has ended; as the work.
    """
    # house: naked-task: both are ended and awaited below
    working = asyncio.create_task(work)
    # house: naked-task: ended and awaited below, too
    leaving = asyncio.create_task(_left(exchange))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = not working.done()
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})
    if left:
        raise ClientGone
    await working


async def _left(exchange: Exchange) -> None:
    while (await exchange.receive())["type"] != "http.disconnect":
        # The end of a body that was read already.
        pass
