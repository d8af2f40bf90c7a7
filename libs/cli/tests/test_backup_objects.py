"""Objects of a backup: those that the snapshot refers to, and no later word about the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_cli.backup.manifest import BackupError
from meshwright_cli.backup.objects import (
    ObjectCopies,
    check_objects,
    keys_of,
    put_back,
    refuse_strangers,
)
from meshwright_common.ids import new_id
from meshwright_common.settings import ObjectSettings
from meshwright_common.storage.objects import ObjectStore, object_key, open_objects

pytestmark = pytest.mark.asyncio
TENANT = new_id()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with open_objects(ObjectSettings(url=(tmp_path / "objects").as_uri())) as opened:
        yield opened


async def put(store: ObjectStore, *parts: str) -> str:
    async def content() -> AsyncIterator[bytes]:
        yield "/".join(parts).encode()

    key = object_key(TENANT, *parts)
    await store.put(key, content())
    return key


async def keys(store: ObjectStore) -> set[str]:
    async with aclosing(keys_of(store)) as found:  # type: ignore[type-var]
        return {key async for key in found}


async def test_what_the_snapshot_refers_to_is_copied_whatever_comes_and_goes(
    store: ObjectStore, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    copies = ObjectCopies(store, backup)
    deleted = await put(store, "documents", new_id())
    await copies.copy()
    await store.delete(deleted)
    late = await put(store, "documents", new_id())
    await copies.copy()
    copies.write_listing()
    assert check_objects(backup) == 2

    async with open_objects(ObjectSettings(url=(tmp_path / "new").as_uri())) as new:
        await put_back(new, backup)
        await refuse_strangers(new, backup)
        assert await keys(new) == {deleted, late}
        await put(new, "documents", new_id())
        with pytest.raises(BackupError, match="not empty"):
            await refuse_strangers(new, backup)


async def test_checkpoints_of_the_audit_log_end_with_the_snapshot(
    store: ObjectStore, tmp_path: Path
) -> None:
    """A later one would say that the restored log was set back."""
    backup = tmp_path / "backup"
    backup.mkdir()
    numbers = [await put(store, "audit", "checkpoints", f"{n:012}.json") for n in (1, 2, 3)]
    copies = ObjectCopies(store, backup)
    await copies.copy()
    copies.drop_later_checkpoints({TENANT: 2})
    assert set(copies.known) == set(numbers[:2])
    copies.write_listing()
    assert check_objects(backup) == 2
    copies.drop_later_checkpoints({})
    assert not copies.known
