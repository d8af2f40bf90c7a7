"""Forms in which the usage ledger leaves as a file, made while its rows come."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import orjson

from meshwright_gateway.http.schemas.records import UsageRow

GROUP_ROWS: Final = 8192
"""Rows of a Parquet file that are in memory at once, some 10 MB."""

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_LOADING: Final = threading.Lock()
"""Of two threads that import at once, one would find half a library."""


class UsageFile(Protocol):
    """A file that grows by rows. What the methods return are its next bytes, perhaps none."""

    async def add(self, row: Mapping[str, object]) -> bytes:
        """Add a row, by the names and in the order of `UsageRow`."""
        ...

    async def end(self) -> bytes:
        """Add no more."""
        ...


class CsvFile:
    """RFC 4180 with a line of names. No cell is one that a spreadsheet would calculate."""

    def __init__(self) -> None:
        self._names = _csv_line(UsageRow.model_fields)

    async def add(self, row: Mapping[str, object]) -> bytes:
        return self._with_names(_csv_line(row.values()))

    async def end(self) -> bytes:
        return self._with_names(b"")

    def _with_names(self, line: bytes) -> bytes:
        names, self._names = self._names, b""
        return names + line


class JsonLines:
    """A JSON object a line."""

    async def add(self, row: Mapping[str, object]) -> bytes:
        return orjson.dumps(row) + b"\n"

    async def end(self) -> bytes:
        return b""


class ParquetFile:
    """Parquet, zstd, in groups of `GROUP_ROWS`. Columns carry their descriptions.

    Groups are made in a thread: others are served meanwhile.
    """

    def __init__(self) -> None:
        self._rows: list[Mapping[str, object]] = []
        self._sink = _Sink()
        self._writer: _Writer | None = None

    async def add(self, row: Mapping[str, object]) -> bytes:
        self._rows.append(row)
        if len(self._rows) < GROUP_ROWS:
            return b""
        rows, self._rows = self._rows, []
        return await asyncio.to_thread(self._write, rows)

    async def end(self) -> bytes:
        return await asyncio.to_thread(self._finish, self._rows)

    def _write(self, rows: list[Mapping[str, object]]) -> bytes:
        if self._writer is None:
            self._writer = _make_writer(self._sink)
        if rows:
            columns = {name: [row[name] for row in rows] for name in UsageRow.model_fields}
            columns["time"] = [datetime.fromisoformat(str(time)) for time in columns["time"]]
            self._writer.write(columns)
        return self._sink.take()

    def _finish(self, rows: list[Mapping[str, object]]) -> bytes:
        written = self._write(rows)
        if self._writer is not None:
            self._writer.close()
        return written + self._sink.take()


class _Writer(Protocol):
    """What writes columns of one length, by their names."""

    def write(self, columns: Mapping[str, Sequence[object]]) -> None: ...
    def close(self) -> None: ...


def _make_writer(sink: _Sink) -> _Writer:
    # The library takes a third of a second and 50 MB: for those who want it.
    with _LOADING:
        from meshwright_gateway.http.parquet import ParquetColumns  # noqa: PLC0415
    return ParquetColumns(sink, UsageRow)


class _Sink(io.RawIOBase):
    """What the library writes into, given away as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held += piece
        self._written += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        held = bytes(self._held)
        self._held.clear()
        return held


def _csv_line(cells: Iterable[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue().encode()


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
