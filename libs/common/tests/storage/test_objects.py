"""One suite for every object store: whole or not at all, and never outside its place."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from libs.common.tests.storage.buckets import make_bucket
from meshwright_common.ids import new_id
from meshwright_common.settings import ObjectSettings, SettingsError
from meshwright_common.storage.objects import (
    BLOCK_BYTES,
    LEFTOVER_SECONDS,
    ObjectNotFound,
    ObjectStore,
    ObjectStoreUnavailable,
    object_key,
    open_objects,
)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ob jects"


@dataclass
class Shelf:
    """A store, and a look behind it: what it keeps, finished or not."""

    store: ObjectStore
    kept: Callable[[], Awaitable[list[str]]]


@contextlib.asynccontextmanager
async def file_shelf(folder: Path) -> AsyncIterator[Shelf]:
    async def kept() -> list[str]:
        return files(folder)

    async with open_objects(ObjectSettings(url=folder.as_uri())) as opened:
        yield Shelf(opened, kept)


@contextlib.asynccontextmanager
async def s3_shelf(endpoint: str) -> AsyncIterator[Shelf]:
    async with make_bucket(endpoint) as bucket:

        async def kept() -> list[str]:
            return [*await bucket.keys(), *await bucket.uploads()]

        async with open_objects(bucket.settings) as opened:
            yield Shelf(opened, kept)


@pytest_asyncio.fixture(params=["file", "s3"])
async def shelf(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Shelf]:
    if request.param == "file":
        opening = file_shelf(folder)
    else:
        opening = s3_shelf(request.getfixturevalue("s3_server"))
    async with opening as opened:
        yield opened


@pytest.fixture
def store(shelf: Shelf) -> ObjectStore:
    return shelf.store


@pytest_asyncio.fixture
async def file_store(folder: Path) -> AsyncIterator[ObjectStore]:
    async with file_shelf(folder) as opened:
        yield opened.store


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def content(store: ObjectStore, key: str) -> bytes:
    return b"".join([piece async for piece in store.open(key)])


def files(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def modes_of_folders(folder: Path) -> set[int]:
    folders = [folder, *(one for one in folder.rglob("*") if one.is_dir())]
    return {stat.S_IMODE(one.stat().st_mode) for one in folders}


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [b""],
        [b"one"],
        [b"one", b"", b"two"],
        [b"x" * (3 * BLOCK_BYTES + 1)],
        [bytes([number % 256]) * 1000 for number in range(1000)],
        # More than one part of an S3 upload; exactly two of them.
        [bytes([number]) * (3 * 1024 * 1024) for number in range(6)],
        [b"x" * (16 * 1024 * 1024)],
    ],
)
@pytest.mark.promise("STORE-08")
async def test_what_was_put_is_what_is_read(store: ObjectStore, chunks: list[bytes]) -> None:
    key = object_key(new_id(), "documents", new_id())
    stored = await store.put(key, pieces(*chunks))
    whole = b"".join(chunks)
    assert (stored.key, stored.size_bytes) == (key, len(whole))
    assert stored.sha256 == hashlib.sha256(whole).hexdigest()
    assert await content(store, key) == whole
    assert await store.exists(key)


async def test_a_second_put_replaces_the_object(store: ObjectStore) -> None:
    key = object_key(new_id(), "a")
    await store.put(key, pieces(b"first, longer"))
    await store.put(key, pieces(b"second"))
    assert await content(store, key) == b"second"


@pytest.mark.parametrize("size_bytes", [2 * BLOCK_BYTES, 20 * 1024 * 1024])
@pytest.mark.promise("STORE-08")
async def test_an_upload_that_breaks_off_leaves_nothing(shelf: Shelf, size_bytes: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * size_bytes
        raise ConnectionResetError

    key = object_key(new_id(), "a")
    with pytest.raises(ConnectionResetError):
        await shelf.store.put(key, broken())
    assert not await shelf.store.exists(key)
    assert await shelf.kept() == []


@pytest.mark.promise("STORE-08")
async def test_a_cancelled_upload_leaves_nothing(shelf: Shelf) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * (9 * 1024 * 1024)
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.ensure_future(shelf.store.put(object_key(new_id(), "a"), endless()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await shelf.kept() == []


async def test_a_reader_sees_the_old_object_or_the_new_one(store: ObjectStore) -> None:
    key = object_key(new_id(), "a")
    await store.put(key, pieces(b"old" * BLOCK_BYTES))
    reading = store.open(key)
    first = await anext(reading)
    await store.put(key, pieces(b"new" * BLOCK_BYTES))
    rest = b"".join([piece async for piece in reading])
    assert first + rest == b"old" * BLOCK_BYTES


async def test_a_reader_may_stop_early(store: ObjectStore) -> None:
    key = object_key(new_id(), "a")
    await store.put(key, pieces(b"x" * (4 * BLOCK_BYTES)))
    before = len(os.listdir("/proc/self/fd"))
    async with aclosing(store.open(key)) as reading:  # type: ignore[type-var]
        await anext(reading)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_is_absent_is_not_found_and_deleted_without_complaint(
    store: ObjectStore,
) -> None:
    key = object_key(new_id(), "a")
    with pytest.raises(ObjectNotFound):
        await content(store, key)
    await store.delete(key)
    await store.put(key, pieces(b"x"))
    await store.delete(key)
    assert not await store.exists(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "../outside",
        "tenants/../../outside",
        "tenants/a/..",
        "tenants//a",
        "tenants/.hidden",
        ".incoming/x",
        "tenants/a\x00b",
        "tenants/a\nb",
        "tenants\\a",
        "tenants/%2e%2e/a",
        "tenants/ü",
        "a/" * 600,
        "a" * 200,
    ],
)
@pytest.mark.promise("STORE-09")
async def test_a_key_that_is_no_key_reaches_nothing(shelf: Shelf, key: str) -> None:
    """S-12, S-36."""
    store = shelf.store
    with pytest.raises(ValueError, match="not an object key"):
        await store.put(key, pieces(b"x"))
    with pytest.raises(ValueError, match="not an object key"):
        await content(store, key)
    with pytest.raises(ValueError, match="not an object key"):
        await store.delete(key)
    with pytest.raises(ValueError, match="not an object key"):
        await store.exists(key)
    assert await shelf.kept() == []


@pytest.mark.parametrize("part", ["..", "", ".x", "ä", "a//b", "/a"])
async def test_a_part_of_a_key_leads_nowhere_else(part: str) -> None:
    with pytest.raises(ValueError, match="not an object key"):
        object_key(new_id(), "a", part)


async def test_uploads_of_a_dead_process_are_swept_and_running_ones_are_not(
    folder: Path,
) -> None:
    incoming = folder / ".incoming"
    incoming.mkdir(parents=True)
    dead, running = incoming / "dead", incoming / "running"
    dead.write_bytes(b"half")
    running.write_bytes(b"half")
    old = running.stat().st_mtime - LEFTOVER_SECONDS - 1
    os.utime(dead, (old, old))
    async with open_objects(ObjectSettings(url=folder.as_uri())):
        assert files(folder) == [".incoming/running"]


async def test_only_the_owner_reads_objects(file_store: ObjectStore, folder: Path) -> None:
    await file_store.put(object_key(new_id(), "a"), pieces(b"x"))
    assert modes_of_folders(folder) == {0o700}


async def test_a_store_that_cannot_be_written_says_so(
    file_store: ObjectStore, folder: Path
) -> None:
    tenant = new_id()
    (folder / "tenants").mkdir()
    (folder / "tenants" / tenant).write_text("a file where a folder belongs")
    with pytest.raises(ObjectStoreUnavailable):
        await file_store.put(object_key(tenant, "a"), pieces(b"x"))
    assert files(folder) == [f"tenants/{tenant}"]


@pytest.mark.parametrize("url", ["s3://", "embedded:", "file:", "ftp://x/y"])
async def test_another_kind_of_store_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="MESHWRIGHT_OBJECTS__URL"):
        await open_objects(ObjectSettings(url=url)).__aenter__()


async def test_keys_of_a_folder_are_listed_in_order_from_any_place_on(store: ObjectStore) -> None:
    tenant, other = new_id(), new_id()
    wanted = [object_key(tenant, "audit", f"{number:03}") for number in range(5)]
    for key in [*reversed(wanted), object_key(tenant, "auditing"), object_key(other, "audit", "1")]:
        await store.put(key, pieces(b"x"))
    folder = object_key(tenant, "audit")
    assert await store.keys(folder, most=10) == wanted
    assert await store.keys(folder, most=2, after=wanted[1]) == wanted[2:4]
    assert await store.keys(object_key(new_id(), "audit"), most=10) == []
