"""The platform's log: one file, bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TextIO

MAX_BYTES: Final = 20 * 1024 * 1024
"""A log larger than this is started anew; one former log is kept."""


class LogFile:
    """A text file in append mode (0600) that is renamed to `<name>.1` and started anew when full.

    Every write is whole lines and is on its way to the file when it returns.
    Raises: OSError when the file cannot be opened.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file = self._open()
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, text: str) -> int:
        """Append `text`. Raises: OSError, for example on a full disk."""
        if self._size > self._max_bytes:
            self._start_anew()
        self._size += len(text.encode(errors="backslashreplace"))
        return self._file.write(text)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> TextIO:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def _start_anew(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = self._open()
        self._size = 0
