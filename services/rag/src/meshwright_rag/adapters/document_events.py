"""Facts about documents, for the log of events and for the audit."""

from meshwright_common import context
from meshwright_common.events import audit, outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.notification import Notice, tell
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection
from meshwright_rag.domain.models import Document, DocumentState

SOURCE = "rag"


async def announce(connection: Connection, event_type: str, document: Document) -> None:
    """Append a `document.*` event in the open transaction (meshwright.events.v1.DocumentIndex)."""
    event = Event.new(
        event_type=event_type,
        source=SOURCE,
        tenant_id=document.tenant_id,
        partition_key=document.document_id,
        data={
            "document_id": document.document_id,
            "knowledge_base_id": document.knowledge_base_id,
            "version": document.version,
            "user_id": _actor(),
            "chunk_count": document.chunk_count,
            "failure_reason": document.failure_reason,
        },
    )
    await outbox.append(connection, Topic.DOCUMENT_INDEX, event)


async def tell_uploader(connection: Connection, document: Document, uploaded_by: str) -> None:
    """Tell in the open transaction whoever uploaded a document that it is ready or failed.

    A document's name may say as much as its text, so it is not told: `resource` leads to it.
    """
    details: dict[str, object] = {
        "document_id": document.document_id,
        "knowledge_base_id": document.knowledge_base_id,
        "version": document.version,
    }
    if document.state is DocumentState.FAILED:
        kind, title = "document.failed", f"A document was not indexed: {document.failure_reason}."
        details["failure_reason"] = document.failure_reason
    else:
        kind, title = "document.ready", "A document is indexed and can be searched."
    notice = Notice(uploaded_by, kind, title, f"document/{document.document_id}", details)
    await tell(connection, notice, source=SOURCE, tenant_id=document.tenant_id)


async def record(connection: Connection, action: str, document: Document) -> None:
    """Append an audit record of the current caller's act in the open transaction."""
    await audit.record(
        connection,
        source=SOURCE,
        action=action,
        resource=f"document/{document.document_id}",
        details={
            "knowledge_base_id": document.knowledge_base_id,
            "version": document.version,
            "sha256": document.sha256,
        },
    )


def _actor() -> str:
    caller = context.current().principal
    return caller.subject if caller else SOURCE
