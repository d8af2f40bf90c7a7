"""Backups of a platform on servers of its own, and backups that are not to be trusted."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from meshwright_cli.backup.manifest import FORMAT, BackupError
from meshwright_cli.backup.verifying import verify
from meshwright_common.errors import ServiceError
from meshwright_common.master_keys import new_master_key, parse_master_keys
from tests.asking import ask, ended, eventually, upload
from tests.platform_process import Platform, run_command
from tests.tenants import new_tenant

pytestmark = pytest.mark.parametrize("platform", ["production"], indirect=True, scope="session")
MASTER_KEYS = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS"


@dataclass(frozen=True)
class MadeBackup:
    """A backup of the shared platform; `tenant_id` has a turn and a document in it."""

    folder: Path
    master_keys: str
    tenant_id: str
    api_key: str

    @property
    def keys(self) -> dict[str, bytes]:
        return parse_master_keys(self.master_keys)


@pytest.fixture(scope="module")
def backup(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> MadeBackup:
    folder = tmp_path_factory.mktemp("backups") / "first"
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as client:
        ask(client, "Count.", model="sim-n3", agent="chat")
        document = upload(client, "keys.md", b"# Keys\n\nKept apart from what they open.\n")
        assert ended(client, document["document_id"])["state"] == "ready"
    made = run_command(
        "backup", "create", str(folder), "--data", str(platform.data),
        environment=platform.environment,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "Milvus is not in it" in made.stdout
    return MadeBackup(folder, platform.environment[MASTER_KEYS], tenant.tenant_id, tenant.api_key)


@pytest.fixture
def copy(backup: MadeBackup, tmp_path: Path) -> Path:
    """A copy of the backup, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(backup.folder, folder)
    return folder


@pytest.mark.promise("OPS-DAY2-03")
def test_a_backup_is_restored_to_empty_servers_and_to_no_others(
    platform: Platform, backup: MadeBackup, server_address: Callable[[str], str]
) -> None:
    name = f"mw{secrets.token_hex(4)}"
    httpx.put(f"{server_address('s3')}/{name}").raise_for_status()
    database = urlsplit(platform.environment["MESHWRIGHT_DATABASE__URL"])
    environment = {
        **platform.environment,
        "MESHWRIGHT_DATABASE__URL": urlunsplit(database._replace(path=f"/{name}")),
        "MESHWRIGHT_OBJECTS__URL": f"s3://test:test@{name}",
        "MESHWRIGHT_BOOTSTRAP_URL": server_address("postgres"),
    }
    done = run_command("backup", "restore", str(backup.folder), environment=environment)
    assert done.returncode == 0, done.stderr
    verified = run_command(
        "audit", "verify", "--tenant", backup.tenant_id, "--data", str(platform.data),
        environment=environment,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert ": valid, records 1 to" in verified.stdout
    again = run_command("backup", "restore", str(backup.folder), environment=environment)
    assert again.returncode == 1
    assert "is not empty" in again.stderr


@pytest.mark.promise("OPS-DAY2-03")
def test_documents_are_indexed_anew_and_found_as_before(
    platform: Platform, backup: MadeBackup
) -> None:
    with platform.client(backup.api_key) as client:
        before = passages(client)
        done = run_command(
            "backup", "reindex", "--tenant", backup.tenant_id, "--data", str(platform.data)
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(": 1 documents\n")
        eventually(lambda: ended(client, before[0]["document_id"])["state"] == "ready")
        assert [one["text"] for one in passages(client)] == [one["text"] for one in before]


def passages(client: httpx.Client) -> list[dict[str, str]]:
    answer = client.post("/api/v1/search", json={"query": "kept apart"})
    found: list[dict[str, str]] = answer.json()["passages"]
    assert found, answer.text
    return found


@pytest.mark.promise("OPS-DAY2-03")
def test_a_backup_that_was_changed_is_refused(
    platform: Platform, backup: MadeBackup, copy: Path
) -> None:
    assert verify(copy, backup.keys).object_count >= 1
    some_object = next(one for one in (copy / "objects").rglob("*") if one.is_file())
    for file in (copy / "database.dump", copy / "objects.jsonl", some_object):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BackupError, match=r"is not what was|is damaged"):
            verify(copy, None)
        file.write_bytes(whole)
    verify(copy, None)
    some_object.unlink()
    with pytest.raises(BackupError, match="is missing"):
        verify(copy, None)


@pytest.mark.promise("OPS-DAY2-03")
def test_a_backup_that_was_forged_or_is_of_other_keys_is_refused(
    platform: Platform, backup: MadeBackup, copy: Path
) -> None:
    """Whoever changes files and their hashes together has no master key to prove it by."""
    [name] = backup.keys
    with pytest.raises(BackupError, match="was made with"):
        verify(copy, parse_master_keys(new_master_key("other")))
    with pytest.raises(BackupError, match="another one"):
        verify(copy, parse_master_keys(new_master_key(name)))
    told = json.loads((copy / "manifest.json").read_text())
    rewrite(copy, told | {"taken_at": "2020-01-01T00:00:00+00:00"})
    verify(copy, None)
    with pytest.raises(BackupError, match="was changed since"):
        verify(copy, backup.keys)


@pytest.mark.promise("OPS-DAY2-03")
def test_a_backup_of_a_newer_version_is_refused(
    platform: Platform, backup: MadeBackup, copy: Path
) -> None:
    told = json.loads((copy / "manifest.json").read_text())
    rewrite(copy, told | {"format": FORMAT + 1})
    with pytest.raises(BackupError, match="newer"):
        verify(copy, None)
    newer = told["migrations"] | {"chat": [*told["migrations"]["chat"], "9999_later.sql"]}
    rewrite(copy, told | {"migrations": newer})
    with pytest.raises(ServiceError, match="9999_later"):
        verify(copy, None)


@pytest.mark.promise("OPS-DAY2-03")
def test_passages_that_were_indexed_outside_need_servers_of_their_own(
    platform: Platform, backup: MadeBackup, tmp_path: Path
) -> None:
    target = tmp_path / "data"
    environment = {MASTER_KEYS: backup.master_keys}
    where = ("--data", str(target))
    done = run_command("backup", "restore", str(backup.folder), *where, environment=environment)
    assert done.returncode == 1
    assert "Milvus and Elasticsearch" in done.stderr
    assert not target.exists()


def rewrite(folder: Path, told: dict[str, object]) -> None:
    (folder / "manifest.json").write_text(json.dumps(told))
