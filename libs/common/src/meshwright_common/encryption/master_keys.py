"""Master keys: they come from the settings, wrap the tenants' keys, and are stored nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshwright_common.encryption.tenant_keys import NONCE_BYTES, SealBroken
from meshwright_common.errors import Unavailable
from meshwright_common.settings import EncryptionSettings, SettingsError
from meshwright_common.telemetry.logging import get_logger

VARIABLE: Final = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS"

logger = get_logger(__name__)


class MasterKeyMissing(Unavailable):
    """A tenant's key is wrapped by a master key that the settings do not have: `master_key`.

    Callers are not told which; the log and the operators' commands say it.
    """

    text = "Stored content cannot be opened now."

    def __init__(self, master_key: str) -> None:
        super().__init__()
        self.master_key = master_key


@dataclass(frozen=True, slots=True)
class KeyName:
    """Which key of a tenant it is: bound to its wrapping, so that no other takes its place."""

    tenant_id: str
    purpose: str
    version: int


class MasterKeys:
    """The master keys of the settings: the first wraps, all unwrap.

    Raises: SettingsError when there is none.
    """

    def __init__(self, settings: EncryptionSettings) -> None:
        parsed = settings.parsed()
        if not parsed:
            raise SettingsError(
                f"{VARIABLE}: is not set: give it as ID:KEY, where KEY is 32 random bytes in "
                "base64 (`openssl rand -base64 32`); without it nothing that is stored opens"
            )
        self._keys: Mapping[str, AESGCM] = {name: AESGCM(key) for name, key in parsed.items()}
        self.current = next(iter(parsed))
        """The id of the one that wraps."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all, the current one first."""
        return tuple(self._keys)

    def wrap(self, name: KeyName, key: bytes) -> bytes:
        """Return `key` wrapped by the current master key."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._keys[self.current].encrypt(nonce, key, _bound(name, self.current))

    def unwrap(self, name: KeyName, master_key: str, wrapped: bytes) -> bytes:
        """Return the key. Raises: MasterKeyMissing; SealBroken when it is not what was wrapped."""
        master = self._keys.get(master_key)
        if master is None:
            logger.error("master_key_missing", master_key=master_key, tenant_id=name.tenant_id)
            raise MasterKeyMissing(master_key)
        try:
            return master.decrypt(
                wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _bound(name, master_key)
            )
        except InvalidTag:
            # Damaged, or the master key of this id is another one.
            logger.error("tenant_key_broken", master_key=master_key, tenant_id=name.tenant_id)
            raise SealBroken from None


def _bound(name: KeyName, master_key: str) -> bytes:
    # None of them but the last may hold a slash.
    return f"{name.tenant_id}/{name.purpose}/{name.version}/{master_key}".encode()
