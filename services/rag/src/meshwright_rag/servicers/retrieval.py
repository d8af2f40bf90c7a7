"""RetrievalService: protobuf in, domain call, protobuf out."""

import asyncio
from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.rag.v1 import retrieval_service_pb2 as pb
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceServicer
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.telemetry.logging import get_logger
from meshwright_rag import wire
from meshwright_rag.domain.models import SearchQuery
from meshwright_rag.domain.retrieval import Retrieval
from meshwright_rag.metrics import DEGRADED_SEARCHES

MAX_SEARCHES: Final = 32
_AT_ONCE: Final = 4
"""Searches of one batch that run at the same time: a batch must not take every connection."""

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; the interceptors bind what matters."""

logger = get_logger(__name__)


class RetrievalServicer(RetrievalServiceServicer):
    """Serves RetrievalService."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Find passages."""
        return await self._search(wire.search_query(request))

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, context: Context
    ) -> pb.BatchSearchResponse:
        """Find passages for several searches."""
        if not 1 <= len(request.searches) <= MAX_SEARCHES:
            raise invalid("searches", f"must have 1 to {MAX_SEARCHES} entries")
        queries = [wire.search_query(search) for search in request.searches]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(query: SearchQuery) -> pb.SearchResponse:
            async with slots:
                return await self._search(query)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(query)) for query in queries]
        return pb.BatchSearchResponse(results=[task.result() for task in tasks])

    async def _search(self, query: SearchQuery) -> pb.SearchResponse:
        result = await self._retrieval.search(principal().tenant_id, query)
        for side in result.degraded:
            DEGRADED_SEARCHES.labels(side).inc()
        if result.degraded:
            logger.warning("search_degraded", missing=result.degraded)
        return wire.search_response(result)
