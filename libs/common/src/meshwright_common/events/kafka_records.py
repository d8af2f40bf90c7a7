"""Records of a Kafka topic as deliveries. Anybody may have written them: nothing is taken on trust.

What is no event of ours becomes a delivery with a defect, made of what is readable of the record,
so that it can be kept with the reason and the place where it stood.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final, Protocol

from meshwright_common.errors import InvalidArgument
from meshwright_common.events.envelope import MAX_KEY_LENGTH
from meshwright_common.events.ports import Delivery
from meshwright_common.ids import parse_id

MAX_RECORD_BYTES: Final = 1024 * 1024
"""Of a body, from whomever. Topics take more, so that what is larger is seen and said."""
MAX_HEADERS: Final = 64
MAX_HEADERS_BYTES: Final = 32 * 1024
NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""Whose dead letters those are that name no tenant."""
POSITIONS: Final = uuid.UUID("0b0a4c0e-6f43-5d5b-8d6e-0a4b8f7f6a11")
"""The namespace of the ids of records without one: an id for each position."""
_READ_ONCE: Final = frozenset(
    {"tenant_id", "ce_id", "ce_type", "ce_source", "ce_specversion", "ce_subject", "ce_time"}
)


class Record(Protocol):
    """What a consumer of Kafka gives."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class _NotOurs(Exception):
    """The record is no event of ours; the text says why."""


def delivery_of(record: Record) -> Delivery:
    """Return a record as a delivery; one with a defect when it cannot be an event of ours.

    What its body holds is left to the envelope to judge.
    """
    origin = f"{record.topic}/{record.partition}@{record.offset}"
    try:
        return _event(record, origin)
    except _NotOurs as defect:
        return _remains(record, origin, str(defect))


def _event(record: Record, origin: str) -> Delivery:
    if record.value is None or record.key is None:
        raise _NotOurs("it has no key" if record.key is None else "it has no body")
    if len(record.value) > MAX_RECORD_BYTES:
        raise _NotOurs(
            f"TOO_LARGE: its body has {len(record.value)} bytes, more than {MAX_RECORD_BYTES}"
        )
    headers = _headers(record.headers)
    try:
        key = record.key.decode()
        event_id = parse_id(headers["ce_id"], "ce_id")
        tenant_id = parse_id(headers["tenant_id"], "tenant_id")
    except UnicodeDecodeError as error:
        raise _NotOurs("its key is not UTF-8") from error
    except KeyError as error:
        raise _NotOurs(f"the header {error.args[0]} is missing") from error
    except InvalidArgument as error:
        raise _NotOurs(f"a header is wrong: {error.message}") from error
    if tenant_id == NO_TENANT:
        raise _NotOurs("a header is wrong: tenant_id names no tenant")
    if not 0 < len(key) <= MAX_KEY_LENGTH or "\x00" in key:
        raise _NotOurs(f"its key does not have 1 to {MAX_KEY_LENGTH} characters")
    if headers.get("ce_subject", key) != key:
        raise _NotOurs("its key and the header ce_subject differ")
    return Delivery(event_id, tenant_id, key, headers, record.value, origin)


def _headers(pairs: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    if len(pairs) > MAX_HEADERS:
        raise _NotOurs(f"it has {len(pairs)} headers, more than {MAX_HEADERS}")
    headers: dict[str, str] = {}
    size = 0
    for name, value in pairs:
        if name in headers and name in _READ_ONCE:
            raise _NotOurs(f"the header {name} is there twice")
        try:
            headers[name] = text = (value or b"").decode()
        except UnicodeDecodeError as error:
            raise _NotOurs(f"the header {name[:50]!r} is not UTF-8") from error
        size += len(name) + len(text)
        if "\x00" in name or "\x00" in text:
            raise _NotOurs(f"the header {name[:50]!r} holds a zero byte")
    if size > MAX_HEADERS_BYTES:
        raise _NotOurs(f"its headers have {size} characters, more than {MAX_HEADERS_BYTES}")
    return headers


def _remains(record: Record, origin: str, defect: str) -> Delivery:
    """Return what can be kept of a record in a database: text without zero bytes, bounded."""
    headers: dict[str, str] = {}
    for name, value in record.headers[:MAX_HEADERS]:
        headers.setdefault(_text(name.encode(errors="replace"), 100), _text(value, 400))
    return Delivery(
        event_id=str(uuid.uuid5(POSITIONS, origin)),
        tenant_id=_tenant(record),
        partition_key=_text(record.key, MAX_KEY_LENGTH),
        headers=headers,
        body=record.value or b"",
        origin=origin,
        defect=defect,
    )


def _tenant(record: Record) -> str:
    named = {value for name, value in record.headers if name == "tenant_id"}
    if len(named) == 1:
        try:
            return parse_id((named.pop() or b"").decode(errors="replace"), "tenant_id")
        except InvalidArgument:
            return NO_TENANT
    return NO_TENANT


def _text(value: bytes | None, most: int) -> str:
    return (value or b"")[: 4 * most].decode(errors="replace").replace("\x00", "�")[:most]
