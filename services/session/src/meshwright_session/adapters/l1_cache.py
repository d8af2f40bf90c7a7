"""Level 1: windows of live sessions in this process, bounded in bytes.

Which ones stay is decided by how often they are asked for. A new one first lies in a small part
that everybody passes through, least recently used first out; from there it gets into the large part
if it is wanted more often than the one that would have to leave for it. So a single round over many
sessions does not drive out those that people are working in.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshwright_session.adapters.frequency_sketch import FrequencySketch
from meshwright_session.adapters.memory_metrics import WINDOW_BYTES
from meshwright_session.domain.windows import Level, SessionKey, Window

_NEW_SHARE: Final = 0.1
"""Of all bytes, for the part that new windows pass through."""
_LARGEST_SHARE: Final = 0.05
"""Of all bytes: a larger window is not kept at all, it would drive out too many others."""
_AVERAGE_BYTES: Final = 16 * 1024
"""Guess at a window's size, from which follows for how many the sketch is made."""
_FEWEST_COUNTED: Final = 1024


@dataclass(frozen=True, slots=True)
class _Entry:
    window: Window
    size_bytes: int
    kept_at: float


class L1Cache:
    """`WindowCache` in this process. `monotonic` tells seconds.

    What it returns is of whatever moment: callers compare its stamp with the session's row.
    """

    def __init__(
        self, max_bytes: int, lifetime_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._max_bytes = max_bytes
        self._lifetime_seconds = lifetime_seconds
        self._monotonic = monotonic
        self._new: OrderedDict[SessionKey, _Entry] = OrderedDict()
        self._proven: OrderedDict[SessionKey, _Entry] = OrderedDict()
        self._new_bytes = 0
        self._proven_bytes = 0
        self._asked = FrequencySketch(max(max_bytes // _AVERAGE_BYTES, _FEWEST_COUNTED))

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._new_bytes + self._proven_bytes

    def __len__(self) -> int:
        return len(self._new) + len(self._proven)

    def get(self, key: SessionKey) -> Window | None:
        self._asked.add(key)
        part = self._proven if key in self._proven else self._new
        entry = part.get(key)
        if entry is None:
            return None
        if self._monotonic() - entry.kept_at > self._lifetime_seconds:
            self.drop(key)
            return None
        part.move_to_end(key)
        return entry.window

    def put(self, key: SessionKey, window: Window) -> None:
        kept = self._proven.get(key) or self._new.get(key)
        if kept is not None and kept.window.stamp.update_time > window.stamp.update_time:
            # Answers of two transactions may come in the other order.
            return
        proven = key in self._proven
        self._remove(key)
        size = window.size_bytes
        if size <= self._max_bytes * _LARGEST_SHARE:
            entry = _Entry(window, size, self._monotonic())
            if proven:
                self._proven[key] = entry
                self._proven_bytes += size
            else:
                self._new[key] = entry
                self._new_bytes += size
            self._make_room()
        WINDOW_BYTES.labels(Level.L1).set(self.size_bytes)

    def drop(self, key: SessionKey) -> None:
        self._remove(key)
        WINDOW_BYTES.labels(Level.L1).set(self.size_bytes)

    def drop_tenant(self, tenant_id: str) -> None:
        for key in [one for one in (*self._new, *self._proven) if one.tenant_id == tenant_id]:
            self._remove(key)
        WINDOW_BYTES.labels(Level.L1).set(self.size_bytes)

    def _remove(self, key: SessionKey) -> None:
        if (entry := self._new.pop(key, None)) is not None:
            self._new_bytes -= entry.size_bytes
        if (entry := self._proven.pop(key, None)) is not None:
            self._proven_bytes -= entry.size_bytes

    def _make_room(self) -> None:
        # A window that grew may have made the large part too large by itself.
        while self.size_bytes > self._max_bytes and self._proven_bytes > self._proven_limit:
            self._leave()
        while self._new_bytes > self._max_bytes - self._proven_limit:
            key, entry = self._new.popitem(last=False)
            self._new_bytes -= entry.size_bytes
            if self._is_admitted(key, entry):
                self._proven[key] = entry
                self._proven_bytes += entry.size_bytes

    @property
    def _proven_limit(self) -> int:
        return int(self._max_bytes * (1 - _NEW_SHARE))

    def _is_admitted(self, key: SessionKey, entry: _Entry) -> bool:
        """Return whether there is room in the large part, made at the cost of rarer ones."""
        asked = self._asked.count(key)
        while self._proven_bytes + entry.size_bytes > self._proven_limit:
            victim = next(iter(self._proven))
            if self._asked.count(victim) >= asked:
                return False
            self._leave()
        return True

    def _leave(self) -> None:
        _, entry = self._proven.popitem(last=False)
        self._proven_bytes -= entry.size_bytes
