"""Contexts as they are stored: JSON, compressed, sealed for one version of one session."""

from __future__ import annotations

from typing import Final, cast

import orjson
import zstandard

from meshwright_common.encryption import Place, TenantKeys
from meshwright_session.domain.errors import ContextTooLarge
from meshwright_session.domain.models import JsonObject

MAX_CONTEXT_BYTES: Final = 262144
"""As JSON, before it is compressed."""

_LEVEL: Final = 3
_PLAIN: Final = ord("{")
"""First byte of what was stored before contexts were compressed."""


def context_place(session_id: str, version: int) -> Place:
    """Return what a version is sealed for, in `contexts` and in the object store."""
    return Place("session.contexts", "data", f"{session_id}/{version}")


def seal_context(keys: TenantKeys, session_id: str, version: int, data: JsonObject) -> bytes:
    """Return what is stored. Raises: ContextTooLarge."""
    plain = orjson.dumps(data)
    if len(plain) > MAX_CONTEXT_BYTES:
        raise ContextTooLarge(limit_bytes=str(MAX_CONTEXT_BYTES))
    # A compressor of its own for each: they may not be shared between threads.
    compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
    return keys.seal(context_place(session_id, version), compressed)


def open_context(keys: TenantKeys, session_id: str, version: int, sealed: bytes) -> JsonObject:
    """Return the data, in the schema in which it was written. Raises: SealBroken."""
    stored = keys.open(context_place(session_id, version), sealed)
    if stored[0] != _PLAIN:
        stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=MAX_CONTEXT_BYTES)
    return cast("JsonObject", orjson.loads(stored))
