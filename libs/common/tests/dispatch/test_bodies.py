"""Items and statuses as bytes: what is none of ours is told apart (issue 3, bad input)."""

from __future__ import annotations

import orjson
import pytest

from meshwright_common.dispatch import bodies
from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.ports import WorkItem
from meshwright_common.dispatch.status import (
    AgentStatus,
    StatusMalformed,
    decode_status,
    encode_status,
)
from meshwright_common.ids import new_id

ITEM = WorkItem(new_id(), "task", "chat", Lane.HIGH, attempt=2)
STATUS = AgentStatus("instance", "worker", "online", 50, 0.5, 0.25, 3, 0.0)


def test_an_item_comes_back_as_it_was() -> None:
    assert bodies.decode(bodies.encode(ITEM)) == ITEM


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 2, "unknown_version: 2"),
        ("tenant_id", "nobody", "undecodable: tenant_id"),
        ("item_id", 5, "undecodable: item_id is not a text"),
        ("kind", "../x", "undecodable: kind"),
        ("lane", "express", "undecodable: 'express' is not a valid Lane"),
        ("attempt", True, "undecodable: attempt is not a number from 0 to 3"),
        ("attempt", 9, "undecodable: attempt is not a number from 0 to 3"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, reason: str) -> None:
    fields = orjson.loads(bodies.encode(ITEM)) | {field: value}
    with pytest.raises(bodies.ItemMalformed) as wrong:
        bodies.decode(orjson.dumps(fields))
    assert str(wrong.value).startswith(reason)


def test_a_status_comes_back_as_it_was_with_fields_of_later_versions() -> None:
    fields = orjson.loads(encode_status(STATUS)) | {"later": 1}
    assert decode_status(orjson.dumps(fields)) == STATUS


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"[]",
        b"{}",
        encode_status(STATUS).replace(b"online", b"asleep"),
        encode_status(STATUS).replace(b"0.25", b'"0.25"'),
    ],
)
def test_what_is_no_status_is_told_apart(body: bytes) -> None:
    with pytest.raises(StatusMalformed):
        decode_status(body)
