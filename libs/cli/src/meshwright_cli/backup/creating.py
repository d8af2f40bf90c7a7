"""Make a backup: objects, snapshot, its dump, objects that came since; the manifest at the end."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from meshwright_cli.backup.dumping import dump
from meshwright_cli.backup.manifest import (
    DUMP_FILE,
    LISTING_FILE,
    RECORD_KEYS_FILE,
    BackupError,
    Manifest,
    hashed,
)
from meshwright_cli.backup.objects import ObjectCopies
from meshwright_common.identity.signing import PUBLIC_FILE
from meshwright_common.settings import DatabaseSettings, ObjectSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.objects import open_objects
from meshwright_common.storage.whole_copies import Snapshot, hold

PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, slots=True)
class Source:
    """What is backed up. `master_keys` by id; `outside` names the search stores in use."""

    database: DatabaseSettings
    objects: ObjectSettings
    keys: Path
    master_keys: Mapping[str, bytes]
    outside: tuple[str, ...] = ()


async def create(source: Source, target: Path) -> Manifest:
    """Make the backup `target`, a folder that does not exist; return its manifest.

    It grows beside it as `target.partial` and gets its name at the end, so there is all of it or
    none; what an earlier try left is removed. The platform may run, and is not held up.
    Raises: BackupError; StorageUnavailable; ObjectStoreUnavailable; OSError.
    """
    building = _begin(target)
    try:
        manifest = await _fill(source, building)
        manifest.write(building)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _sync(target.parent)
    return manifest


def _begin(target: Path) -> Path:
    if target.exists():
        raise BackupError(f"{target} exists: name a new folder")
    building = target.with_name(target.name + PARTIAL_SUFFIX)
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(mode=0o700, parents=True)
    return building


async def _fill(source: Source, folder: Path) -> Manifest:
    async with open_objects(source.objects) as store:
        copies = ObjectCopies(store, folder)
        await copies.copy()
        async with hold(source.database) as snapshot:
            _refuse_unknown_keys(snapshot, source.master_keys)
            await asyncio.to_thread(
                dump,
                source.database.url_for(OWNER_SERVICE),
                folder / DUMP_FILE,
                snapshot=snapshot.name,
            )
        await copies.copy()
    copies.drop_later_checkpoints(snapshot.checkpoints)
    copies.write_listing()
    names = [DUMP_FILE, LISTING_FILE]
    # Services elsewhere may have their keys elsewhere: then this file is kept with those.
    with suppress(FileNotFoundError):
        shutil.copyfile(source.keys / PUBLIC_FILE, folder / RECORD_KEYS_FILE)
        names.append(RECORD_KEYS_FILE)
    for name in names:
        _sync(folder / name)
    return Manifest(
        taken_at=snapshot.taken_at.astimezone(UTC).isoformat(),
        version=importlib.metadata.version("meshwright"),
        server_version=snapshot.server_version,
        migrations=snapshot.migrations,
        master_keys=snapshot.master_keys,
        outside=list(source.outside),
        files={name: hashed(folder / name) for name in names},
        object_count=len(copies.known),
        object_bytes=sum(one.size_bytes for one in copies.known.values()),
    ).proven(source.master_keys)


def _refuse_unknown_keys(snapshot: Snapshot, master_keys: Mapping[str, bytes]) -> None:
    if missing := sorted(set(snapshot.master_keys) - master_keys.keys()):
        raise BackupError(
            f"the master key {missing[0]} wraps keys in use and is not among those given: a backup "
            "that nobody could open is refused"
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
