"""Check a backup as it lies there: nothing is restored, nothing but the backup is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meshwright_cli.backup.dumping import contents
from meshwright_cli.backup.manifest import (
    DUMP_FILE,
    LISTING_FILE,
    BackupError,
    Manifest,
    hashed,
    read_manifest,
)
from meshwright_cli.backup.objects import check_objects
from meshwright_common.storage.whole_copies import refuse_unknown


def verify(folder: Path, master_keys: Mapping[str, bytes] | None) -> Manifest:
    """Return the manifest of a backup that is whole and that this version can restore.

    With `master_keys` it also has to be theirs: made where one of them was used, unchanged since,
    and openable by them. Raises: BackupError or CopyRefused with
    the first thing that is wrong; OSError.
    """
    manifest = read_manifest(folder)
    refuse_unknown(manifest.migrations)
    if master_keys is not None:
        _check_keys(manifest, master_keys)
    if missing := {DUMP_FILE, LISTING_FILE} - manifest.files.keys():
        raise BackupError(f"the manifest does not name {min(missing)}")
    for name, expected in manifest.files.items():
        if "/" in name or not (folder / name).is_file():
            raise BackupError(f"the backup has no file {name}")
        if hashed(folder / name) != expected:
            raise BackupError(f"{name} is not what was written")
    contents(folder / DUMP_FILE)
    if check_objects(folder) != manifest.object_count:
        raise BackupError(f"{LISTING_FILE} does not name {manifest.object_count} objects")
    return manifest


def _check_keys(manifest: Manifest, master_keys: Mapping[str, bytes]) -> None:
    needed = sorted(set(manifest.master_keys) | manifest.proof.keys())
    if not master_keys.keys() & manifest.proof.keys():
        raise BackupError(
            f"the master keys given are {', '.join(sorted(master_keys))}; this backup was made "
            f"with {', '.join(needed)}"
        )
    if not manifest.is_proven_by(master_keys):
        raise BackupError(
            "the manifest was changed since, or a master key of the same id is another one"
        )
    if missing := sorted(set(manifest.master_keys) - master_keys.keys()):
        raise BackupError(f"the master key {missing[0]}, which opens part of it, is not given")
