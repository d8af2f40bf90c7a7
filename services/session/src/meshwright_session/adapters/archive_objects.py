"""Archived messages as objects: parts of protobuf, compressed, sealed, one behind the other."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import zstandard
from google.protobuf.message import DecodeError

from meshwright.session.v1.session_archive_pb2 import ArchivedMessage, SessionArchivePart
from meshwright_common.encryption import KeyRing, Place, SealBroken, TenantKeys
from meshwright_common.storage.objects import ObjectNotFound, ObjectStore, object_key
from meshwright_session.domain.archive_models import (
    ArchiveFacts,
    ArchiveName,
    KeptMessage,
    KeptMessages,
)
from meshwright_session.domain.errors import ArchiveDamaged

LEVEL: Final = 6
"""Written once and hardly ever read: some more work for less space."""
_LENGTH_BYTES: Final = 4
_MAX_PART_BYTES: Final = 1 << 30


class ObjectArchive:
    """`ArchiveObjects` on the object store."""

    def __init__(self, objects: ObjectStore, ring: KeyRing) -> None:
        self._objects = objects
        self._ring = ring

    async def write(self, name: ArchiveName, messages: KeptMessages) -> ArchiveFacts:
        keys = await self._ring.keys_of(name.owner.tenant_id)
        written = _Written(name, keys)
        stored = await self._objects.put(_key(name), written.frames(messages))
        read = hashlib.sha256()
        async with contextlib.aclosing(self._blocks(name)) as blocks:
            async for block in blocks:
                read.update(block)
        if not written.sha256.digest() == read.digest() == bytes.fromhex(stored.sha256):
            raise ArchiveDamaged
        return ArchiveFacts(read.digest(), stored.size_bytes, written.count, written.oldest)

    async def read(self, name: ArchiveName, facts: ArchiveFacts) -> KeptMessages:
        keys = await self._ring.keys_of(name.owner.tenant_id)
        read = hashlib.sha256()
        held = bytearray()
        number, last = 0, False
        async with contextlib.aclosing(self._blocks(name)) as blocks:
            async for block in blocks:
                read.update(block)
                held += block
                while (frame := _take_frame(held)) is not None:
                    part = await asyncio.to_thread(_opened, keys, name, number, frame)
                    number, last = number + 1, part.last
                    yield [_kept(message) for message in part.messages]
        if held or not last or read.digest() != facts.sha256:
            raise ArchiveDamaged

    async def delete(self, name: ArchiveName) -> None:
        await self._objects.delete(_key(name))

    async def _blocks(self, name: ArchiveName) -> AsyncGenerator[bytes, None]:
        opened = cast("AsyncGenerator[bytes, None]", self._objects.open(_key(name)))
        try:
            async with contextlib.aclosing(opened) as blocks:
                async for block in blocks:
                    yield block
        except ObjectNotFound as error:
            raise ArchiveDamaged from error


class _Written:
    """What went into an object so far."""

    def __init__(self, name: ArchiveName, keys: TenantKeys) -> None:
        self._name = name
        self._keys = keys
        self.sha256 = hashlib.sha256()
        self.count = 0
        self.oldest: datetime | None = None

    async def frames(self, messages: KeptMessages) -> AsyncIterator[bytes]:
        number = 0
        async with contextlib.aclosing(messages) as batches:
            async for batch in batches:
                if self.oldest is None and batch:
                    self.oldest = batch[0].create_time
                self.count += len(batch)
                yield await self._frame(number, batch, last=False)
                number += 1
        yield await self._frame(number, (), last=True)

    async def _frame(self, number: int, batch: Sequence[KeptMessage], *, last: bool) -> bytes:
        part = SessionArchivePart(messages=[_archived(message) for message in batch], last=last)
        # Some MiB at worst: not on the event loop.
        frame = await asyncio.to_thread(_sealed, self._keys, self._name, number, part)
        self.sha256.update(frame)
        return frame


def _key(name: ArchiveName) -> str:
    return object_key(name.owner.tenant_id, "archives", name.owner.user_id, name.archive_id)


def _place(name: ArchiveName, number: int) -> Place:
    return Place("session.session_archives", "object", f"{name.archive_id}/{number}")


def _sealed(keys: TenantKeys, name: ArchiveName, number: int, part: SessionArchivePart) -> bytes:
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(part.SerializeToString())
    sealed = keys.seal(_place(name, number), packed)
    return len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed


def _opened(keys: TenantKeys, name: ArchiveName, number: int, frame: bytes) -> SessionArchivePart:
    try:
        packed = keys.open(_place(name, number), frame)
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MAX_PART_BYTES)
        return SessionArchivePart.FromString(plain)
    except (SealBroken, zstandard.ZstdError, DecodeError) as error:
        raise ArchiveDamaged from error


def _take_frame(held: bytearray) -> bytes | None:
    """Remove and return the first frame; None when it is not all there yet."""
    end = _LENGTH_BYTES + int.from_bytes(held[:_LENGTH_BYTES], "big")
    if len(held) < max(end, _LENGTH_BYTES):
        return None
    frame = bytes(held[_LENGTH_BYTES:end])
    del held[:end]
    return frame


def _archived(message: KeptMessage) -> ArchivedMessage:
    archived = ArchivedMessage(
        message_id=message.message_id,
        sequence=message.sequence,
        turn_id=message.turn_id or "",
        role=message.role,
        content=message.content,
        words=message.words,
    )
    archived.create_time.FromDatetime(message.create_time)
    return archived


def _kept(message: ArchivedMessage) -> KeptMessage:
    return KeptMessage(
        message_id=message.message_id,
        sequence=message.sequence,
        turn_id=message.turn_id or None,
        role=message.role,
        content=message.content,
        words=message.words,
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
    )
