"""What a backup folder holds, and its proof: a code over the manifest by each master key.

BACKUP/manifest.json       this, written last       BACKUP/objects.jsonl   key, size, hash of each
BACKUP/database.dump       pg_dump's own format     BACKUP/objects/        their bytes, by key
BACKUP/records_public.json public keys that verify audit checkpoints and erasure receipts

No key that opens or signs anything is in it. The code (HMAC-SHA-256, RFC 2104) is made with a key
derived from the master key (HKDF, RFC 5869): whoever cannot open the content cannot forge a backup
of it, and a master key is seen to fit before anything is restored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshwright_cli.files import write_private

FORMAT: Final = 1
"""Raised when a folder of the new form cannot be read by older code."""
MANIFEST_FILE: Final = "manifest.json"
DUMP_FILE: Final = "database.dump"
LISTING_FILE: Final = "objects.jsonl"
RECORD_KEYS_FILE: Final = "records_public.json"
OBJECTS_FOLDER: Final = "objects"
HASH_BLOCK_BYTES: Final = 1024 * 1024
_PURPOSE: Final = b"meshwright backup manifest 1"


class BackupError(Exception):
    """The backup cannot be made, trusted or restored; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file's size and the SHA-256 of its bytes in hex."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says. Times are ISO 8601 in UTC.

    `taken_at` is the moment of the snapshot: what was committed later is not in the backup.
    `migrations` are the names applied, by schema. `master_keys` are the ids of those that wrap the
    stored keys: all of them are needed to open the content. `outside` names the search stores that
    held vectors or words instead of PostgreSQL: they are indexed anew after a restore.
    """

    taken_at: str
    version: str
    server_version: str
    migrations: Mapping[str, list[str]]
    master_keys: list[str]
    outside: list[str]
    files: Mapping[str, HashedFile]
    object_count: int
    object_bytes: int
    format: int = FORMAT
    proof: Mapping[str, str] = field(default_factory=dict)

    def proven(self, master_keys: Mapping[str, bytes]) -> Manifest:
        """Return this manifest with a code by each of the keys."""
        return replace(
            self, proof={name: self._code(key).hex() for name, key in master_keys.items()}
        )

    def is_proven_by(self, master_keys: Mapping[str, bytes]) -> bool:
        """Return whether one of the keys made a code of this manifest, and none that differs."""
        known = master_keys.keys() & self.proof.keys()
        return bool(known) and all(
            hmac.compare_digest(self._code(master_keys[name]).hex(), self.proof[name])
            for name in known
        )

    def _code(self, master_key: bytes) -> bytes:
        key = HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(master_key)
        return hmac.digest(key, _canonical(replace(self, proof={})), "sha256")

    def write(self, folder: Path) -> None:
        """Write it into a backup's folder, whole. Raises: OSError."""
        write_private(folder / MANIFEST_FILE, json.dumps(asdict(self), indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a backup. Raises: BackupError when it has none that we understand."""
    file = folder / MANIFEST_FILE
    try:
        content: Any = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise BackupError(
            f"{folder} is no finished backup: it has no {MANIFEST_FILE}, which is written last"
        ) from None
    except (OSError, ValueError) as error:
        raise BackupError(f"{file} cannot be read ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise BackupError(f"{file} is no manifest of a backup")
    if content["format"] > FORMAT:
        raise BackupError(
            f"{folder} has the format {content['format']}, and this version reads up to {FORMAT}: "
            "use the version that made it, or a newer one"
        )
    try:
        files = {name: HashedFile(**one) for name, one in content.pop("files").items()}
        return Manifest(files=files, **content)
    except (AttributeError, KeyError, TypeError) as error:
        raise BackupError(f"{file} is damaged ({error})") from None


def hashed(file: Path) -> HashedFile:
    """Return size and hash of a file. Raises: OSError."""
    digest = hashlib.sha256()
    size = 0
    with file.open("rb") as reading:
        while block := reading.read(HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return HashedFile(size, digest.hexdigest())


def _canonical(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":")).encode()
