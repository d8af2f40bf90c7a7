"""What rag does on events: a requested index becomes a piece of work."""

from collections.abc import Callable
from typing import Final

from meshwright_common.errors import InvalidArgument
from meshwright_common.events.envelope import Event
from meshwright_common.events.handling import EventRejected
from meshwright_common.ids import parse_id
from meshwright_common.storage.postgres import Connection
from meshwright_rag.domain.models import WorkKind

CONSUMER: Final = "rag-indexer"
REQUESTED: Final = "document.index.requested"


class IndexRequests:
    """Handles `document.index`. `nudge` is called when there may be something to do."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge

    async def handle(self, connection: Connection, event: Event) -> None:
        """Queue the generation that the document wants now; requests it has outlived do nothing.

        Raises: EventRejected for an event without a document.
        """
        if event.event_type != REQUESTED:
            return
        try:
            document_id = parse_id(str(event.data.get("document_id")), "document_id")
        except InvalidArgument as error:
            raise EventRejected(error.message) from error
        await connection.execute(_QUEUE, event.tenant_id, document_id, WorkKind.INDEX)
        self._nudge()


_QUEUE: Final = """
    INSERT INTO work (tenant_id, kind, subject_id, generation)
    SELECT tenant_id, $3, id, generation FROM documents
     WHERE tenant_id = $1 AND id = $2 AND state = 'pending' AND deleted_at IS NULL
    ON CONFLICT (tenant_id, kind, subject_id) DO UPDATE
       -- Whoever builds the old generation has lost the lease.
       SET generation = excluded.generation, attempts = 0, available_at = now(),
           leased_until = NULL, epoch = work.epoch + 1, last_error = ''
     WHERE work.generation <> excluded.generation
"""
