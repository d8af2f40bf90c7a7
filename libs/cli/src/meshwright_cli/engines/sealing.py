"""Content that is older than its sealed column is sealed right after the migrations."""

from __future__ import annotations

from meshwright_common.encryption import KeyRing
from meshwright_common.encryption.master_keys import MasterKeys
from meshwright_common.encryption.resealing import has_plain, seal_plain
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.settings import DatabaseSettings, EncryptionSettings


async def seal_older_content(settings: DatabaseSettings, encryption: EncryptionSettings) -> int:
    """Seal what a migration has left plain; return how many rows. Cheap when there is nothing.

    Raises: SettingsError when there is something and no master key; StorageUnavailable.
    """
    async with open_operator_database(settings) as database:
        if not await has_plain(database):
            return 0
        done = await seal_plain(database, KeyRing(MasterKeys(encryption), database))
        return done.rows
