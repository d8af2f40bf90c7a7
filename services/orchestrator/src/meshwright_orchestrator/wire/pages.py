"""Pages of lists: a token names the last row seen, and the list that it belongs to."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

from meshwright.types.v1.page_pb2 import PageRequest
from meshwright_common.errors import invalid

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
_MARK_BYTES: Final = 8


def page_of(request: PageRequest, *scope: str) -> tuple[int, str]:
    """Return the size wanted and the last key seen, empty at the start.

    `scope` is the tenant and the filter. Raises: InvalidArgument for a size out of range and for
    a token of another list.
    """
    size = request.page_size or DEFAULT_PAGE_SIZE
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise invalid("page.page_size", f"must be 0 to {MAX_PAGE_SIZE}")
    if not request.page_token:
        return size, ""
    try:
        raw = base64.urlsafe_b64decode(request.page_token.encode())
        mark, last = raw[:_MARK_BYTES], raw[_MARK_BYTES:].decode()
    except ValueError:
        raise invalid("page.page_token", "is not a token of this list") from None
    if mark != _mark(scope):
        raise invalid("page.page_token", "is not a token of this list")
    return size, last


def page_token(last: str, *scope: str) -> str:
    """Return the token of the page after the row `last`."""
    return base64.urlsafe_b64encode(_mark(scope) + last.encode()).decode()


def _mark(scope: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(scope).encode()).digest()[:_MARK_BYTES]
