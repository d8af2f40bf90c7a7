"""A folder in memory: given where there is room, and never left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from meshwright_common.testing import memory_folder as subject
from meshwright_common.testing.memory_folder import PREFIX, memory_folder


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the machine's, with room for everything."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(subject, "MEMORY", folder)
    monkeypatch.setattr(subject, "NEEDED_BYTES", 1)
    monkeypatch.setattr(subject, "NEEDED_MEMORY_BYTES", 1)
    return folder


def test_where_there_is_room_it_is_in_memory_and_goes(memory: Path, tmp_path: Path) -> None:
    with memory_folder(tmp_path / "otherwise") as given:
        (given / "data").write_text("x")
        assert given.parent == memory
    assert list(memory.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    memory: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()
    left = memory / f"{PREFIX}{ended.pid}-x"
    left.mkdir()
    (left / "data").write_text("x")
    others = [memory / f"{PREFIX}1-x", memory / "somebody's"]
    for other in others:
        other.mkdir()
    with memory_folder(tmp_path / "otherwise"):
        assert not left.exists()
        assert all(other.exists() for other in others)


@pytest.mark.parametrize("needed", ["NEEDED_BYTES", "NEEDED_MEMORY_BYTES"])
def test_without_room_it_is_where_it_would_be_otherwise(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str
) -> None:
    monkeypatch.setattr(subject, needed, 2**63)
    with memory_folder(tmp_path) as given:
        assert given == tmp_path
    assert list(memory.iterdir()) == []
