"""Server-sent events, parsed as they come in: WHATWG's rules, with bounded memory.

Only the data of events is of interest: event names, ids and retry hints of a provider are read
and dropped. Bytes stay bytes; the caller decodes whole events, so a character that is torn apart
by the network is whole again before anybody looks at it.
"""

from typing import Final

MAX_LINE_BYTES: Final = 1024 * 1024
"""Longest line that is accepted, without its end."""
MAX_EVENT_BYTES: Final = 1024 * 1024
"""Longest data of one event, over all of its lines."""

_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = b"data: "
_BETWEEN: Final = b"\n\n" + _FIELD


class SseError(ValueError):
    """The stream breaks a limit; nothing more can be read from it."""


class SseParser:
    """Feed it what the network gives, take out the data of the events that became complete.

    An event is complete at its empty line: what stands after the last one when the stream ends is
    no event. Never holds more than one line and one event.

    `progress`: the last `feed` brought data, or a part of a line that may become some. Comments,
    other fields and empty lines keep a connection open and say nothing.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        """A line whose end has not come."""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False
        self._at_start = True
        self.progress = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that `data` completes, in order.

        Raises: SseError when a line or an event is longer than 1 MiB.
        """
        if not (self._held or self._data or self._after_cr):
            plain = _plain_events(data)
            if plain is not None:
                self._at_start, self.progress = False, True
                return plain
        self.progress = False
        if self._after_cr and data:
            # The end of the last read was CR: this LF belongs to it.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        events: list[bytes] = []
        if lines:
            if self._held:
                lines[0] = bytes(self._held) + lines[0]
                self._held.clear()
            if self._at_start:
                lines[0] = lines[0].removeprefix(_BOM)
                self._at_start = False
            for line in lines:
                self._line(line, events)
        if rest:
            self._hold(rest)
        return events

    def _hold(self, rest: bytes) -> None:
        self._held += rest
        if not self._held.startswith(b":"):
            self.progress = True
        if len(self._held) > MAX_LINE_BYTES:
            raise SseError(f"a line is longer than {MAX_LINE_BYTES} bytes")

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                self._data_bytes = 0
            return
        if len(line) > MAX_LINE_BYTES:
            raise SseError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
        elif line == b"data":
            value = b""
        else:
            return
        self.progress = True
        self._data_bytes += len(value) + 1
        if self._data_bytes > MAX_EVENT_BYTES + 1:
            raise SseError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        self._data.append(value)


def _plain_events(data: bytes) -> list[bytes] | None:
    """Return the events of a read that holds whole events of one data line each; None: another.

    What nearly every read of nearly every provider is, in a tenth of the time of a look at each
    line.
    """
    if not (data.startswith(_FIELD) and data.endswith(b"\n\n")) or b"\r" in data:
        return None
    if data.count(b"\n") != 2 * (data.count(_BETWEEN) + 1) or len(data) > MAX_LINE_BYTES:
        return None
    return data[len(_FIELD) : -2].split(_BETWEEN)
