"""How often keys were asked for lately, in a fixed number of bytes.

A count-min sketch whose counts are halved now and then, as in TinyLFU (Einziger, Friedman, Manes:
"TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017). It
never tells too little, and it forgets: what was popular last week has to be so again.
"""

from collections.abc import Hashable
from typing import Final

_ROWS: Final = 4
_MOST: Final = 15
"""Counts stop here: to tell which of two is wanted more often takes no larger ones."""
_HALVED: Final = bytes(count // 2 for count in range(256))
_MULTIPLIERS: Final = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
)
"""Odd, and unlike each other: they spread one hash differently over each row."""
_WORD: Final = (1 << 64) - 1


class FrequencySketch:
    """Counts for about `keys` keys."""

    def __init__(self, keys: int) -> None:
        self._bits = max(keys - 1, 1).bit_length()
        self._rows = [bytearray(1 << self._bits) for _ in range(_ROWS)]
        self._sample = 10 * (1 << self._bits)
        self._counted = 0

    def add(self, key: Hashable) -> None:
        """Count one more time that the key was asked for."""
        places = self._places(key)
        least = min(row[place] for row, place in zip(self._rows, places, strict=True))
        if least >= _MOST:
            return
        for row, place in zip(self._rows, places, strict=True):
            # Only the lowest ones: others are too high already, because of other keys.
            if row[place] == least:
                row[place] += 1
        self._counted += 1
        if self._counted >= self._sample:
            self._counted //= 2
            self._rows = [row.translate(_HALVED) for row in self._rows]

    def count(self, key: Hashable) -> int:
        """Return how often the key was asked for lately, 0 to 15; other keys may add to it."""
        return min(row[place] for row, place in zip(self._rows, self._places(key), strict=True))

    def _places(self, key: Hashable) -> list[int]:
        hashed = hash(key)
        return [(hashed * one & _WORD) >> (64 - self._bits) for one in _MULTIPLIERS]
