"""The mesh's signing keys: one Ed25519 key per service, and the set of public keys all trust."""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

TRUST_FILE: Final = "trusted.json"


class KeyFileError(Exception):
    """A key file is absent, unreadable, or not an Ed25519 key. The text names the file."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys in memory: the private keys this process may use, and the public keys it trusts."""

    private: Mapping[str, Ed25519PrivateKey]
    trusted: Mapping[str, Ed25519PublicKey]

    def private_key(self, service: str) -> Ed25519PrivateKey:
        """Return the signing key of `service`. Raises: KeyFileError when it is not here."""
        key = self.private.get(service)
        if key is None:
            raise KeyFileError(f"no signing key for {service}")
        return key


def ensure_keys(directory: Path, services: Iterable[str]) -> KeyRing:
    """Create the keys that are missing, and the trust set; return all of them.

    Private keys are `<service>.key` with mode 0600, the trust set is `trusted.json`; files appear
    whole or not at all, and existing keys stay. Only one process may run this on a folder.
    Raises: KeyFileError when an existing file is damaged; OSError when the folder is not writable.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    private: dict[str, Ed25519PrivateKey] = {}
    for service in services:
        path = directory / f"{service}.key"
        if not path.exists():
            write_whole(path, private_pem(Ed25519PrivateKey.generate()), mode=0o600)
        private[service] = read_private(path)
    trust_path = directory / TRUST_FILE
    trusted = dict(read_trusted(trust_path)) if trust_path.exists() else {}
    updated = trusted | {service: key.public_key() for service, key in private.items()}
    if {name: public_pem(key) for name, key in trusted.items()} != {
        name: public_pem(key) for name, key in updated.items()
    }:
        content = {name: public_pem(key).decode("ascii") for name, key in sorted(updated.items())}
        write_whole(trust_path, json.dumps(content, indent=2).encode("ascii") + b"\n", mode=0o644)
    return KeyRing(private, updated)


def load_keys(directory: Path, services: Iterable[str]) -> KeyRing:
    """Return the signing keys of `services` and the trust set, all of which must exist.

    Raises: KeyFileError naming the file that is absent or damaged.
    """
    private = {service: read_private(directory / f"{service}.key") for service in services}
    return KeyRing(private, read_trusted(directory / TRUST_FILE))


def ephemeral_keys(services: Iterable[str]) -> KeyRing:
    """Return keys that live only in this process. For one process alone, and for tests."""
    private = {service: Ed25519PrivateKey.generate() for service in services}
    return KeyRing(private, {service: key.public_key() for service, key in private.items()})


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return a private key in PEM form, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key in PEM form."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None


def read_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key of a file. Raises: KeyFileError."""
    try:
        key = load_pem_private_key(_read(path), password=None)
    except ValueError:
        raise KeyFileError(f"{path} is not a private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is not an Ed25519 key")
    return key


def read_trusted(path: Path) -> Mapping[str, Ed25519PublicKey]:
    """Return the public keys of a trust set by their names. Raises: KeyFileError."""
    try:
        content = json.loads(_read(path))
        keys = {name: load_pem_public_key(pem.encode("ascii")) for name, pem in content.items()}
    except (ValueError, AttributeError):
        raise KeyFileError(f"{path} is not a set of public keys") from None
    trusted = {name: key for name, key in keys.items() if isinstance(key, Ed25519PublicKey)}
    if len(trusted) != len(keys):
        raise KeyFileError(f"{path} holds a key that is not Ed25519")
    return trusted


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Write the whole file or nothing: a reader never sees a part, a crash leaves no part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
