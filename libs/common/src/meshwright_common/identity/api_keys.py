"""API keys: made once, shown once, stored only as a hash.

`mw_<43 characters>_<7 characters>`: 256 random bits in base64url, then a checksum that lets a
mistyped key be refused without a look-up and lets scanners of secrets recognise one.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

_SHAPE: Final = re.compile(r"mw_([A-Za-z0-9_-]{43})_([0-9a-z]{7})")
_SHOWN_CHARACTERS: Final = 11
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A fresh key. `plain` is shown once; `prefix` names the key to people; `sha256` is stored."""

    plain: str = field(repr=False)
    prefix: str
    sha256: bytes


def generate() -> ApiKey:
    """Return a new key of 256 random bits."""
    body = secrets.token_urlsafe(32)
    plain = f"mw_{body}_{_checksum(body)}"
    return ApiKey(plain, plain[:_SHOWN_CHARACTERS], digest(plain))


def digest(plain: str) -> bytes:
    """Return the 32 bytes under which a key is stored and found.

    A plain hash, not a password hash: 256 random bits cannot be guessed, and the check is on the
    path of every request. Finding by the digest leaks nothing through time about stored keys.
    """
    return hashlib.sha256(plain.encode("utf-8", errors="surrogatepass")).digest()


def is_well_formed(plain: str) -> bool:
    """Return whether `plain` has the form and checksum of a key, which says nothing of its use."""
    match = _SHAPE.fullmatch(plain)
    return match is not None and _checksum(match[1]) == match[2]


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(7):
        value, digit = divmod(value, 36)
        digits = _DIGITS[digit] + digits
    return digits
