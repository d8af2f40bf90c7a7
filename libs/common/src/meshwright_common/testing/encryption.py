"""Master keys for tests: the same ones for all processes of a test run, good for nothing else."""

from __future__ import annotations

import base64
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.encryption.master_keys import MasterKeys
from meshwright_common.settings import EncryptionSettings
from meshwright_common.storage.postgres import Database

VARIABLE: Final = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS"


def master_key(name: str) -> str:
    """Return a master key as the settings have it: "ID:KEY", the same for the same name."""
    return f"{name}:{base64.b64encode(name.encode().ljust(32, b'.')).decode()}"


def encryption_settings(*names: str) -> EncryptionSettings:
    """Return settings with the keys of these names, the first one current; without any, one."""
    return EncryptionSettings(master_keys=",".join(map(master_key, names or ("test",))))


def encryption_environment() -> dict[str, str]:
    """Return the same for a process that a test starts."""
    return {VARIABLE: encryption_settings().master_keys}


def key_ring(database: Database, *names: str) -> KeyRing:
    """Return the keys in a database, wrapped by the master keys of these names.

    It does not follow changes: for a test in which nothing changes them.
    """
    return KeyRing(MasterKeys(encryption_settings(*names)), database)
