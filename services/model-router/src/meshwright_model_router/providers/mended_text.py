"""Text that is not quite Unicode, as models and their servers send it.

A half of a surrogate pair passes `json.loads` and breaks whatever encodes it later; bytes that are
no UTF-8 break at once. Both are replaced by U+FFFD, as any browser does.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol

_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def decode_mended(endpoint: Endpoint, decode: Callable[[bytes], T], data: bytes) -> T:
    """Return what `decode` reads in an event, mended if need be. Raises: ProviderProtocol."""
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    mended = data.decode("utf-8", "replace").encode()
    mended = _LONE_SURROGATE.sub(rb"\\ufffd", mended)
    try:
        return decode(mended)
    except (msgspec.DecodeError, RecursionError) as error:
        raise broken_protocol(endpoint, f"an event is no chunk ({error})") from error


def mended(text: str) -> str:
    """Return `text` with U+FFFD for each half of a surrogate pair."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
