"""How these commands reach the keys: the platform's settings, the login of its tables' owner."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer

from meshwright_cli.engines.attach import database_of, encryption_of
from meshwright_cli.engines.data_folder import DataFolderError
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_cli.exits import CommandError, Exit, refused
from meshwright_common.encryption import KeyRing
from meshwright_common.encryption.master_keys import VARIABLE, MasterKeyMissing, MasterKeys
from meshwright_common.errors import ServiceError
from meshwright_common.events.inspection import NotTheOwner, open_operator_database
from meshwright_common.ids import parse_id
from meshwright_common.settings import CommonSettings, SettingsError, load
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.telemetry import logging

T = TypeVar("T")

TenantOption: TypeAlias = Annotated[
    str, typer.Option("--tenant", metavar="TENANT", help="Only this tenant: its slug or its id.")
]


@dataclass(frozen=True, slots=True)
class Keys:
    """The database with the keys, the master keys, and the keys of tenants by both."""

    database: Database
    masters: MasterKeys
    ring: KeyRing

    async def tenant_of(self, name: str) -> str | None:
        """Return the id of a tenant by slug or id, None for "". Raises: CommandError."""
        if not name:
            return None
        try:
            wanted: str | None = parse_id(name, "tenant")
        except ServiceError:
            wanted = None
        async with unscoped(self.database) as connection:
            found: str | None = await connection.fetchval(
                "SELECT tenant_id FROM session.tenants WHERE slug = $1 OR tenant_id = $2",
                name,
                wanted,
            )
        if found is None:
            raise refused(f"there is no tenant {name!r}")
        return found


def operate(data: Path, work: Callable[[Keys], Awaitable[T]]) -> T:
    """Run `work` on the keys of the platform. Raises: CommandError with what is wrong."""
    # What a driver has to say beside the error would stand in the way of it.
    logging.configure("operator", level="error", log_format="console")
    try:
        return asyncio.run(_operate(load(PlatformSettings), data, work))
    except DataFolderError as error:
        raise CommandError(str(error), Exit(error.exit_code)) from None
    except SettingsError as error:
        raise refused(str(error)) from None
    except NotTheOwner as error:
        raise refused(f"MESHWRIGHT_DATABASE__URL: {error}") from None
    except MasterKeyMissing as error:
        raise refused(
            f"{VARIABLE}: has no key {error.master_key}, which wraps keys in use"
        ) from None
    except (ServiceError, OSError) as error:
        raise CommandError(str(error)) from None


async def _operate(settings: CommonSettings, data: Path, work: Callable[[Keys], Awaitable[T]]) -> T:
    embedded = settings.database.url == EMBEDDED
    database_settings = database_of(data, settings.database) if embedded else settings.database
    masters = MasterKeys(encryption_of(data, settings.encryption))
    async with open_operator_database(database_settings) as database:
        return await work(Keys(database, masters, KeyRing(masters, database)))


def operator_name() -> str:
    """Return who acts, for the audit log."""
    return f"operator/{getpass.getuser()}"
