"""Sealing: content opens in its place, nowhere else, and not when a bit of it has changed."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshwright_common.encryption import Place, SealBroken, TenantKeys
from meshwright_common.encryption.tenant_keys import (
    HEADER_BYTES,
    NONCE_BYTES,
    OVERHEAD_BYTES,
    version_of,
)
from meshwright_common.ids import new_id

TENANT = new_id()
PLACE = Place("chat.turns", "outcome", "row")
OLD, NEW = AESGCM(os.urandom(32)), AESGCM(os.urandom(32))
SECRET = os.urandom(32)


@pytest.fixture
def keys() -> TenantKeys:
    return TenantKeys(TENANT, 2, {1: OLD, 2: NEW}, SECRET)


def test_what_is_sealed_opens_in_its_place_and_is_not_to_be_seen(keys: TenantKeys) -> None:
    for plain in (b"", b"x", os.urandom(100_000)):
        sealed = keys.seal(PLACE, plain)
        assert keys.open(PLACE, sealed) == plain
        assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert b"a word" not in keys.seal(PLACE, b"a word" * 50)


@pytest.mark.promise("SEAL-01")
@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, table="chat.turn"),
        replace(PLACE, column="request"),
        replace(PLACE, row_id="row2"),
        # The same letters, cut otherwise.
        Place("chat.turnso", "utcome", "row"),
        Place("chat.turns", "outcom", "erow"),
    ],
)
def test_content_moved_to_another_place_does_not_open(keys: TenantKeys, elsewhere: Place) -> None:
    with pytest.raises(SealBroken):
        keys.open(elsewhere, keys.seal(PLACE, b"content"))


@pytest.mark.promise("SEAL-01")
def test_content_moved_to_another_tenant_does_not_open(keys: TenantKeys) -> None:
    # Even if both had the same keys.
    other = TenantKeys(new_id(), 2, {1: OLD, 2: NEW}, SECRET)
    with pytest.raises(SealBroken):
        other.open(PLACE, keys.seal(PLACE, b"content"))


@pytest.mark.promise("SEAL-01")
def test_no_byte_can_be_changed_added_or_taken_away(keys: TenantKeys) -> None:
    sealed = keys.seal(PLACE, b"content")
    for position in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            with pytest.raises(SealBroken):
                keys.open(PLACE, bytes(changed))
        with pytest.raises(SealBroken):
            keys.open(PLACE, sealed[:position])
    with pytest.raises(SealBroken):
        keys.open(PLACE, sealed + b"\0")


@pytest.mark.promise("SEAL-01")
def test_content_of_an_older_key_opens_as_that_and_not_as_another_versions() -> None:
    before = TenantKeys(TENANT, 1, {1: OLD}, SECRET)
    keys = TenantKeys(TENANT, 2, {1: OLD, 2: NEW}, SECRET)
    sealed = before.seal(PLACE, b"content")
    assert (version_of(sealed), keys.is_old(sealed)) == (1, True)
    assert keys.open(PLACE, sealed) == b"content"
    renumbered = sealed[:1] + (2).to_bytes(4, "big") + sealed[HEADER_BYTES:]
    with pytest.raises(SealBroken):
        keys.open(PLACE, renumbered)
    # The version is bound, even to a key of the same bytes.
    twice = TenantKeys(TENANT, 2, {1: OLD, 2: OLD}, SECRET)
    with pytest.raises(SealBroken):
        twice.open(PLACE, renumbered)


@pytest.mark.promise("SEAL-01")
def test_content_of_a_key_that_is_not_there_does_not_open(keys: TenantKeys) -> None:
    later = TenantKeys(TENANT, 3, {3: AESGCM(os.urandom(32))}, SECRET)
    with pytest.raises(SealBroken):
        keys.open(PLACE, later.seal(PLACE, b"content"))


@pytest.mark.promise("SEAL-01")
def test_a_nonce_is_never_used_twice(keys: TenantKeys) -> None:
    count = 2**18
    nonces = {
        keys.seal(PLACE, b"")[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES] for _ in range(count)
    }
    assert len(nonces) == count == keys.seals


def test_an_error_tells_the_place_and_not_the_content(keys: TenantKeys) -> None:
    place = replace(PLACE, row_id="other")
    with pytest.raises(SealBroken) as broken:
        keys.open(place, keys.seal(PLACE, b"a secret"))
    assert broken.value.place == place
    assert (broken.value.metadata, "secret" in repr(broken.value)) == ({}, False)


def test_words_have_digests_of_the_tenant_that_outlive_its_data_keys(keys: TenantKeys) -> None:
    rotated = TenantKeys(TENANT, 9, {9: AESGCM(os.urandom(32))}, SECRET)
    other = TenantKeys(new_id(), 2, {2: NEW}, os.urandom(32))
    words = ["apple", "Apfel", "苹果", ""]
    assert keys.blind(words) == rotated.blind(words)
    assert not set(keys.blind(words)) & set(other.blind(words))
    assert len(set(keys.blind(words))) == len(words)
    assert {len(digest) for digest in keys.blind(words)} == {24}
    assert keys.digest(b"apple") == rotated.digest(b"apple") != other.digest(b"apple")
    assert keys.digest(b"apple").hex()[:24] not in keys.blind(words)
