"""Reading server-sent events in tests."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson


@dataclass(frozen=True)
class Event:
    """One event as it came."""

    id: str
    name: str
    data: Any

    @property
    def sequence(self) -> int:
        """The number in the id."""
        return int(self.id.rpartition(":")[2])


def parse(text: str) -> list[Event]:
    """Return the events of a stream, comments and the retry left out."""
    return [event for block in text.split("\n\n") if (event := _event(block)) is not None]


async def read_events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Yield the events as they come."""
    block: list[str] = []
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text:
            block.append(text)
            continue
        event = _event("\n".join(block))
        block = []
        if event is not None:
            yield event


def _event(block: str) -> Event | None:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, separator, value = line.partition(":")
        if separator and name:
            fields[name] = value.removeprefix(" ")
    if "data" not in fields:
        return None
    return Event(fields.get("id", ""), fields.get("event", ""), orjson.loads(fields["data"]))
