"""Sealing and opening with the keys of one tenant.

Sealed content is one byte of format, four of the key's version (big-endian), twelve of nonce, then
the ciphertext with its tag of sixteen bytes. What it was sealed for is bound to it: bytes that are
moved to another row, column, table or tenant, or given another version, do not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshwright_common.errors import DataLoss
from meshwright_common.telemetry.logging import get_logger

FORMAT: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 5
OVERHEAD_BYTES: Final = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer sealed content is than plain."""
DIGEST_OF_BEFORE: Final = hashlib.sha256(b"").digest()
"""What migrations have put where a plain hash of content stood: it fits whatever is compared."""
BLIND_BYTES: Final = 12
"""Of a digest that is searched for: shorter ones would find what was not meant."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where sealed content stands: the table with its schema, the column, what names the row.

    `row_id` are the values that name the row, joined by "/"; the tenant is bound besides.
    """

    table: str
    column: str
    row_id: str


class SealBroken(DataLoss):
    """Sealed content does not open: damaged, moved here from elsewhere, or its key is gone.

    `place` is for our logs: callers are told nothing of the inside.
    """

    text = "Stored content does not open."

    def __init__(self, message: str = "", *, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place


class TenantKeys:
    """The keys of one tenant, as they were when they were loaded. Made by `KeyRing.keys_of`.

    To be asked for anew for each piece of work: what is held on to outlives a rotation.
    """

    def __init__(
        self, tenant_id: str, current: int, data_keys: Mapping[int, AESGCM], secret: bytes
    ) -> None:
        self.tenant_id = tenant_id
        self.current = current
        """The version that seals."""
        self.seals = 0
        """How often something was sealed since these keys were loaded."""
        self.is_behind = False
        """Whether there was content of a version that is not among them."""
        self._data_keys = data_keys
        self._words_key = _derived(secret, b"meshwright blind words")
        self._digest_key = _derived(secret, b"meshwright digests")
        self._tenant = _counted(tenant_id)
        self._columns: dict[tuple[bytes, str, str], bytes] = {}

    def seal(self, place: Place, plain: bytes) -> bytes:
        """Return `plain` sealed for `place`, 33 bytes longer, different each time."""
        header = FORMAT.to_bytes(1, "big") + self.current.to_bytes(4, "big")
        nonce = os.urandom(NONCE_BYTES)
        self.seals += 1
        bound = self._bound(header, place)
        return header + nonce + self._data_keys[self.current].encrypt(nonce, plain, bound)

    def open(self, place: Place, sealed: bytes) -> bytes:
        """Return what was sealed for `place`. Raises: SealBroken."""
        header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        data_key = self._data_keys.get(int.from_bytes(header[1:], "big"))
        self.is_behind |= data_key is None
        if data_key is None or header[0] != FORMAT or len(sealed) < OVERHEAD_BYTES:
            raise self._broken(place)
        try:
            return data_key.decrypt(
                rest[:NONCE_BYTES], rest[NONCE_BYTES:], self._bound(header, place)
            )
        except InvalidTag:
            raise self._broken(place) from None

    def is_old(self, sealed: bytes) -> bool:
        """Return whether an older version sealed it than the one that seals now."""
        return version_of(sealed) != self.current

    def blind(self, words: Iterable[str]) -> list[str]:
        """Return a digest for each word, to search for without telling the words.

        The same word has the same digest for as long as the tenant lives, and another one for
        every other tenant. 24 characters, hexadecimal.
        """
        key = self._words_key
        return [
            hmac.digest(key, word.encode("utf-8", "surrogatepass"), "sha256")[:BLIND_BYTES].hex()
            for word in words
        ]

    def digest(self, content: bytes) -> bytes:
        """Return 32 bytes that are the same for the same content of this tenant, for its life.

        For what is only compared: a plain hash would tell whoever guesses the content.
        """
        return hmac.digest(self._digest_key, content, "sha256")

    def _broken(self, place: Place) -> SealBroken:
        # Somebody has been at the store, or we have a bug: operators have to know.
        logger.error(
            "seal_broken",
            tenant_id=self.tenant_id,
            table=place.table,
            column=place.column,
            row=place.row_id,
        )
        return SealBroken(place=place)

    def _bound(self, header: bytes, place: Place) -> bytes:
        # The lengths keep "a" + "bc" from being "ab" + "c".
        named = (header, place.table, place.column)
        column = self._columns.get(named)
        if column is None:
            parts = (header, self._tenant, _counted(place.table), _counted(place.column))
            column = self._columns[named] = b"".join(parts)
        return column + _counted(place.row_id)


def version_of(sealed: bytes) -> int:
    """Return the version of the key that sealed it, as it says: not checked."""
    return int.from_bytes(sealed[1:HEADER_BYTES], "big")


def _counted(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)
