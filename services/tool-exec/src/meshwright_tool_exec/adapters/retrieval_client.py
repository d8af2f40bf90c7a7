"""PassageSearch over rag's RetrievalService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshwright.rag.v1 import document_pb2, retrieval_service_pb2
from meshwright_tool_exec.domain.models import JsonObject

if TYPE_CHECKING:
    from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceAsyncStub


class RetrievalClient:
    """PassageSearch: the caller's identity and rights travel with the call."""

    def __init__(self, stub: RetrievalServiceAsyncStub) -> None:
        self._stub = stub

    async def search(
        self, query: str, *, knowledge_base_ids: Sequence[str], top_k: int
    ) -> Sequence[JsonObject]:
        request = retrieval_service_pb2.SearchRequest(
            query=query, knowledge_base_ids=knowledge_base_ids, top_k=top_k
        )
        response = await self._stub.Search(request)
        return [_citation(number, hit) for number, hit in enumerate(response.passages, start=1)]


def _citation(number: int, hit: document_pb2.Passage) -> JsonObject:
    return {
        "number": number,
        "document_id": hit.document_id,
        "document_name": hit.document_name,
        "page": hit.page,
        "start_offset": hit.start_offset,
        "end_offset": hit.end_offset,
        "quote": hit.text,
        "score": hit.score,
        "chunk_id": hit.chunk_id,
        "heading_path": list(hit.heading_path),
    }
