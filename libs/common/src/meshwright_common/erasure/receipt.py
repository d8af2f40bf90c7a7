"""Receipts: what was erased, where, what stays, signed so that it can be shown to anybody."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import orjson

from meshwright_common.identity.signing import RecordKeys, RecordSigner

COMPLETED: Final = "erasure.completed"
"""The event whose data a receipt is (meshwright.events.v1.ErasureCompleted)."""
ErasedKind: TypeAlias = Literal["user", "tenant", "document"]

_SIGNED_AS: Final = b"meshwright erasure receipt v1\n"
"""Comes before what is signed: no other signed document can pass for a receipt."""


@dataclass(frozen=True, slots=True)
class EmptiedStore:
    """A store in which nothing is left."""

    service: str
    store: str
    removed_count: int


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """What stays, why, and until when at the latest (None: as long as the tenant exists)."""

    place: str
    reason: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receipt of an erasure says."""

    erasure_id: str
    kind: ErasedKind
    subject_id: str
    tenant_id: str
    requested_by: str
    request_time: datetime
    complete_time: datetime
    stores: Sequence[EmptiedStore]
    kept: Sequence[KeptCopy]


def signed(receipt: Receipt, signer: RecordSigner) -> dict[str, object]:
    """Return the data of the event that a receipt is: plain JSON values, with the signature."""
    data: dict[str, object] = {
        "erasure_id": receipt.erasure_id,
        "kind": receipt.kind,
        "subject_id": receipt.subject_id,
        "tenant_id": receipt.tenant_id,
        "requested_by": receipt.requested_by,
        "request_time": _text(receipt.request_time),
        "complete_time": _text(receipt.complete_time),
        # 64-bit numbers are texts in the JSON form of protos.
        "stores": [
            {**asdict(one), "removed_count": str(one.removed_count)} for one in receipt.stores
        ],
        "kept": [{**asdict(one), "until": _text(one.until)} for one in receipt.kept],
        "key_id": signer.key_id,
    }
    signature = signer.sign(_SIGNED_AS + canonical(data))
    return {**data, "signature": base64.b64encode(signature).decode("ascii")}


def verifies(data: Mapping[str, Any], keys: RecordKeys) -> bool:
    """Return whether a receipt's data are, to the letter, what a key of `keys` signed."""
    unsigned = {name: value for name, value in data.items() if name != "signature"}
    try:
        signature = base64.b64decode(str(data.get("signature", "")), validate=True)
        text = canonical(unsigned)
    except (binascii.Error, TypeError):
        return False
    return keys.verifies(str(data.get("key_id", "")), signature, _SIGNED_AS + text)


def canonical(data: Mapping[str, object]) -> bytes:
    """Return the canonical JSON (RFC 8785) of texts, lists and objects with ASCII names.

    Raises: TypeError for what is not JSON.
    """
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)


def _text(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
