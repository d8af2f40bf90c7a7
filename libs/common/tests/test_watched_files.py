"""Files are told as changed once, when they are at rest."""

import asyncio
from pathlib import Path

import pytest

from meshwright_common.watched_files import WatchedFiles

pytestmark = pytest.mark.asyncio


async def test_a_link_swapped_as_kubernetes_does_is_a_change(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    (tmp_path / "data").symlink_to("one")
    watched = WatchedFiles(tmp_path / "data" / "file")

    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")

    await asyncio.wait_for(watched.changed(), 20)


async def test_a_change_while_the_file_was_read_is_told_though_others_are_watched_now(
    tmp_path: Path,
) -> None:
    file, key = tmp_path / "file", tmp_path / "key"
    file.write_text("one")
    watched = WatchedFiles(file)
    file.write_text("other")

    watched.watch(file, key)

    await asyncio.wait_for(watched.changed(), 20)
    key.write_text("secret")
    await asyncio.wait_for(watched.changed(), 20)
