"""Objects in a backup: copied around the snapshot, listed with their hashes, put back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from meshwright_cli.backup.manifest import (
    LISTING_FILE,
    OBJECTS_FOLDER,
    BackupError,
    HashedFile,
    hashed,
)
from meshwright_common.storage.objects import BLOCK_BYTES, ObjectNotFound, ObjectStore, checked

ROOT: Final = "tenants"
"""Every key begins with it, see `objects.object_key`."""
PAGE: Final = 100_000
_CHECKPOINTS: Final = ("audit", "checkpoints")
"""Where copies of audit checkpoints are, below a tenant: one a number, `000000000042.json`."""


@dataclass(slots=True)
class ObjectCopies:
    """Copies of the objects of a store below a backup's folder; no object ever changes.

    Copied twice: what is there before the snapshot, then what has come since. So each object that
    the snapshot refers to was copied, also when it is deleted soon after. More than it needs does
    no harm, but for copies of later audit checkpoints: they would say that the log was set back.
    """

    store: ObjectStore
    folder: Path
    known: dict[str, HashedFile] = field(default_factory=dict)

    async def copy(self) -> None:
        """Copy what is not copied yet. Raises: ObjectStoreUnavailable; OSError."""
        async for key in keys_of(self.store):
            if key not in self.known and (copied := await self._copy_one(key)):
                self.known[key] = copied

    def drop_later_checkpoints(self, last: Mapping[str, int]) -> None:
        """Remove copies of audit checkpoints that are newer than the last of their tenant."""
        for key in [one for one in self.known if _is_later(one, last)]:
            self._path(key).unlink()
            del self.known[key]

    def write_listing(self) -> None:
        """Write key, size and hash of each, sorted by key. Raises: OSError."""
        with (self.folder / LISTING_FILE).open("x", encoding="utf-8") as file:
            for key, one in sorted(self.known.items()):
                line = {"key": key, "size_bytes": one.size_bytes, "sha256": one.sha256}
                file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    async def _copy_one(self, key: str) -> HashedFile | None:
        target = self._path(key)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        try:
            with target.open("wb") as file:
                async with aclosing(
                    cast(AsyncGenerator[bytes, None], self.store.open(key))
                ) as pieces:
                    async for piece in pieces:
                        digest.update(piece)
                        size += len(piece)
                        file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except ObjectNotFound:
            # Deleted since it was listed.
            target.unlink()
            return None
        return HashedFile(size, digest.hexdigest())

    def _path(self, key: str) -> Path:
        return self.folder / OBJECTS_FOLDER / checked(key)


async def keys_of(store: ObjectStore) -> AsyncIterator[str]:
    """Yield the keys of all objects of a store, sorted. Raises: ObjectStoreUnavailable."""
    after = ""
    while page := await store.keys(ROOT, most=PAGE, after=after):
        for key in page:
            yield key
        if len(page) < PAGE:
            return
        after = page[-1]


def listed(folder: Path) -> Iterator[tuple[str, HashedFile]]:
    """Yield key, size and hash of each object of a backup. Raises: BackupError for a bad line."""
    with (folder / LISTING_FILE).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                one = json.loads(line)
                yield checked(one["key"]), HashedFile(one["size_bytes"], one["sha256"])
            except (ValueError, KeyError, TypeError):
                raise BackupError(f"{file.name}, line {number}, is damaged") from None


def check_objects(folder: Path) -> int:
    """Compare every object of a backup with the listing; return how many.

    Raises: BackupError naming the first that differs.
    """
    count = 0
    for key, expected in listed(folder):
        try:
            found = hashed(folder / OBJECTS_FOLDER / key)
        except FileNotFoundError:
            raise BackupError(f"the object {key} is missing in the backup") from None
        if found != expected:
            raise BackupError(f"the object {key} is not what was copied")
        count += 1
    return count


async def refuse_strangers(store: ObjectStore, folder: Path) -> None:
    """Do nothing when the store holds no object but those of the backup, from an earlier try.

    Raises: BackupError naming one that is not of the backup; ObjectStoreUnavailable.
    """
    ours = {key for key, _ in listed(folder)}
    async for key in keys_of(store):
        if key not in ours:
            raise BackupError(
                f"the object store is not empty: it has {key}; restore into an empty bucket, "
                "prefix or folder"
            )


async def put_back(store: ObjectStore, folder: Path) -> int:
    """Store every object of a backup; return how many. Safe to repeat.

    Raises: BackupError when one is not what was copied; ObjectStoreUnavailable.
    """
    count = 0
    for key, expected in listed(folder):
        stored = await store.put(key, _pieces(folder / OBJECTS_FOLDER / key))
        if (stored.size_bytes, stored.sha256) != (expected.size_bytes, expected.sha256):
            raise BackupError(f"the object {key} is not what was copied")
        count += 1
    return count


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as reading:
        while block := reading.read(BLOCK_BYTES):
            yield block


def _is_later(key: str, last: Mapping[str, int]) -> bool:
    _root, tenant_id, *rest = key.split("/")
    if tuple(rest[:-1]) != _CHECKPOINTS:
        return False
    number = rest[-1].removesuffix(".json")
    return number.isdecimal() and int(number) > last.get(tenant_id, 0)
