"""One owner at a time, passwords that nobody else reads, clear words when it cannot be."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from meshwright_cli.engines.data_folder import (
    DataFolderError,
    DataFolderInUse,
    own,
    owner_of,
    read_endpoint,
)
from meshwright_common.settings import EncryptionSettings

OWNER = """
import pathlib, signal, sys
from meshwright_cli.engines.data_folder import own
with own(pathlib.Path(sys.argv[1])):
    print("owned", flush=True)
    signal.pause()
"""


def test_a_second_owner_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    with own(tmp_path), pytest.raises(DataFolderInUse) as refused, own(tmp_path):
        pass
    assert refused.value.pid == os.getpid()
    assert refused.value.exit_code == 2
    assert str(os.getpid()) in str(refused.value)
    assert "meshwright down" in str(refused.value)


def test_a_folder_whose_owner_was_killed_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "owned\n"
        assert owner_of(tmp_path) == other.pid
        with pytest.raises(DataFolderInUse), own(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    assert owner_of(tmp_path) is None
    with own(tmp_path):
        assert owner_of(tmp_path) == os.getpid()


def test_passwords_are_made_once_and_differ(tmp_path: Path) -> None:
    with own(tmp_path / "one") as first:
        made = first.secrets
    with own(tmp_path / "one") as again, own(tmp_path / "two") as other:
        assert again.secrets == made
        values = {made.postgres, made.database, made.redis}
        values |= {other.secrets.postgres, other.secrets.database, other.secrets.redis}
    assert len(values) == 6
    assert min(map(len, values)) >= 43


def test_only_the_owner_reads_secrets_and_endpoint(tmp_path: Path) -> None:
    with own(tmp_path / "data") as folder:
        endpoint = folder.write_endpoint("http://127.0.0.1:8080", api_key="k", grpc={"chat": "a:1"})
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (folder.path, folder.path / "secrets.json", endpoint)
        }
        assert modes == {"data": 0o700, "secrets.json": 0o600, "endpoint.json": 0o600}
        assert read_endpoint(folder.path) == {
            "url": "http://127.0.0.1:8080",
            "api_key": "k",
            "grpc": {"chat": "a:1"},
        }


def test_secrets_that_others_could_read_are_closed_again(tmp_path: Path) -> None:
    with own(tmp_path):
        pass
    (tmp_path / "secrets.json").chmod(0o644)
    with own(tmp_path):
        assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_every_folder_has_a_master_key_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    with own(tmp_path / "one") as one, own(tmp_path / "other") as other:
        keys = [folder.secrets.master_keys for folder in (one, other)]
        names = {name for key in keys for name in EncryptionSettings(master_keys=key).parsed()}
        assert len(names) == 2
        assert keys[0] not in repr(one.secrets)
    with own(tmp_path / "one") as again:
        assert again.secrets.master_keys == keys[0]


def test_a_folder_of_a_version_that_sealed_nothing_gets_a_master_key(tmp_path: Path) -> None:
    passwords = {"postgres": "a", "database": "b", "redis": "c"}
    (tmp_path / "secrets.json").write_text(json.dumps(passwords))
    with own(tmp_path) as folder:
        assert (folder.secrets.postgres, folder.secrets.database) == ("a", "b")
        made = folder.secrets.master_keys
        assert len(EncryptionSettings(master_keys=made).parsed()) == 1
    with own(tmp_path) as folder:
        assert folder.secrets.master_keys == made


def test_the_endpoint_is_gone_when_nothing_runs(tmp_path: Path) -> None:
    with own(tmp_path) as folder:
        folder.write_endpoint("http://127.0.0.1:8080", api_key="k", grpc={})
    with pytest.raises(DataFolderError, match="meshwright up"):
        read_endpoint(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"postgres": "a"}'])
def test_damaged_secrets_are_reported_and_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "secrets.json").write_text(content)
    with pytest.raises(DataFolderError, match="damaged"), own(tmp_path):
        pass
    assert (tmp_path / "secrets.json").read_text() == content


def test_a_path_that_cannot_be_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="--data DIR"), own(tmp_path / "file" / "data"):
        pass


def test_a_folder_on_a_read_only_place_is_reported() -> None:
    with pytest.raises(DataFolderError, match="cannot be written"), own(Path("/proc/meshwright")):
        pass
