"""Rows of a schema as a Parquet file. Imported when one is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Final

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from pydantic import BaseModel

_TYPES: Final[Mapping[object, pyarrow.DataType]] = {
    str: pyarrow.string(),
    int: pyarrow.int64(),
    bool: pyarrow.bool_(),
    datetime: pyarrow.timestamp("us", tz="UTC"),
}


class ParquetColumns:
    """Writes groups of rows, given as columns, into a file that is not read meanwhile."""

    def __init__(self, file: IO[bytes] | object, row: type[BaseModel]) -> None:
        self._schema = pyarrow.schema(
            [
                pyarrow.field(
                    name,
                    _TYPES[field.annotation],
                    nullable=False,
                    metadata={"description": field.description or ""},
                )
                for name, field in row.model_fields.items()
            ]
        )
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Write a group. Every column has a value for each of its rows."""
        self._writer.write_table(pyarrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()
