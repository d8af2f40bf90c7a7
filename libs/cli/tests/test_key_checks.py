"""Doctor says when a master key is missing, and when one is left over."""

from __future__ import annotations

import pytest

from meshwright_cli.key_checks import check_master_keys
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, EncryptionSettings
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.encryption import encryption_settings, key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor

pytestmark = pytest.mark.asyncio


async def test_doctor_names_the_master_key_that_is_missing_or_left_over(
    database_settings: DatabaseSettingsFor,
) -> None:
    settings = await database_settings()
    async with open_database(settings, "chat") as database:
        await key_ring(database, "old").keys_of(new_id())
    good = await check_master_keys(settings, encryption_settings("old"))
    assert (good.text, good.advice) == ("all are wrapped by the master key old", "")
    left = await check_master_keys(settings, encryption_settings("new", "old"))
    assert "old still wraps" in left.text
    assert "keys rewrap" in left.advice
    missing = await check_master_keys(settings, encryption_settings("new"))
    assert "old is not set and wraps keys of 1 tenants" in missing.text
    unset = await check_master_keys(settings, EncryptionSettings())
    assert "MASTER_KEYS: is not set" in unset.text


async def test_a_database_that_is_away_is_said_to_be() -> None:
    url = f"postgresql://meshwright_{{service}}:s3cret@127.0.0.1:{free_port()}/meshwright"
    finding = await check_master_keys(DatabaseSettings(url=url), encryption_settings())
    assert "MESHWRIGHT_DATABASE__URL" in finding.advice
    assert "s3cret" not in finding.text
