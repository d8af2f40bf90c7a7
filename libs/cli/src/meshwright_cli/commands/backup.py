"""`meshwright backup`: make backups, check them, restore them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import BaseModel, ConfigDict

from meshwright_cli.backup.creating import Source, create
from meshwright_cli.backup.indexing import index_anew
from meshwright_cli.backup.manifest import BackupError, Manifest
from meshwright_cli.backup.restoring import Target, restore
from meshwright_cli.backup.verifying import verify
from meshwright_cli.commands.events.printing import printable
from meshwright_cli.engines.attach import database_of, encryption_of
from meshwright_cli.engines.data_folder import DataFolderError, own, owner_of
from meshwright_cli.engines.running import run_engines
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_cli.exits import CommandError, Exit, refused
from meshwright_cli.operator_calls import operate
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.errors import ServiceError
from meshwright_common.master_keys import parse_master_keys
from meshwright_common.settings import DatabaseSettings, ObjectSettings, SettingsError, load
from meshwright_common.storage.embedded.process import EngineFailed
from meshwright_common.telemetry import logging

app = typer.Typer(add_completion=False, no_args_is_help=True)
T = TypeVar("T")

VARIABLE: Final = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS"
BackupArgument = Annotated[
    Path, typer.Argument(metavar="BACKUP", file_okay=False, help="Folder of the backup.")
]
MasterKeysOption = Annotated[
    Path | None,
    typer.Option(
        "--master-keys",
        metavar="FILE",
        dir_okay=False,
        help=f"What {VARIABLE} holds, or a copy of DATA/secrets.json; else that variable.",
    ),
]


class SearchStore(BaseModel):
    """Where an index is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str = EMBEDDED


class SearchStores(BaseModel):
    """Where the indexes of passages are."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    vectors: SearchStore = SearchStore()
    full_text: SearchStore = SearchStore()


class BackupSettings(PlatformSettings):
    """What is backed up, and what is not because it is elsewhere."""

    rag: SearchStores = SearchStores()

    def outside(self) -> tuple[str, ...]:
        """Return the search stores that are not PostgreSQL."""
        stores = {"Milvus": self.rag.vectors, "Elasticsearch": self.rag.full_text}
        return tuple(name for name, store in stores.items() if store.url != EMBEDDED)


@app.callback()
def backup() -> None:
    """Back the platform up while it runs, check backups, and restore them into what is empty.

    Works on the platform of the data folder, or on the one of MESHWRIGHT_DATABASE__URL and the
    other settings. A backup never holds the master key: keep DATA/secrets.json, or what the
    variable holds, somewhere else. docs/backup.md says what is in a backup, and what to do.
    """


@app.command("create")
def create_backup(target: BackupArgument, data: DataOption = DEFAULT_DATA) -> None:
    """Make a backup into a new folder: one moment of the database and the objects it refers to."""
    settings = _settings()

    async def run() -> Manifest:
        encryption = encryption_of(data, settings.encryption)
        if not encryption.master_keys:
            raise refused(f"{VARIABLE} is not set: a backup is proven by the master key")
        async with _database(settings, data) as database:
            source = Source(
                database=database,
                objects=_objects(settings, data),
                keys=_keys(settings, data),
                master_keys=encryption.parsed(),
                outside=settings.outside(),
            )
            return await create(source, target.absolute())

    manifest = _run(run())
    typer.echo(f"{target}: {_summary(manifest)}")
    typer.echo(f"opened by the master key {', '.join(manifest.master_keys)}: keep it elsewhere")
    for name in manifest.outside:
        typer.echo(f"{name} is not in it: run `meshwright backup reindex` after a restore")


@app.command("verify")
def verify_backup(folder: BackupArgument, master_keys: MasterKeysOption = None) -> None:
    """Check every file of a backup against its manifest, and the manifest against the master key.

    Restores nothing. Without a master key only damage is found, not forgery.
    """
    keys = _named_keys(master_keys, required=False)
    manifest = _tried(lambda: verify(folder, parse_master_keys(keys) if keys else None))
    typer.echo(f"{folder}: {_summary(manifest)}")
    typer.echo("whole, and made with this master key" if keys else "whole; no master key was given")


@app.command("restore")
def restore_backup(
    folder: BackupArgument,
    master_keys: MasterKeysOption = None,
    bootstrap: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="MESHWRIGHT_BOOTSTRAP_URL",
            help="A superuser's URL, where MESHWRIGHT_DATABASE__URL names a server.",
        ),
    ] = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Restore a backup into a new data folder, or into an empty database and an empty bucket.

    `meshwright up --data DATA` then starts from it. Whatever is not empty is refused.
    """
    settings = _settings()
    keys = _named_keys(master_keys, required=True)
    if settings.database.url != EMBEDDED and not bootstrap:
        raise refused("--bootstrap is needed: roles and database are made by a superuser")
    target = Target(settings, data.absolute(), bootstrap, keys)
    manifest = _run(restore(folder, target, parse_master_keys(keys)))
    typer.echo(f"restored {_summary(manifest)}")
    if settings.database.url == EMBEDDED:
        typer.echo(f"start it:  meshwright up --data {data}")
    for name in manifest.outside:
        typer.echo(f"{name} is empty: run `meshwright backup reindex` when the platform runs")


@app.command()
def reindex(
    tenant: Annotated[
        str, typer.Option("--tenant", metavar="SLUG", help="Only of this one: slug or id.")
    ] = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Have all searchable documents indexed anew, after search stores outside were restored empty.

    Works on the running platform, and returns when all are asked for: it goes on by itself.
    """

    def tell(slug: str, count: int) -> None:
        typer.echo(f"{printable(slug)}: {count} documents")

    operate(data, lambda operator: index_anew(operator, tenant, tell))


def _settings() -> BackupSettings:
    try:
        return load(BackupSettings)
    except SettingsError as error:
        raise refused(str(error)) from None


def _named_keys(file: Path | None, *, required: bool) -> str:
    """Return the master keys as the setting has them. Raises: CommandError."""
    text = _settings().encryption.master_keys
    if file is not None:
        try:
            text = file.read_text("utf-8").strip()
            if text.startswith("{"):
                text = str(json.loads(text)["master_keys"])
            parse_master_keys(text)
        except OSError as error:
            raise refused(f"--master-keys: {file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise refused(f"--master-keys: {file}: {error}") from None
    if required and not text:
        raise refused(f"no master key: name a file with --master-keys, or set {VARIABLE}")
    return text


@asynccontextmanager
async def _database(settings: BackupSettings, data: Path) -> AsyncIterator[DatabaseSettings]:
    """Give the database of a platform that runs, or that of a stopped one, started meanwhile."""
    if settings.database.url != EMBEDDED:
        yield settings.database
    elif owner_of(data) is not None:
        yield database_of(data)
    elif (data / "postgres" / "PG_VERSION").exists():
        with own(data) as folder:
            async with run_engines(folder, ["postgres"]) as engines:
                yield engines.database
    else:
        raise CommandError(f"there is no platform on {data}", Exit.NOT_RUNNING)


def _objects(settings: BackupSettings, data: Path) -> ObjectSettings:
    if settings.objects.url != EMBEDDED:
        return settings.objects
    return ObjectSettings(url=(data / "objects").absolute().as_uri())


def _keys(settings: BackupSettings, data: Path) -> Path:
    named = "keys_dir" in settings.identity.model_fields_set
    return settings.identity.keys_dir if named else data / "keys"


def _run(work: Coroutine[Any, Any, T]) -> T:
    # What a driver has to say beside the error would stand in the way of it.
    logging.configure("operator", level="error", log_format="console")
    return _tried(lambda: asyncio.run(work))


def _tried(work: Callable[[], T]) -> T:
    try:
        return work()
    except DataFolderError as error:
        raise CommandError(str(error), Exit(error.exit_code)) from None
    except SettingsError as error:
        raise refused(str(error)) from None
    except (BackupError, EngineFailed, ServiceError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or 'file'}: {error.strerror or error}") from None


def _summary(manifest: Manifest) -> str:
    applied: Mapping[str, list[str]] = manifest.migrations
    return (
        f"{printable(manifest.taken_at)}, PostgreSQL {printable(manifest.server_version)}, "
        f"{sum(map(len, applied.values()))} migrations, {manifest.object_count} objects of "
        f"{manifest.object_bytes} bytes, version {printable(manifest.version)}"
    )
