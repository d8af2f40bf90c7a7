"""Pages of lists: sizes, and tokens that say where a list goes on.

A token holds the position after the last row given out and a digest of it and of what the list
was asked for. One that belongs to another tenant, caller or filter does not fit and is refused.
It is no secret and opens nothing: every page is read with the caller's own rights.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
DIGEST_BYTES: Final = 12
_TOKEN_FIELD: Final = "page.page_token"  # noqa: S105 - the name of a field
_INTEGER_LIMIT: Final = 1 << 62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

T = TypeVar("T")
Scope = tuple[str, ...]
"""What a token is bound to: tenant, caller, method and every part of the filter."""
Position = tuple[str | int, ...]
"""The sort key of the last row given out."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is wanted. `size` is checked; `token` is empty for the first page."""

    size: int = DEFAULT_PAGE_SIZE
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in order, and the token of the next page; empty after the last one."""

    rows: tuple[T, ...]
    next_token: str = ""


def page_request(size: int, token: str) -> PageRequest:
    """Return the request with the default size for 0. Raises: InvalidArgument for a wrong size."""
    if not 0 <= size <= MAX_PAGE_SIZE:
        raise invalid("page.page_size", f"must be 0 to {MAX_PAGE_SIZE}")
    return PageRequest(size or DEFAULT_PAGE_SIZE, token)


def encode(scope: Scope, position: Position) -> str:
    """Return the token that goes on after `position` in the list named by `scope`."""
    body = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(scope, body) + body).decode().rstrip("=")


def decode(scope: Scope, token: str, shape: Sequence[type[str] | type[int]]) -> Position | None:
    """Return the position that `encode` was given; None for an empty token.

    `shape` has the types of the parts. Raises: InvalidArgument when the token is damaged or
    belongs to another list.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise invalid(_TOKEN_FIELD, "is not a page token") from None
    digest, body = raw[:DIGEST_BYTES], raw[DIGEST_BYTES:]
    if digest != _digest(scope, body):
        raise invalid(_TOKEN_FIELD, "belongs to another list or is damaged")
    try:
        position = json.loads(body)
    except ValueError:
        position = None
    if not isinstance(position, list) or [type(part) for part in position] != list(shape):
        raise invalid(_TOKEN_FIELD, "belongs to another version of this list")
    if not all(_is_storable(part) for part in position):
        raise invalid(_TOKEN_FIELD, "is not a page token")
    return tuple(position)


def cut(rows: Sequence[T], size: int) -> tuple[tuple[T, ...], T | None]:
    """Split rows read one beyond the page: the page, and its last row when more follow."""
    page = tuple(rows[:size])
    return page, page[-1] if len(rows) > size else None


def microseconds(moment: datetime) -> int:
    """Return the exact number of microseconds since 1970, for positions."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(count: int) -> datetime:
    """Return the moment of `microseconds`. Raises: InvalidArgument outside the calendar."""
    try:
        return _EPOCH + timedelta(microseconds=count)
    except OverflowError:
        raise invalid(_TOKEN_FIELD, "is not a page token") from None


def identifier(part: str | int) -> str:
    """Return the id at this place of a position. Raises: InvalidArgument when it is none."""
    return parse_id(str(part), _TOKEN_FIELD)


def _is_storable(part: str | int) -> bool:
    """Say whether a store can compare with it: whoever made the token may have made it up."""
    return abs(part) < _INTEGER_LIMIT if isinstance(part, int) else "\0" not in part


def _digest(scope: Scope, body: bytes) -> bytes:
    head = json.dumps(scope, separators=(",", ":")).encode()
    return hashlib.sha256(len(head).to_bytes(4) + head + body).digest()[:DIGEST_BYTES]
