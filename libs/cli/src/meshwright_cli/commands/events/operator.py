"""How these commands reach the log: the platform's settings, the login of its tables' owner."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from meshwright_cli.engines.attach import database_of
from meshwright_cli.engines.data_folder import DataFolderError
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_cli.exits import CommandError, Exit, refused
from meshwright_common.errors import ServiceError
from meshwright_common.events.backbone import is_relayed
from meshwright_common.events.inspection import (
    TOPIC_NAMES,
    LogInspection,
    NotTheOwner,
    open_operator_database,
)
from meshwright_common.events.inspection_backbone import inspection_of
from meshwright_common.ids import parse_id
from meshwright_common.settings import CommonSettings, DatabaseSettings, SettingsError, load
from meshwright_common.storage.postgres import Database
from meshwright_common.telemetry import logging

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backbone:
    """The log and the database beside it. `relayed` says that events leave PostgreSQL."""

    settings: CommonSettings
    database_settings: DatabaseSettings
    database: Database
    log: LogInspection
    relayed: bool


def operate(data: Path, work: Callable[[Backbone], Awaitable[T]]) -> T:
    """Run `work` on the log of the platform. Raises: CommandError with what is wrong."""
    try:
        settings = load(PlatformSettings)
    except SettingsError as error:
        raise refused(str(error)) from None
    # What a driver has to say beside the error would stand in the way of it.
    logging.configure("operator", level="error", log_format="console")
    try:
        return asyncio.run(_operate(settings, data, work))
    except DataFolderError as error:
        raise CommandError(str(error), Exit(error.exit_code)) from None
    except NotTheOwner as error:
        raise refused(f"MESHWRIGHT_DATABASE__URL: {error}") from None
    except BrokenPipeError:
        raise
    except (ServiceError, OSError) as error:
        raise CommandError(str(error)) from None


async def _operate(
    settings: CommonSettings, data: Path, work: Callable[[Backbone], Awaitable[T]]
) -> T:
    async with _open(settings, data) as backbone:
        return await work(backbone)


@asynccontextmanager
async def _open(settings: CommonSettings, data: Path) -> AsyncIterator[Backbone]:
    embedded = settings.database.url == EMBEDDED
    database_settings = database_of(data, settings.database) if embedded else settings.database
    async with open_operator_database(database_settings) as database:
        log = inspection_of(settings.events, database)
        yield Backbone(settings, database_settings, database, log, is_relayed(settings.events))


def operator_name() -> str:
    """Return who acts, for the audit log."""
    return f"operator/{getpass.getuser()}"


def known_topic(topic: str) -> str:
    """Return a topic's name. Raises: BadParameter that names those there are."""
    if topic not in TOPIC_NAMES:
        raise typer.BadParameter(
            f"there is no topic {topic!r}; topics are {', '.join(TOPIC_NAMES)}"
        )
    return topic


def known_id(value: str) -> str:
    """Return a UUID in its canonical form. Raises: BadParameter."""
    try:
        return parse_id(value, "id")
    except ServiceError:
        raise typer.BadParameter(
            f"{value!r} is no id: it has the form 0192f0c1-2d3e-7a4b-8c5d-6e7f80910a1b"
        ) from None
