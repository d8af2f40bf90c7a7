"""Receipts of documents: told in the transaction in which the last of one goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.erasure.receipt import (
    COMPLETED,
    EmptiedStore,
    KeptCopy,
    Receipt,
    signed,
)
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import TOPICS, Topic
from meshwright_common.identity.signing import RecordSigner
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection
from meshwright_rag.adapters.document_events import SOURCE


@dataclass(frozen=True, slots=True)
class Gone:
    """A document that is in no store any more: who deleted it and when, and what there was."""

    tenant_id: str
    document_id: str
    deleted_by: str
    delete_time: datetime
    removed: Mapping[str, int]


class DocumentReceipts:
    """Signs and tells receipts. `relayed`: a broker has copies of events about documents."""

    def __init__(self, signer: RecordSigner, *, relayed: bool) -> None:
        self._signer = signer
        self._topics = (Topic.AUDIT_LOG, Topic.DOCUMENT_INDEX) if relayed else (Topic.AUDIT_LOG,)

    async def tell(self, connection: Connection, gone: Gone) -> None:
        """Append a receipt to the log of events, in the open transaction."""
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        receipt = Receipt(
            erasure_id=new_id(),
            kind="document",
            subject_id=gone.document_id,
            tenant_id=gone.tenant_id,
            requested_by=gone.deleted_by or SOURCE,
            request_time=gone.delete_time,
            complete_time=now,
            stores=[EmptiedStore(SOURCE, store, count) for store, count in gone.removed.items()],
            kept=[
                KeptCopy(f"topic {topic.value}", _KEPT, now + TOPICS[topic].retention)
                for topic in self._topics
            ],
        )
        event = Event.new(
            event_type=COMPLETED,
            source=SOURCE,
            tenant_id=gone.tenant_id,
            partition_key=gone.tenant_id,
            data=signed(receipt, self._signer),
        )
        await outbox.append(connection, Topic.AUDIT_LOG, event)


_KEPT: Final = "what was done with the document, by ids, without content"
