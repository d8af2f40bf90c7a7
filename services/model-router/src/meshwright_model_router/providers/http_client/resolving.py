"""Names of servers to addresses, kept for a minute, asked for once at a time."""

import asyncio
import socket
from itertools import chain, zip_longest
from typing import Final

KEPT_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 8
"""Of one name, this many are tried."""

_MAX_NAMES: Final = 1024


class Resolver:
    """Resolves by the system, in its own time and not in the event loop's."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._flights: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host`, families in turns. Raises: OSError (socket.gaierror)."""
        key = host, port
        known = self._known.get(key)
        if known is not None and asyncio.get_running_loop().time() < known[0]:
            return known[1]
        flight = self._flights.get(key)
        if flight is None:
            # house: naked-task: kept in _flights until done; `close` ends it
            flight = asyncio.create_task(self._ask(host, port))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        # Whoever leaves does not take the answer from the others.
        return await asyncio.shield(flight)

    def forget(self, host: str, port: int) -> None:
        """Ask again next time: none of the addresses took a connection."""
        self._known.pop((host, port), None)

    async def close(self) -> None:
        """End what is being asked."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: tuple[str, int], done: "asyncio.Task[list[str]]") -> None:
        self._flights.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= _MAX_NAMES:
            self._known.clear()
        self._known[key] = asyncio.get_running_loop().time() + KEPT_SECONDS, done.result()

    async def _ask(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        six = [str(entry[4][0]) for entry in found if entry[0] == socket.AF_INET6]
        four = [str(entry[4][0]) for entry in found if entry[0] == socket.AF_INET]
        first_six = bool(found) and found[0][0] == socket.AF_INET6
        pairs = zip_longest(six, four) if first_six else zip_longest(four, six)
        return list(dict.fromkeys(one for one in chain(*pairs) if one))[:MAX_ADDRESSES]
