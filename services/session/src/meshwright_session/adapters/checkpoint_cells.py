"""What lies in Redis of a session: three parts, compressed, each sealed for its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import orjson
import zstandard
from google.protobuf.message import DecodeError

from meshwright.session.v1 import checkpoint_pb2
from meshwright_common.encryption import Place, SealBroken, TenantKeys
from meshwright_common.storage.redis import tenant_key
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.models import Context, JsonObject
from meshwright_session.domain.windows import WINDOW_MESSAGES, Memory, SessionKey, Window
from meshwright_session.wire import checkpoints

PARTS: Final = ("window", "turns", "context")
"""A key each: the window as it once was, the turns since then, the context."""
LARGEST_BYTES: Final = 2 * 1024 * 1024
"""A larger window is not written."""

logger = get_logger(__name__)


def name_of(key: SessionKey, part: str) -> str:
    """Return the key of a part."""
    return tenant_key(key.tenant_id, "session", key.session_id, part)


def sealed_part(keys: TenantKeys, key: SessionKey, part: str, plain: bytes) -> bytes:
    """Return what is written of a part."""
    compressed = zstandard.ZstdCompressor(level=1).compress(plain)
    return keys.seal(_place(key, part), compressed)


def sealed_context(keys: TenantKeys, key: SessionKey, schema_version: int, window: Window) -> bytes:
    """Return what is written of a window's context: which it is, and its data."""
    cell = {
        "schema_version": schema_version,
        "data_version": window.data_version,
        "size_bytes": window.context_bytes,
        "data": window.context.data,
    }
    return sealed_part(keys, key, "context", orjson.dumps(cell))


def opened_window(
    keys: TenantKeys,
    key: SessionKey,
    schema_version: int,
    whole: bytes | None,
    turns: Sequence[bytes],
    cell: bytes | None,
) -> Window | None:
    """Return the window of what was read; None when it is of no use."""
    if whole is None:
        return None
    try:
        first = checkpoints.decode(_plain(keys, key, "window", whole))
        added = [checkpoints.decode(_plain(keys, key, "turns", turn)) for turn in turns]
        context = None if cell is None else orjson.loads(_plain(keys, key, "context", cell))
    except (SealBroken, zstandard.ZstdError, DecodeError, orjson.JSONDecodeError) as error:
        # Written with a key that is gone, or by a version that wrote something else.
        logger.warning("checkpoint_unusable", error=type(error).__name__)
        return None
    messages, last = checkpoints.joined(key.session_id, [first, *added])
    stamp = checkpoints.stamp_of(last)
    memory = _memory(key, schema_version, last, context)
    if memory is None:
        # There is none that fits: as no version does, it will be read anew.
        stamp = replace(stamp, context_version=-1)
        memory = Memory(Context(key.session_id, 0, {}, None), 0, 0)
    window = Window(
        stamp,
        tuple(messages[-WINDOW_MESSAGES:]),
        memory.context,
        # Whoever added a turn may have known more than is here.
        reaches_back=first.reaches_back and len(messages) <= WINDOW_MESSAGES,
    )
    return window.with_context(memory)


def _memory(
    key: SessionKey,
    schema_version: int,
    last: checkpoint_pb2.Checkpoint,
    cell: Mapping[str, object] | None,
) -> Memory | None:
    time = checkpoints.moment(last.context_time_micros) if last.context_time_micros else None
    if last.data_version == 0:
        return Memory(Context(key.session_id, last.context_version, {}, time), 0, 0)
    written = (schema_version, last.data_version)
    if cell is None or (cell.get("schema_version"), cell.get("data_version")) != written:
        return None
    data = cast("JsonObject", cell["data"])
    context = Context(key.session_id, last.context_version, data, time)
    return Memory(context, last.data_version, cast("int", cell["size_bytes"]))


def _place(key: SessionKey, part: str) -> Place:
    return Place("redis.session", part, key.session_id)


def _plain(keys: TenantKeys, key: SessionKey, part: str, sealed: bytes) -> bytes:
    compressed = keys.open(_place(key, part), sealed)
    return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=4 * LARGEST_BYTES)
