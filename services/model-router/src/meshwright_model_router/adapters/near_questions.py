"""Vectors of stored questions, as far as this process has read them: what is near to another one.

Only what is in use is held, some MB; what it is read from is sealed in Redis.
"""

from __future__ import annotations

import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from meshwright_common.clock import Clock

if TYPE_CHECKING:
    import numpy

    _Matrix = numpy.typing.NDArray[numpy.float32]

MOST_SCOPES: Final = 128
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of all vectors in memory; the scope not asked for longest makes room."""
IDLE_SECONDS: Final = 60.0
_FIRST: Final = "-"


class KnownScope:
    """The newest questions of one scope."""

    def __init__(self, most: int) -> None:
        self.after = _FIRST
        """What the stream is asked for next."""
        self._newest = (0, 0)
        self.asked_at = 0.0
        self._most = most
        self._entries: list[tuple[str, float, bytes]] = []
        self._matrix: _Matrix | None = None

    @property
    def size(self) -> int:
        """Bytes of its vectors."""
        return sum(len(vector) for _, _, vector in self._entries[:1]) * len(self._entries)

    def add(self, entry_id: str, name: str, until: float, vector: bytes) -> None:
        """Take an entry, the newest one; one that was read already is passed over."""
        milliseconds, _, number = entry_id.partition("-")
        place = (int(milliseconds), int(number))
        if place <= self._newest:
            return
        self._newest = place
        self.after = f"({entry_id}"
        self._entries.append((name, until, vector))
        del self._entries[: -self._most]
        self._matrix = None

    def nearest(
        self, vector: Sequence[float], least: float, *, now: float, most: int
    ) -> Iterator[str]:
        """Yield names of answers to questions that are similar enough, the most similar first."""
        # Imported by the first who needs it: it takes a tenth of a second and 20 MB.
        import numpy  # noqa: PLC0415 - see above

        if not self._entries:
            return
        if self._matrix is None:
            size = len(self._entries[0][2])
            self._entries = [entry for entry in self._entries if len(entry[2]) == size]
            joined = b"".join(entry[2] for entry in self._entries)
            self._matrix = numpy.frombuffer(joined, dtype="<f4").reshape(len(self._entries), -1)
        asked = numpy.asarray(vector, dtype=numpy.float32)
        if asked.shape[0] != self._matrix.shape[1]:
            return
        similarities = self._matrix @ asked
        told: set[str] = set()
        for place in numpy.argsort(-similarities):
            if similarities[place] < least or len(told) == most:
                return
            name, until, _ = self._entries[int(place)]
            if until > now and name not in told:
                told.add(name)
                yield name


class NearQuestions:
    """The scopes that were asked for last."""

    def __init__(self, most_questions: int, clock: Clock) -> None:
        self._clock = clock
        self._most_questions = most_questions
        self._scopes: OrderedDict[tuple[str, str], KnownScope] = OrderedDict()

    def of(self, tenant_id: str, scope: str) -> KnownScope:
        """Return what is known of a scope, at first nothing."""
        now = self._clock.monotonic()
        known = self._scopes.setdefault((tenant_id, scope), KnownScope(self._most_questions))
        self._scopes.move_to_end((tenant_id, scope))
        known.asked_at = now
        while len(self._scopes) > 1 and self._is_too_much(now):
            self._scopes.popitem(last=False)
        return known

    def packed(self, vector: Sequence[float]) -> bytes:
        """Return a vector as it is stored: 32 bits a value, little-endian."""
        values = array.array("f", vector)
        return values.tobytes()

    def _is_too_much(self, now: float) -> bool:
        oldest = next(iter(self._scopes.values()))
        return (
            len(self._scopes) > MOST_SCOPES
            or now - oldest.asked_at > IDLE_SECONDS
            or sum(known.size for known in self._scopes.values()) > MOST_BYTES
        )
