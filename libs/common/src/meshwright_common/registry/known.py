"""The last good answer about the instances of a peer, for any number of readers."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

from meshwright_common.registry.ports import Endpoint


class Known:
    """What is known about one peer. Being told of nobody changes nothing."""

    def __init__(self, endpoints: Iterable[Endpoint] = ()) -> None:
        self.endpoints: tuple[Endpoint, ...] = _sorted(endpoints)
        self._changed = asyncio.Event()

    def tell(self, endpoints: Iterable[Endpoint]) -> bool:
        """Take over the instances there are now. Returns whether anything is different."""
        told = _sorted(endpoints)
        if not told or told == self.endpoints:
            return False
        self.endpoints = told
        # Whoever waits holds the old event; the next one waits for the next change.
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def watch(self) -> AsyncGenerator[tuple[Endpoint, ...], None]:
        """Yield the instances now, if any are known, and after each change, until closed.

        A slow reader gets the newest ones and misses what was in between.
        """
        seen: tuple[Endpoint, ...] = ()
        while True:
            changed = self._changed
            if self.endpoints != seen:
                seen = self.endpoints
                yield seen
            else:
                await changed.wait()


def _sorted(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Sort by address; of two entries with one address, an old and a new one, the last counts."""
    by_address = {endpoint.address: endpoint for endpoint in endpoints}
    return tuple(by_address[address] for address in sorted(by_address))
