"""Signed checkpoints: what the end of a chain was, said so that nobody can unsay it.

A chain alone shows a change to whoever knows its end. Whoever can write to the database can
recompute all of it after a change; not so the signatures, which are made with a key that is not
there, and kept a second time in object storage. An anchor says the same of the last record that
retention has dropped: where the kept chain begins.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from meshwright_session.domain.audit_chain import ChainHead, Place
from meshwright_session.domain.audit_records import timestamp
from meshwright_session.domain.canonical_json import canonical

CHECKPOINT_PREFIX: Final = b"meshwright audit checkpoint v1\n"
ANCHOR_PREFIX: Final = b"meshwright audit anchor v1\n"
"""What stands before a document when it is signed: none can pass for one of another kind."""
FIRST_DIGEST: Final = "0" * 64
"""Stands for the document of the checkpoint before the first one."""


class Signer(Protocol):
    """Signs. `key_id` names the key."""

    @property
    def key_id(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        ...


class Verifier(Protocol):
    """Knows the public keys of all who ever signed."""

    def verifies(self, key_id: str, signature: bytes, data: bytes) -> bool:
        """Return whether the signature is of the key, and the key is trusted."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is stored of a checkpoint. All but `stored` follows from the document."""

    tenant_id: str
    number: int
    sequence: int
    time: datetime
    document: str
    signature: bytes
    stored: bool

    @property
    def digest(self) -> str:
        """The hex SHA-256 of the document: what the next checkpoint names."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @property
    def object_text(self) -> str:
        """What object storage keeps of it."""
        return canonical({"checkpoint": self.document, "signature": self.signature.hex()})


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is stored of an anchor: the kept chain begins after the record `sequence`."""

    tenant_id: str
    sequence: int
    document: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint's document says. `previous` is the digest of the one before."""

    tenant_id: str
    number: int
    sequence: int
    hash: str
    record_count: int
    time: str
    previous: str
    key_id: str


def sign_checkpoint(
    tenant_id: str,
    head: ChainHead,
    previous: Checkpoint | None,
    *,
    now: datetime,
    signer: Signer,
) -> Checkpoint:
    """Return a signed checkpoint of the head, the one after `previous`."""
    number = 1 if previous is None else previous.number + 1
    sequence = head.place.sequence
    document = canonical(
        {
            "tenant_id": tenant_id,
            "number": number,
            "sequence": sequence,
            "hash": head.place.hash.hex(),
            "record_count": sequence - (0 if previous is None else previous.sequence),
            "time": timestamp(now),
            "previous": FIRST_DIGEST if previous is None else previous.digest,
            "key_id": signer.key_id,
        }
    )
    signature = signer.sign(CHECKPOINT_PREFIX + document.encode())
    return Checkpoint(tenant_id, number, sequence, now, document, signature, stored=False)


def statement_of(checkpoint: Checkpoint) -> Statement | None:
    """Return what its document says; None when that is not a document, or not what the rest is."""
    told = _members(checkpoint.document, Statement.__slots__)
    if told is None:
        return None
    statement = Statement(**told)  # type: ignore[arg-type]
    says = (statement.tenant_id, statement.number, statement.sequence, statement.time)
    is_so = (
        checkpoint.tenant_id,
        checkpoint.number,
        checkpoint.sequence,
        timestamp(checkpoint.time),
    )
    return statement if says == is_so else None


def is_signed(checkpoint: Checkpoint, statement: Statement, verifier: Verifier) -> bool:
    """Return whether a trusted key has signed the document."""
    data = CHECKPOINT_PREFIX + checkpoint.document.encode()
    return verifier.verifies(statement.key_id, checkpoint.signature, data)


def sign_anchor(tenant_id: str, place: Place, *, now: datetime, signer: Signer) -> Anchor:
    """Return the signed statement that the records up to `place` are dropped by retention."""
    document = canonical(
        {
            "tenant_id": tenant_id,
            "sequence": place.sequence,
            "hash": place.hash.hex(),
            "filed_at": timestamp(place.filed_at),
            "time": timestamp(now),
            "key_id": signer.key_id,
        }
    )
    signature = signer.sign(ANCHOR_PREFIX + document.encode())
    return Anchor(tenant_id, place.sequence, document, signature)


def place_after(anchor: Anchor, verifier: Verifier) -> Place | None:
    """Return the place that an anchor names; None when it is not signed, or not what it says."""
    names = ("tenant_id", "sequence", "hash", "filed_at", "time", "key_id")
    told = _members(anchor.document, names)
    if told is None or (told["tenant_id"], told["sequence"]) != (anchor.tenant_id, anchor.sequence):
        return None
    data = ANCHOR_PREFIX + anchor.document.encode()
    if not verifier.verifies(str(told["key_id"]), anchor.signature, data):
        return None
    return Place(
        anchor.sequence,
        bytes.fromhex(str(told["hash"])),
        datetime.fromisoformat(str(told["filed_at"])),
    )


def _members(document: str, names: tuple[str, ...]) -> Mapping[str, object] | None:
    try:
        told = json.loads(document)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.keys() == set(names) else None
