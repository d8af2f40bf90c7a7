"""Stored content and the master keys: they have to fit, and all of it has to be sealed."""

from __future__ import annotations

from meshwright_common.encryption import KeyRing
from meshwright_common.encryption.master_keys import VARIABLE, MasterKeys
from meshwright_common.encryption.resealing import has_plain, seal_plain
from meshwright_common.encryption.rotation import foreign_master_keys
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.settings import DatabaseSettings, EncryptionSettings, SettingsError


async def seal_older_content(settings: DatabaseSettings, encryption: EncryptionSettings) -> int:
    """Seal what a migration has left plain; return how many rows. Cheap when there is nothing.

    Raises: SettingsError when there is something and no master key; StorageUnavailable.
    """
    async with open_operator_database(settings) as database:
        if not await has_plain(database):
            return 0
        done = await seal_plain(database, KeyRing(MasterKeys(encryption), database))
        return done.rows


async def refuse_other_master_keys(
    settings: DatabaseSettings, encryption: EncryptionSettings
) -> None:
    """Do nothing when the master keys open what is stored. Raises: SettingsError naming others."""
    masters = MasterKeys(encryption)
    async with open_operator_database(settings) as database:
        others = await foreign_master_keys(database, masters)
    for name in others.keys() - set(masters.ids):
        raise SettingsError(
            f"{VARIABLE}: has no key {name}, which opens what {others[name]} tenants have stored: "
            "this database was used with another one"
        )
