"""Events as the lines of a server-sent stream. No model is built on the way of a token.

Data is JSON on one line, so no text can end an event or begin another one.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright_common.errors import ServiceError
from meshwright_gateway.http import event_data
from meshwright_gateway.http.problems import Headers, Problem

STREAM_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
PREAMBLE: Final = b"retry: 2000\n\n"
"""Sent first: how long an EventSource waits before it connects again, in milliseconds."""
HEARTBEAT: Final = b": \n\n"

TURN_WAITS: Final = frozenset({"interrupt"})
"""After these a turn waits for a person, until another event comes."""
TURN_ENDS: Final = frozenset({"completed", "failed", "cancelled"})

TASK_ENDS: Final = frozenset({"final", "error"})

TEXT_STARTS: Final = {
    "message_delta": b'\nevent: message.delta\ndata: {"text":',
    "reasoning_delta": b'\nevent: reasoning.delta\ndata: {"text":',
}
"""What stands between the id and the text of an event, by the names of `TurnEvent`."""
_TEXT_END: Final = b"}\n\n"


class TurnFrames:
    """Writes the events of one turn."""

    def __init__(self, turn_id: str) -> None:
        self._id = b"id: " + turn_id.encode() + b":"

    def frame(self, event: turn_pb2.TurnEvent) -> bytes:
        """Return the event as it is sent."""
        kind = event.WhichOneof("event")
        if kind == "message_delta":
            return self.text(kind, event.sequence, event.message_delta.text)
        if kind == "reasoning_delta":
            return self.text(kind, event.sequence, event.reasoning_delta.text)
        return self._rare_frame(event)

    def text(self, kind: str, sequence: int, text: str) -> bytes:
        """Return the text of one event, or of several up to `sequence`, as one event."""
        return b"".join(
            (self._id, str(sequence).encode(), TEXT_STARTS[kind], orjson.dumps(text), _TEXT_END)
        )

    def _rare_frame(self, event: turn_pb2.TurnEvent) -> bytes:
        name, data = event_data.of_turn(event)
        return b"%s%d\nevent: %s\ndata: %s\n\n" % (
            self._id,
            event.sequence,
            name.encode(),
            orjson.dumps(data),
        )


def task_frame(event: task_pb2.TaskEvent) -> bytes:
    """Return an event of a task as it is sent."""
    head = f"id: {event.task_id}:{event.attempt}:{event.sequence}\n".encode()
    frame = head + event_frame(*event_data.of_task(event))
    if event.HasField("chunk") and event.chunk.text and event.chunk.reasoning:
        # Both in one event: the first without an id, so that a reader never sees half of it.
        return event_frame("reasoning.delta", {"text": event.chunk.reasoning}) + frame
    return frame


def event_frame(name: str, data: Mapping[str, object]) -> bytes:
    """Return an event without an id."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def error_frame(error: ServiceError, request_id: str, instance: str) -> bytes:
    """Return the last event of a stream that the gateway has to end before its time."""
    return event_frame("error", Problem.of(error, request_id).native(instance))
