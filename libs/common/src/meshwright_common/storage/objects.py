"""Files as objects: streamed in, hashed on the way, visible whole or not at all.

Keys are made by the platform (`object_key`), never from a user's file name. The adapter here is
`file://`; `s3_objects` has the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final, ParamSpec, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from meshwright_common.errors import NotFound, Unavailable
from meshwright_common.ids import parse_id
from meshwright_common.settings import ObjectSettings, SettingsError

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_BYTES: Final = 256 * 1024
"""What is written and read per hop to the thread pool: small pieces are gathered first."""
THREADS: Final = 4
LEFTOVER_SECONDS: Final = 3600.0
"""An upload that has not ended after this belongs to a process that died."""
INCOMING: Final = ".incoming"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_KEY_LENGTH: Final = 1024


class ObjectNotFound(NotFound):
    """No object has this key."""


class ObjectStoreUnavailable(Unavailable):
    """The store cannot be written or read now: disk full, permissions, away."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was stored: its key, its size, and the SHA-256 of its bytes in hex."""

    key: str
    size_bytes: int
    sha256: str


class ObjectStore(Protocol):
    """Where the bytes of documents, snapshots and archives are kept."""

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], *, keep_until: datetime | None = None
    ) -> StoredObject:
        """Store all of `chunks` under `key`, replacing what was there, durably before returning.

        Until `keep_until` nobody can change or remove these bytes, if the store has locks: a bucket
        with object lock. When `chunks` raises, nothing is stored and the error passes.
        Raises: ValueError for a malformed key; ObjectStoreUnavailable.
        """
        ...

    def open(self, key: str) -> AsyncIterator[bytes]:
        """Yield the object's bytes in order, in pieces of up to 256 KiB.

        A reader that stops early closes the iterator (`contextlib.aclosing`).
        Raises: ObjectNotFound; ValueError for a malformed key; ObjectStoreUnavailable.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; a no-op when there is none. Raises: ObjectStoreUnavailable."""
        ...

    async def exists(self, key: str) -> bool:
        """Return whether the object is there, whole. Raises: ObjectStoreUnavailable."""
        ...

    async def keys(self, folder: str, *, most: int, after: str = "") -> list[str]:
        """Return keys of up to `most` objects `folder/…`, those in folders below it included.

        Sorted; with `after` those that come after this key.
        Raises: ValueError for a malformed folder; ObjectStoreUnavailable.
        """
        ...


def object_key(tenant_id: str, *parts: str) -> str:
    """Return `tenants/<tenant>/<part>/…`. Raises: InvalidArgument, or ValueError for a bad part."""
    return checked("/".join(("tenants", parse_id(tenant_id, "tenant_id"), *parts)))


@contextlib.asynccontextmanager
async def open_objects(settings: ObjectSettings) -> AsyncIterator[ObjectStore]:
    """Open the store that the URL names.

    Raises: SettingsError for a scheme not served here, or a bucket that cannot be used.
    """
    url = urlsplit(settings.url)
    if url.scheme == "s3":
        # The driver takes half a second and 30 MB: for those who use it.
        from meshwright_common.storage.s3_objects import open_s3  # noqa: PLC0415

        async with open_s3(settings) as bucket:
            yield bucket
        return
    if url.scheme != "file" or not url.path:
        raise SettingsError(
            f"MESHWRIGHT_OBJECTS__URL: {url.scheme}: is not served;"
            " use file:///folder or s3://bucket/prefix"
        )
    with ThreadPoolExecutor(THREADS, thread_name_prefix="objects") as threads:
        store = FileObjects(Path(unquote(url.path)), threads)
        await store.sweep()
        yield store


class FileObjects:
    """Objects as files below one folder: temporary file, fsync, rename, fsync of the folder."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        self._root = root
        self._threads = threads

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], *, keep_until: datetime | None = None
    ) -> StoredObject:
        target = self._path(key)
        upload = await self._run(_Upload, self._root / INCOMING)
        try:
            async for block in _gathered(chunks):
                await self._run(upload.write, block)
            await self._run(upload.finish, target)
        finally:
            # Even when this task is cancelled: the file is ours to remove.
            upload.abandon()
        return StoredObject(key, upload.size_bytes, upload.sha256)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        path = self._path(key)
        try:
            file = await self._run(path.open, "rb")
        except FileNotFoundError as error:
            raise ObjectNotFound(f"There is no object {key}.", key=key) from error
        try:
            while block := await self._run(file.read, BLOCK_BYTES):
                yield block
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        await self._run(self._path(key).unlink, True)

    async def exists(self, key: str) -> bool:
        return await self._run(self._path(key).is_file)

    async def keys(self, folder: str, *, most: int, after: str = "") -> list[str]:
        return await self._run(self._keys, self._path(folder), most, after)

    def _keys(self, folder: Path, most: int, after: str) -> list[str]:
        # Folders that were emptied stay behind: they name nothing but the tenant.
        files = (path for path in folder.rglob("*") if path.is_file())
        keys = (path.relative_to(self._root).as_posix() for path in files)
        return heapq.nsmallest(most, (key for key in keys if key > after))

    async def sweep(self) -> int:
        """Remove uploads that a dead process left behind; return how many."""
        return await self._run(self._sweep)

    def _sweep(self) -> int:
        incoming = self._root / INCOMING
        _make_folder(incoming)
        # house: wall-clock: compared with the times of files
        oldest = time.time() - LEFTOVER_SECONDS
        leftovers = [one for one in incoming.iterdir() if one.stat().st_mtime < oldest]
        for one in leftovers:
            one.unlink(missing_ok=True)
        return len(leftovers)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ObjectStoreUnavailable(
                "The object store cannot serve this now.", cause=error.strerror or str(error)
            ) from error


class _Upload:
    """One file being received, in a thread of the pool."""

    def __init__(self, incoming: Path) -> None:
        _make_folder(incoming)
        self._path = incoming / secrets.token_hex(16)
        self._file: IO[bytes] = self._path.open("xb")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self._hash.update(block)
        self.size_bytes += len(block)

    def finish(self, target: Path) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        _make_folder(target.parent)
        self._path.replace(target)
        _sync_folder(target.parent)

    def abandon(self) -> None:
        """Close and remove what is not finished; a no-op after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Create a folder and those above it, ours alone, to stay after a power cut."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small chunks up to BLOCK_BYTES; larger ones pass whole."""
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= BLOCK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def checked(key: str) -> str:
    """Return the key. Raises: ValueError for one that `object_key` would not make."""
    segments = key.split("/")
    if len(key) > MAX_KEY_LENGTH or not all(_SEGMENT.fullmatch(one) for one in segments):
        raise ValueError(f"not an object key: {key!r}")
    return key
