"""Pages of lists that are read whole: sizes, and tokens that say after which key a list goes on."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from meshwright.types.v1.page_pb2 import PageInfo, PageRequest
from meshwright_common.errors import invalid

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
_MARK_BYTES: Final = 12

T = TypeVar("T")


def page_of(
    rows: Sequence[T], key: Callable[[T], str], request: PageRequest, *scope: str
) -> tuple[Sequence[T], PageInfo]:
    """Return a page of `rows`, which are in the order of their unique `key`.

    `scope` is tenant, method and filter: a token of another list is refused. What comes or goes
    between two pages is seen or not, and nothing else is missed or doubled.
    Raises: InvalidArgument for a size out of range and for a foreign token.
    """
    size = request.page_size or DEFAULT_PAGE_SIZE
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise invalid("page.page_size", f"must be 0 to {MAX_PAGE_SIZE}")
    mark = hashlib.sha256(json.dumps(scope).encode()).digest()[:_MARK_BYTES]
    start = 0
    if request.page_token:
        last = _last(request.page_token, mark)
        start = next((at for at, row in enumerate(rows) if key(row) > last), len(rows))
    page = rows[start : start + size]
    if start + size >= len(rows):
        return page, PageInfo()
    token = base64.urlsafe_b64encode(mark + key(page[-1]).encode()).decode()
    return page, PageInfo(next_page_token=token)


def _last(token: str, mark: bytes) -> str:
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        last = raw[_MARK_BYTES:].decode()
    except ValueError:
        raise invalid("page.page_token", "is not a token of this list") from None
    if raw[:_MARK_BYTES] != mark:
        raise invalid("page.page_token", "is not a token of this list")
    return last
