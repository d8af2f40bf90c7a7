"""`up` begins only with the master keys that open what the database has."""

from __future__ import annotations

import pytest

from meshwright_cli.engines.sealing import refuse_other_master_keys, seal_older_content
from meshwright_common.ids import new_id
from meshwright_common.settings import EncryptionSettings, SettingsError
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.encryption import encryption_settings, key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor

pytestmark = pytest.mark.asyncio


@pytest.mark.promise("SEAL-04")
async def test_up_refuses_master_keys_that_do_not_open_what_is_stored(
    database_settings: DatabaseSettingsFor,
) -> None:
    settings = await database_settings()
    await refuse_other_master_keys(settings, encryption_settings("new"))
    async with open_database(settings, "chat") as database:
        await key_ring(database, "old").keys_of(new_id())
    await refuse_other_master_keys(settings, encryption_settings("new", "old"))
    with pytest.raises(SettingsError, match="has no key old, which opens what 1 tenants"):
        await refuse_other_master_keys(settings, encryption_settings("new"))
    with pytest.raises(SettingsError, match="is not set"):
        await refuse_other_master_keys(settings, EncryptionSettings())


async def test_migrate_needs_no_master_key_when_nothing_is_to_be_sealed(
    database_settings: DatabaseSettingsFor,
) -> None:
    assert await seal_older_content(await database_settings(), EncryptionSettings()) == 0
