"""A work item as bytes: a small JSON object. Trace and expiry travel beside it."""

from __future__ import annotations

from typing import Final

import orjson

from meshwright_common.dispatch.lanes import MAX_RETRIES, Lane
from meshwright_common.dispatch.ports import MAX_BODY_BYTES, WorkItem, check_item
from meshwright_common.errors import InvalidArgument

VERSION: Final = 1


class ItemMalformed(Exception):
    """Bytes from a queue are no item of ours; the text says what is wrong."""


def encode(item: WorkItem) -> bytes:
    """Return the body of an item. Raises: InvalidArgument naming the field."""
    check_item(item)
    return orjson.dumps(
        {
            "version": VERSION,
            "tenant_id": item.tenant_id,
            "item_id": item.item_id,
            "kind": item.kind,
            "lane": item.lane.value,
            "attempt": item.attempt,
        }
    )


def decode(body: bytes, *, trace: str = "") -> WorkItem:
    """Return the item of a body. Raises: ItemMalformed."""
    if len(body) > MAX_BODY_BYTES:
        raise ItemMalformed(f"too_large: {len(body)} bytes, at most {MAX_BODY_BYTES}")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ItemMalformed("undecodable: the body is not JSON") from None
    if not isinstance(fields, dict):
        raise ItemMalformed("undecodable: the body is not an object")
    if fields.get("version") != VERSION:
        raise ItemMalformed(f"unknown_version: {str(fields.get('version'))[:20]}")
    try:
        item = WorkItem(
            tenant_id=_text(fields, "tenant_id"),
            item_id=_text(fields, "item_id"),
            kind=_text(fields, "kind"),
            lane=Lane(_text(fields, "lane")),
            attempt=_attempt(fields.get("attempt")),
            trace=trace,
        )
        check_item(item)
    except InvalidArgument as error:
        raise ItemMalformed(f"undecodable: {error.message}") from None
    except ValueError as error:
        raise ItemMalformed(f"undecodable: {error}") from None
    return item


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ItemMalformed(f"undecodable: {name} is not a text")
    return value


def _attempt(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RETRIES:
        raise ItemMalformed(f"undecodable: attempt is not a number from 0 to {MAX_RETRIES}")
    return value
