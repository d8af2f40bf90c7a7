"""Receipts: whoever has the public key can check one, and any change of it shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import orjson
import pytest

from meshwright_common.erasure.receipt import EmptiedStore, KeptCopy, Receipt, signed, verifies
from meshwright_common.identity.signing import ephemeral_record_signer
from meshwright_common.ids import new_id

MOMENT: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RECEIPT: Final = Receipt(
    erasure_id=new_id(),
    kind="user",
    subject_id=new_id(),
    tenant_id=new_id(),
    requested_by=new_id(),
    request_time=MOMENT,
    complete_time=MOMENT.astimezone(timezone(timedelta(hours=8))),
    stores=[EmptiedStore("chat", "chat.turns", 1 << 60)],
    kept=[KeptCopy("topic audit.log", "ids – without content", MOMENT)],
)


def test_a_receipt_can_be_checked_after_it_was_stored_and_sent() -> None:
    signer = ephemeral_record_signer()
    data = signed(RECEIPT, signer)
    sent = orjson.loads(orjson.dumps(data))
    assert verifies(sent, signer.keys)
    assert sent["complete_time"] == sent["request_time"] == "2026-03-04T05:06:07.000000Z"
    # As proto3 JSON has 64-bit numbers: exact for readers whose numbers are doubles.
    assert sent["stores"][0]["removed_count"] == "1152921504606846976"


def test_no_field_can_be_altered_left_out_or_added() -> None:
    signer = ephemeral_record_signer()
    data = signed(RECEIPT, signer)
    for name in data:
        assert not verifies({**data, name: "other"}, signer.keys), name
        assert not verifies({key: data[key] for key in data if key != name}, signer.keys), name
    assert not verifies({**data, "more": ""}, signer.keys)
    fewer = signed(replace(RECEIPT, stores=()), signer) | {"signature": data["signature"]}
    assert not verifies(fewer, signer.keys)


def test_a_receipt_of_a_key_that_is_not_trusted_is_none() -> None:
    signer, stranger = ephemeral_record_signer(), ephemeral_record_signer()
    assert not verifies(signed(RECEIPT, stranger), signer.keys)
    forged = signed(RECEIPT, stranger) | {"key_id": signer.key_id}
    assert not verifies(forged, signer.keys)


@pytest.mark.parametrize("data", [{}, {"signature": "?"}, {"signature": 5, "key_id": []}])
def test_what_is_no_receipt_verifies_as_none(data: dict[str, Any]) -> None:
    assert not verifies(data, ephemeral_record_signer().keys)
