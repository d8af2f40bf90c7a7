"""The key that signs records which have to stand up later: audit checkpoints, erasure receipts.

It is none of the keys that services are trusted by: with it nobody can call anything. Public keys
of former signing keys stay in the trust set, or what they signed could not be checked any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from meshwright_common.identity.keys import (
    KeyFileError,
    private_pem,
    public_pem,
    read_private,
    read_trusted,
    write_whole,
)

KEY_FILE: Final = "records.key"
PUBLIC_FILE: Final = "records_public.json"
KEY_ID_CHARACTERS: Final = 16


def key_id_of(public: Ed25519PublicKey) -> str:
    """Return a public key's id: the first hex digits of the SHA-256 of its 32 bytes."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:KEY_ID_CHARACTERS]


@dataclass(frozen=True, slots=True)
class RecordKeys:
    """Public keys by id, all that ever signed here."""

    public: Mapping[str, Ed25519PublicKey]

    def verifies(self, key_id: str, signature: bytes, data: bytes) -> bool:
        """Return whether `signature` over `data` is of the key `key_id`, and that is trusted."""
        key = self.public.get(key_id)
        if key is None:
            return False
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def pems(self) -> dict[str, str]:
        """Return the keys by id as PEM texts, for publishing."""
        return {key_id: public_pem(key).decode("ascii") for key_id, key in self.public.items()}


@dataclass(frozen=True, slots=True)
class RecordSigner:
    """Signs with the current key. `keys` verify what it and its predecessors signed."""

    key_id: str
    keys: RecordKeys
    _private: Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`, 64 bytes."""
        return self._private.sign(data)


def ensure_record_key(directory: Path) -> RecordSigner:
    """Create the signing key if it is missing, and note it in the trust set; return both.

    The private key is `records.key` with mode 0600, the trust set `records_public.json`. Replace
    the first to rotate: the second keeps the old public key. Only one process may run this on a
    folder. Raises: KeyFileError when a file is damaged; OSError when the folder is not writable.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, public_path = directory / KEY_FILE, directory / PUBLIC_FILE
    if not path.exists():
        write_whole(path, private_pem(Ed25519PrivateKey.generate()), mode=0o600)
    public = read_private(path).public_key()
    known = dict(read_trusted(public_path)) if public_path.exists() else {}
    key_id = key_id_of(public)
    if key_id not in known:
        content = RecordKeys({**known, key_id: public}).pems()
        write_whole(public_path, json.dumps(content, indent=2).encode("ascii") + b"\n", mode=0o644)
    return load_record_signer(directory)


def load_record_signer(directory: Path) -> RecordSigner:
    """Return the signing key and the trust set, both of which must exist.

    Raises: KeyFileError naming the file that is absent or damaged.
    """
    private = read_private(directory / KEY_FILE)
    key_id = key_id_of(private.public_key())
    trusted = load_record_keys(directory / PUBLIC_FILE)
    return RecordSigner(
        key_id, RecordKeys({**trusted.public, key_id: private.public_key()}), private
    )


def load_record_keys(file: Path) -> RecordKeys:
    """Return the public keys of a file: a trust set, or one key in PEM form.

    Raises: KeyFileError when it is absent, damaged, or names a key by another key's id.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read {file}: {error.strerror}") from None
    if content.lstrip().startswith(b"-----BEGIN"):
        try:
            key = load_pem_public_key(content)
        except ValueError:
            raise KeyFileError(f"{file} is not a public key in PEM form") from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{file} is not an Ed25519 key")
        return RecordKeys({key_id_of(key): key})
    trusted = read_trusted(file)
    if wrong := [name for name, key in trusted.items() if key_id_of(key) != name]:
        raise KeyFileError(f"{file} names a key {wrong[0]} that has another id")
    return RecordKeys(dict(trusted))


def ephemeral_record_signer() -> RecordSigner:
    """Return a key that lives only in this process. For tests."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    return RecordSigner(key_id_of(public), RecordKeys({key_id_of(public): public}), private)
