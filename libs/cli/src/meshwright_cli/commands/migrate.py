"""`meshwright migrate`: bring a database that is not embedded up to date."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_cli.engines.sealing import seal_older_content
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_cli.exits import CommandError, refused
from meshwright_common.errors import ServiceError
from meshwright_common.settings import DatabaseSettings, SettingsError, load

app = typer.Typer(add_completion=False)


@app.command()
def migrate(
    bootstrap: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="MESHWRIGHT_BOOTSTRAP_URL",
            help="Also create database, roles and schemas, as the superuser of this URL.",
        ),
    ] = "",
) -> None:
    """Apply new migrations to MESHWRIGHT_DATABASE__URL as the owner role. Safe to repeat.

    `meshwright up` does this for the embedded database by itself.
    """
    try:
        platform = load(PlatformSettings)
        settings = platform.database
    except SettingsError as error:
        raise refused(str(error)) from None
    if settings.url == EMBEDDED:
        raise refused(
            "MESHWRIGHT_DATABASE__URL is not set: give it as "
            "postgresql://meshwright_{service}:PASSWORD@HOST:5432/meshwright; "
            "`meshwright up` migrates the embedded database itself"
        )
    try:
        applied = asyncio.run(_migrate(platform, bootstrap))
    except SettingsError as error:
        raise refused(str(error)) from None
    except (ServiceError, OSError) as error:
        raise CommandError(str(error)) from None
    for schema, names in applied.items():
        for name in names:
            typer.echo(f"{schema}: {name}")
    if not applied:
        typer.echo("up to date")


async def _migrate(platform: PlatformSettings, superuser_url: str) -> dict[str, list[str]]:
    applied = await _prepare(platform.database, superuser_url)
    await seal_older_content(platform.database, platform.encryption)
    return applied


async def _prepare(settings: DatabaseSettings, superuser_url: str) -> dict[str, list[str]]:
    if not superuser_url:
        return await migrate_all(settings)
    password = unquote(urlsplit(settings.url).password or "")
    if not password:
        raise refused("MESHWRIGHT_DATABASE__URL has no password to give to the roles")
    return await prepare_database(superuser_url, settings, password=password)
