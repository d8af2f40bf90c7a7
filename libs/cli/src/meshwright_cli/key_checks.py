"""What `meshwright doctor` looks at of the keys that seal stored content."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshwright_cli.checks import Finding
from meshwright_cli.engines.attach import database_of, encryption_of
from meshwright_cli.engines.data_folder import DataFolderError
from meshwright_cli.environment import EMBEDDED, PlatformSettings
from meshwright_common.encryption.master_keys import VARIABLE, MasterKeys
from meshwright_common.encryption.rotation import foreign_master_keys
from meshwright_common.errors import ServiceError
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.settings import (
    DatabaseSettings,
    EncryptionSettings,
    SettingsError,
    load,
)

SUBJECT: Final = "keys"


async def check_keys(data: Path) -> list[Finding]:
    """Look whether the master keys open what is stored; nothing when no platform is to be seen."""
    try:
        settings = load(PlatformSettings)
    except SettingsError:
        return []  # said by check_settings
    embedded = settings.database.url == EMBEDDED
    try:
        database = database_of(data, settings.database) if embedded else settings.database
        encryption = encryption_of(data, settings.encryption)
    except DataFolderError:
        return []
    return [await check_master_keys(database, encryption)]


async def check_master_keys(database: DatabaseSettings, encryption: EncryptionSettings) -> Finding:
    """Look whether all keys of tenants are wrapped by the first of the master keys."""
    try:
        masters = MasterKeys(encryption)
        async with open_operator_database(database) as opened:
            others = await foreign_master_keys(opened, masters)
    except SettingsError as error:
        return Finding(SUBJECT, str(error), "give every service the same master keys")
    except (ServiceError, OSError) as error:
        return Finding(SUBJECT, str(error), "see whether MESHWRIGHT_DATABASE__URL can be reached")
    missing = {name: tenants for name, tenants in others.items() if name not in masters.ids}
    if missing:
        return Finding(
            SUBJECT,
            "; ".join(
                f"master key {name} is not set and wraps keys of {tenants} tenants"
                for name, tenants in missing.items()
            ),
            f"add it to {VARIABLE}: nothing else opens what they have stored",
        )
    if others:
        return Finding(
            SUBJECT,
            f"{', '.join(others)} still wraps what {masters.current} should wrap",
            "`meshwright keys rewrap`",
        )
    return Finding(SUBJECT, f"all are wrapped by the master key {masters.current}")
