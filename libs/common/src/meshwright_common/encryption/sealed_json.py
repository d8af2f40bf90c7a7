"""Values of a table that are stored as sealed JSON."""

from __future__ import annotations

from typing import Any

import orjson

from meshwright_common.encryption.tenant_keys import Place, TenantKeys


class SealedJson:
    """Seals and opens values of one tenant in one table, named with its schema."""

    def __init__(self, keys: TenantKeys, table: str) -> None:
        self._keys = keys
        self._table = table

    def seal(self, column: str, row_id: str, value: object) -> bytes:
        """Return a value of plain JSON types, sealed for the column of the row."""
        return self._keys.seal(Place(self._table, column, row_id), orjson.dumps(value))

    def open(self, column: str, row_id: str, sealed: bytes) -> Any:
        """Return the value that was sealed there. Raises: SealBroken."""
        return orjson.loads(self._keys.open(Place(self._table, column, row_id), sealed))
