"""Key files, API keys, and the permission table."""

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshwright.rag.v1 import knowledge_service_pb2
from meshwright_common.identity import api_keys
from meshwright_common.identity.keys import KeyFileError, ensure_keys, load_keys
from meshwright_common.identity.permissions import required_permissions

SERVICES = ("chat", "rag")


def raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = ensure_keys(folder, SERVICES)
    again = ensure_keys(folder, SERVICES)
    assert {raw(key) for key in first.trusted.values()} == {
        raw(key) for key in again.trusted.values()
    }
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert {0o600} == {stat.S_IMODE((folder / f"{name}.key").stat().st_mode) for name in SERVICES}
    assert {"chat.key", "rag.key", "trusted.json"} == {path.name for path in folder.iterdir()}


def test_new_service_joins_the_trust_set(tmp_path: Path) -> None:
    ensure_keys(tmp_path, ["chat"])
    assert {"chat", "rag"} == set(ensure_keys(tmp_path, ["rag"]).trusted)


def test_service_loads_its_own_key_and_all_public_ones(tmp_path: Path) -> None:
    made = ensure_keys(tmp_path, SERVICES)
    loaded = load_keys(tmp_path, ["rag"])
    assert {"rag"} == set(loaded.private)
    assert raw(made.trusted["rag"]) == raw(loaded.private_key("rag").public_key())
    assert set(SERVICES) == set(loaded.trusted)
    with pytest.raises(KeyFileError, match="chat"):
        loaded.private_key("chat")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b'{"chat": 7}', b'{"chat": "x"}'])
@pytest.mark.parametrize("name", ["chat.key", "trusted.json"])
def test_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    ensure_keys(tmp_path, SERVICES)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KeyFileError, match=name):
        load_keys(tmp_path, ["chat"])
    with pytest.raises(KeyFileError, match=name):
        ensure_keys(tmp_path, SERVICES)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"chat\.key"):
        load_keys(tmp_path, ["chat"])


def test_trust_set_holds_public_keys_only(tmp_path: Path) -> None:
    ensure_keys(tmp_path, SERVICES)
    content = json.loads((tmp_path / "trusted.json").read_text())
    assert all("PUBLIC KEY" in pem and "PRIVATE" not in pem for pem in content.values())


def test_api_keys_are_random_recognisable_and_checked() -> None:
    """S-22c: 256 random bits, only the hash is stored, prefix and checksum."""
    keys = [api_keys.generate() for _ in range(1000)]
    assert 1000 == len({key.plain for key in keys})
    assert all(api_keys.is_well_formed(key.plain) for key in keys)
    assert all(key.plain.startswith(key.prefix) and len(key.prefix) == 11 for key in keys)
    assert all(api_keys.digest(key.plain) == key.sha256 and len(key.sha256) == 32 for key in keys)
    # The last one of the secret has four bits only.
    letters = "".join(key.plain[3:45] for key in keys)
    counts = [letters.count(letter) for letter in set(letters)]
    assert 64 == len(counts)
    assert max(counts) < 1.35 * min(counts)


def test_mistyped_api_key_is_noticed() -> None:
    plain = api_keys.generate().plain
    for at in range(len(plain)):
        other = "x" if plain[at] != "x" else "y"
        assert not api_keys.is_well_formed(plain[:at] + other + plain[at + 1 :])
    for wrong in ("", "mw_", plain + "0", plain.upper(), f" {plain}", "sk-" + plain, "\ud800"):
        assert not api_keys.is_well_formed(wrong)


def test_api_key_is_not_shown_by_accident() -> None:
    key = api_keys.generate()
    assert key.plain not in repr(key)


def test_every_method_of_the_protos_declares_a_permission() -> None:
    table = required_permissions()
    assert len(table) > 60
    assert "kb:read" == table["/meshwright.rag.v1.KnowledgeService/GetDocument"]
    assert all(":" in permission for permission in table.values())


def test_table_can_be_limited_to_what_is_served() -> None:
    name = knowledge_service_pb2.DESCRIPTOR.services_by_name["KnowledgeService"].full_name
    assert {name} == {path.split("/")[1] for path in required_permissions([name])}
