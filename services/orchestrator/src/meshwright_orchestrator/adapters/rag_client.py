"""The documents over rag's stub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshwright.rag.v1 import document_pb2, retrieval_service_pb2
from meshwright_orchestrator.domain.journal import Recalled
from meshwright_orchestrator.domain.models import Citation

if TYPE_CHECKING:
    from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceAsyncStub


class RagClient:
    """Retriever: see the port."""

    def __init__(self, stub: RetrievalServiceAsyncStub) -> None:
        self._stub = stub

    async def search(
        self, query: str, *, knowledge_base_ids: Sequence[str], top_k: int
    ) -> Recalled:
        response = await self._stub.Search(
            retrieval_service_pb2.SearchRequest(
                query=query, knowledge_base_ids=knowledge_base_ids, top_k=top_k
            )
        )
        passages = tuple(
            _citation(number, passage)
            for number, passage in enumerate(response.passages[:top_k], start=1)
        )
        return Recalled(passages, tuple(response.degraded))


def _citation(number: int, passage: document_pb2.Passage) -> Citation:
    return Citation(
        number=number,
        document_id=passage.document_id,
        document_name=passage.document_name,
        page=passage.page,
        start_offset=passage.start_offset,
        end_offset=passage.end_offset,
        quote=passage.text,
        score=passage.score,
        chunk_id=passage.chunk_id,
        heading_path=tuple(passage.heading_path),
    )
