"""Master keys: read from the settings with clear words, shown nowhere, wrapping one key each."""

from __future__ import annotations

import base64
import os
from dataclasses import replace

import pytest

from meshwright_common.encryption import SealBroken
from meshwright_common.encryption.master_keys import KeyName, MasterKeyMissing, MasterKeys
from meshwright_common.ids import new_id
from meshwright_common.settings import (
    CommonSettings,
    EncryptionSettings,
    SettingsError,
    load,
    redacted,
)
from meshwright_common.testing.encryption import encryption_settings, master_key

VARIABLE = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS"
NAME = KeyName(new_id(), "seal", 1)
GOOD = base64.b64encode(bytes(range(32))).decode()


class Settings(CommonSettings):
    service = "chat"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (GOOD, "key 1 must be ID:KEY"),
        (f"{master_key('a')},:{GOOD}", "key 2 must be ID:KEY"),
        (f"a b:{GOOD}", "key 1 must be ID:KEY"),
        (f"a:{GOOD},", "key 2 must be ID:KEY"),
        ("a:not base64!", "key 1 is not base64"),
        ("a:c2hvcnQ=", "key 1 has 5 bytes, 32 are needed"),
        (f"a:{GOOD},a:{GOOD}", "key 2 has the id of another one"),
    ],
)
def test_a_wrong_setting_is_told_by_its_number_and_not_by_its_bytes(
    value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(SettingsError, match=f"{VARIABLE}: {complaint}") as refused:
        load(Settings)
    assert GOOD not in str(refused.value)


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"a:{GOOD}")
    settings = load(Settings)
    assert settings.encryption.parsed() == {"a": bytes(range(32))}
    assert GOOD not in repr(settings) + str(redacted(settings))


@pytest.mark.promise("SEAL-04")
def test_without_a_master_key_nothing_starts() -> None:
    with pytest.raises(SettingsError, match=f"{VARIABLE}: is not set"):
        MasterKeys(EncryptionSettings())


def test_the_first_wraps_and_all_unwrap() -> None:
    key = os.urandom(32)
    before = MasterKeys(encryption_settings("old"))
    after = MasterKeys(encryption_settings("new", "old"))
    assert (after.current, after.ids) == ("new", ("new", "old"))
    assert after.unwrap(NAME, before.current, before.wrap(NAME, key)) == key
    with pytest.raises(MasterKeyMissing) as missing:
        before.unwrap(NAME, after.current, after.wrap(NAME, key))
    assert missing.value.master_key == "new"
    assert "new" not in str(missing.value)


@pytest.mark.promise("SEAL-01")
@pytest.mark.parametrize(
    "other",
    [
        replace(NAME, tenant_id=new_id()),
        replace(NAME, purpose="blind"),
        replace(NAME, version=2),
    ],
)
def test_a_wrapped_key_in_the_place_of_another_does_not_open(other: KeyName) -> None:
    masters = MasterKeys(encryption_settings())
    wrapped = masters.wrap(NAME, os.urandom(32))
    with pytest.raises(SealBroken):
        masters.unwrap(other, masters.current, wrapped)


@pytest.mark.promise("SEAL-01")
def test_a_wrapped_key_with_another_byte_does_not_open() -> None:
    masters = MasterKeys(encryption_settings())
    wrapped = masters.wrap(NAME, os.urandom(32))
    for position in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            masters.unwrap(NAME, masters.current, bytes(changed))
