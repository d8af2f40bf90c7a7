"""Reading server-sent events, strictly: what a browser's EventSource would see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

ENDS = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "error"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    id: str
    name: str
    data: Any

    @property
    def sequence(self) -> int:
        """The number after the colon of a turn's event id."""
        return int(self.id.rpartition(":")[2])


def events(response: httpx.Response) -> Iterator[Event]:
    """Yield the events of a stream to its end."""
    assert response.status_code == 200, response.read()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    event_id, name, data = "", "message", list[str]()
    for line in response.iter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "" if not line:
                if data:
                    yield Event(event_id, name, json.loads("\n".join(data)))
                event_id, name, data = "", "message", []
            case "id":
                event_id = value
            case "event":
                name = value
            case "data":
                data.append(value)


def text_of(seen: Iterable[Event]) -> str:
    """Return the answer that a reader of these events has on the screen."""
    answer = ""
    for event in seen:
        if event.name == "message.delta":
            answer += event.data["text"]
        elif event.name == "turn.restarted":
            answer = answer[: event.data["keep_characters"]]
    return answer
