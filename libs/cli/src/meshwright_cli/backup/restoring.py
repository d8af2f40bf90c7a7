"""Restore a backup into what is empty: a data folder that does not exist, or servers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from meshwright_cli.backup import dumping
from meshwright_cli.backup.manifest import DUMP_FILE, RECORD_KEYS_FILE, BackupError, Manifest
from meshwright_cli.backup.objects import put_back, refuse_strangers
from meshwright_cli.backup.verifying import verify
from meshwright_cli.engines.data_folder import DataFolder, own, owner_of, write_secrets
from meshwright_cli.engines.running import run_engines
from meshwright_cli.environment import EMBEDDED
from meshwright_common.identity.signing import PUBLIC_FILE
from meshwright_common.settings import CommonSettings, DatabaseSettings, ObjectSettings
from meshwright_common.storage.bootstrap import bootstrap
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.whole_copies import refuse_filled, settle, url_inside

RESTORING_SUFFIX: Final = ".restoring"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to: what `settings` do not name themselves is in the data folder `data`.

    `superuser_url` makes roles and database on a server of the operator's own; `master_keys` is
    the text of the setting.
    """

    settings: CommonSettings
    data: Path
    superuser_url: str
    master_keys: str

    @property
    def embedded_database(self) -> bool:
        return self.settings.database.url == EMBEDDED

    @property
    def embedded_objects(self) -> bool:
        return self.settings.objects.url == EMBEDDED


async def restore(backup: Path, target: Target, master_keys: Mapping[str, bytes]) -> Manifest:
    """Verify the backup and restore it; return its manifest.

    A data folder grows as `DATA.restoring` and gets its name at the end; on a server the database
    is filled in one transaction, after the objects: an interrupted restore is run again.
    Raises: BackupError; DataFolderError; EngineFailed; ServiceError; OSError.
    """
    manifest = await asyncio.to_thread(verify, backup, master_keys)
    if manifest.outside and target.embedded_database:
        raise BackupError(
            f"the passages of this backup are indexed in {' and '.join(manifest.outside)}: "
            "restore it to a database of your own, and index them anew there"
        )
    if not (target.embedded_database or target.embedded_objects):
        await _restore_to_servers(backup, target)
        return manifest
    building = _begin(target.data)
    try:
        write_secrets(building, master_keys=target.master_keys)
        with own(building) as folder:
            await _restore_to_folder(backup, target, folder)
        _finish(building, target.data)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def _begin(data: Path) -> Path:
    if data.exists() and any(data.iterdir()):
        raise BackupError(f"{data} is not empty: name a new data folder with --data")
    building = data.with_name(data.name + RESTORING_SUFFIX)
    if owner_of(building) is not None:
        raise BackupError(f"another restore fills {building}")
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(mode=0o700, parents=True)
    return building


def _finish(building: Path, data: Path) -> None:
    if data.exists():
        data.rmdir()
    building.rename(data)


async def _restore_to_folder(backup: Path, target: Target, folder: DataFolder) -> None:
    objects = target.settings.objects
    if target.embedded_objects:
        objects = ObjectSettings(url=folder.objects.as_uri())
    async with open_objects(objects) as store:
        await _restore_objects(backup, store)
    _put_record_keys(backup, folder.keys)
    if not target.embedded_database:
        await _restore_database(backup, target.superuser_url, target.settings.database)
        return
    async with run_engines(folder, ["postgres"]) as engines:
        await _restore_database(backup, engines.superuser_url, engines.database)


def _put_record_keys(backup: Path, keys: Path) -> None:
    with suppress(FileNotFoundError):
        content = (backup / RECORD_KEYS_FILE).read_bytes()
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / PUBLIC_FILE).write_bytes(content)


async def _restore_to_servers(backup: Path, target: Target) -> None:
    await refuse_filled(target.superuser_url, target.settings.database)
    async with open_objects(target.settings.objects) as store:
        await _restore_objects(backup, store)
    await _restore_database(backup, target.superuser_url, target.settings.database)


async def _restore_objects(backup: Path, store: ObjectStore) -> None:
    await refuse_strangers(store, backup)
    await put_back(store, backup)


async def _restore_database(backup: Path, superuser_url: str, settings: DatabaseSettings) -> None:
    await refuse_filled(superuser_url, settings)
    login = urlsplit(settings.url)
    database = login.path.removeprefix("/")
    await bootstrap(superuser_url, password=unquote(login.password or ""), database=database)
    await asyncio.to_thread(dumping.load, url_inside(superuser_url, settings), backup / DUMP_FILE)
    await settle(settings)
