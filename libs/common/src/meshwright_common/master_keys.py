"""Master keys as they are written in a setting: ID:KEY, separated by commas, KEY in base64."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Final

MASTER_KEY_BYTES: Final = 32
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def parse_master_keys(text: str) -> dict[str, bytes]:
    """Return the keys by id, in their order.

    Raises: ValueError that says what is wrong by the number of the key, never by its text.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(text.split(",") if text.strip() else (), start=1):
        key_id, colon, encoded = part.strip().partition(":")
        if not colon or not _ID.fullmatch(key_id):
            raise ValueError(
                f"key {number} must be ID:KEY, the id of 1 to 64 letters, digits and . _ -"
            )
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise ValueError(f"key {number} is not base64") from None
        if len(key) != MASTER_KEY_BYTES:
            raise ValueError(f"key {number} has {len(key)} bytes, {MASTER_KEY_BYTES} are needed")
        if key_id in keys:
            raise ValueError(f"key {number} has the id of another one")
        keys[key_id] = key
    return keys


def new_master_key(key_id: str) -> str:
    """Return a fresh key as the setting has it."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()}"
