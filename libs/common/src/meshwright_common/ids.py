"""Identifiers: UUID version 7, canonical text of 36 characters."""

import os
import re
import threading
import time
from typing import Final

from meshwright_common.errors import invalid

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SEQUENCE_BITS: Final = 42
_SEQUENCE_LIMIT: Final = 1 << _SEQUENCE_BITS


class _Random:
    """Bytes of the system's generator, fetched in lumps: a call of it costs as much as an id."""

    _LUMP_BYTES: Final = 4096

    def __init__(self) -> None:
        self._lump = b""
        self._position = 0
        # A child would give out what its parent gives out.
        os.register_at_fork(after_in_child=self.forget)

    def take(self, count: int) -> bytes:
        """Return `count` bytes that nobody gets again. Not safe for threads by itself."""
        end = self._position + count
        if end > len(self._lump):
            self._lump = os.urandom(self._LUMP_BYTES)
            self._position, end = 0, count
        taken = self._lump[self._position : end]
        self._position = end
        return taken

    def forget(self) -> None:
        """Begin with fresh ones."""
        self._lump = b""


class _Source:
    """Makes ids that sort in the order in which this process made them.

    RFC 9562 method 1: within a millisecond the upper 42 of the 74 random bits count up from a
    random start; the lower 32 are fresh each time, so a neighbour's id cannot be guessed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = _Random()
        self._millisecond = 0
        self._sequence = 0

    def next(self) -> str:
        # house: wall-clock: RFC 9562 puts the Unix time into the id.
        millisecond = time.time_ns() // 1_000_000
        with self._lock:
            random = int.from_bytes(self._random.take(10))
            if millisecond > self._millisecond:
                self._millisecond = millisecond
                # The top bit stays free, so that counting has room.
                self._sequence = random >> (80 - _SEQUENCE_BITS + 1)
            else:
                # Also when the wall clock went back: ids keep rising.
                self._sequence += 1 + (random >> 72)
                if self._sequence >= _SEQUENCE_LIMIT:
                    self._millisecond += 1
                    self._sequence = 0
            millisecond, sequence = self._millisecond, self._sequence
        value = (
            (millisecond & 0xFFFF_FFFF_FFFF) << 80
            | 0x7 << 76
            | (sequence >> 30) << 64
            | 0b10 << 62
            | (sequence & 0x3FFF_FFFF) << 32
            | random & 0xFFFF_FFFF
        )
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def trace_parent(self) -> str:
        with self._lock:
            random = self._random.take(16).hex()
        # By its repetition it is known that no such span is there to be anybody's parent
        # (`telemetry.trace_context.is_made_up`).
        return f"00-{random}-{random[16:]}-00"


_source = _Source()


def new_id() -> str:
    """Return a new UUID version 7. Ids of one process sort in the order they were made."""
    return _source.next()


def new_trace_parent() -> str:
    """Return a W3C trace parent that starts a new, unsampled trace."""
    return _source.trace_parent()


def parse_id(value: str, field: str) -> str:
    """Return `value` as a canonical, lower-case UUID of any version.

    Only the form with dashes is accepted. Raises: InvalidArgument naming `field`.
    """
    canonical = value.lower()
    if not _CANONICAL.fullmatch(canonical):
        raise invalid(field, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return canonical
