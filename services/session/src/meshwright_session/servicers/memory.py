"""MemoryService."""

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceServicer
from meshwright_common.clock import Clock
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.memory import Memories
from meshwright_session.domain.models import Owner
from meshwright_session.domain.summaries import Summaries
from meshwright_session.servicers import Context
from meshwright_session.wire import memories, summary_batches, values


class MemoryServicer(MemoryServiceServicer):
    """Serves MemoryService."""

    def __init__(self, kept: Memories, summaries: Summaries, clock: Clock) -> None:
        self._memories = kept
        self._summaries = summaries
        self._clock = clock

    async def Recall(self, request: pb.RecallRequest, context: Context) -> pb.RecallResponse:
        """Find memories."""
        owner = Owner.of(principal())
        recalled = await self._memories.recall(owner, memories.recall_query(request))
        return pb.RecallResponse(
            memories=[
                pb.RecalledMemory(memory=memories.memory_message(one.memory), score=one.score)
                for one in recalled.memories
            ],
            degraded=recalled.degraded,
        )

    async def Remember(self, request: pb.RememberRequest, context: Context) -> pb.RememberResponse:
        """Store memories."""
        owner = Owner.of(principal())
        stored = await self._memories.remember(
            owner,
            memories.remembered(request, now=self._clock.now()),
            memories.provenance(request),
            memories.batch_of(request, owner.user_id),
        )
        return pb.RememberResponse(memories=memories.memory_messages(stored))

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: Context
    ) -> pb.ListMemoriesResponse:
        """Return a page of memories."""
        owner = Owner.of(principal())
        page = await self._memories.list(
            owner,
            memories.wanted(request.kinds, request.session_id),
            values.page_request(request.page),
            include_superseded=request.include_superseded,
        )
        return pb.ListMemoriesResponse(
            memories=memories.memory_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def Forget(self, request: pb.ForgetRequest, context: Context) -> pb.ForgetResponse:
        """Remove memories."""
        owner = Owner.of(principal())
        count = await self._memories.forget(owner, memories.selection(request))
        return pb.ForgetResponse(forgotten_count=count)

    async def ReadSummaryBatch(
        self, request: pb.ReadSummaryBatchRequest, context: Context
    ) -> pb.ReadSummaryBatchResponse:
        """Return the turns that are due to be summarised."""
        owner = Owner.of(principal())
        batch = await self._summaries.next_batch(owner, parse_id(request.session_id, "session_id"))
        return pb.ReadSummaryBatchResponse(
            batch_id=batch.batch_id,
            messages=summary_batches.shortened(batch.messages),
            known=memories.memory_messages(batch.known),
        )

    async def StoreSummary(
        self, request: pb.StoreSummaryRequest, context: Context
    ) -> pb.StoreSummaryResponse:
        """Store a batch's summary."""
        owner = Owner.of(principal())
        if not request.batch_id:
            raise invalid("batch_id", "must be as ReadSummaryBatch gave it for this session")
        stored = await self._summaries.store(
            owner,
            parse_id(request.session_id, "session_id"),
            request.batch_id,
            memories.summary_text(request),
            memories.learned(request, now=self._clock.now()),
        )
        return pb.StoreSummaryResponse(memories=memories.memory_messages(stored))
