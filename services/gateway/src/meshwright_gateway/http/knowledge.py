"""Knowledge bases, documents and search."""

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2
from meshwright_common.context import bind
from meshwright_common.errors import DeadlineExceeded
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http.chat import event_stream
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.http.schemas import knowledge as schemas
from meshwright_gateway.http.sse import event_frame
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.knowledge import (
    document_view,
    knowledge_base_view,
    progress_object,
    search_request,
    search_view,
)

if TYPE_CHECKING:
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub
    from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceAsyncStub

PROGRESS_EVENTS: Final = {
    document_pb2.DOCUMENT_STATE_READY: "document.ready",
    document_pb2.DOCUMENT_STATE_FAILED: "document.failed",
    document_pb2.DOCUMENT_STATE_DELETED: "document.deleted",
}
"""Events that end a document's stream; every other one is document.progress."""


class IndexingRoute:
    """The progress of a document's indexing as a stream."""

    def __init__(self, peers: Peers, answers: LongAnswers) -> None:
        self._knowledge = peers.knowledge
        self._answers = answers

    async def events(self, exchange: Exchange, document_id: str) -> None:
        """Follow the indexing of a document until it is searchable or has failed."""
        request = knowledge_service_pb2.WatchIndexingRequest(document_ids=[document_id])
        stream = event_stream(exchange, self._answers, opens_early=True)
        with bind(exchange.call_context(None)):
            async with stream:
                while True:
                    try:
                        async with open_stream(self._knowledge.WatchIndexing(request)) as answers:
                            async for answer in answers:
                                state = answer.progress.state
                                name = PROGRESS_EVENTS.get(state, "document.progress")
                                data = progress_object(answer.progress)
                                await stream.send(event_frame(name, data))
                                if state in PROGRESS_EVENTS:
                                    return
                        return
                    except DeadlineExceeded:
                        # A long queue: watch on, as long as the client does.
                        continue


def knowledge_bases_router(knowledge: "KnowledgeServiceAsyncStub") -> APIRouter:
    """Return the routes about knowledge bases."""
    router = APIRouter(prefix=f"{API_PREFIX}/knowledge-bases", tags=["knowledge"])

    @router.post("", status_code=201)
    async def create_knowledge_base(
        body: schemas.KnowledgeBaseCreate, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.KnowledgeBase:
        """Create a knowledge base."""
        answer = await knowledge.CreateKnowledgeBase(
            knowledge_service_pb2.CreateKnowledgeBaseRequest(
                name=body.name,
                description=body.description,
                embedding_model=body.embedding_model,
                request_id=idempotency_key,
            )
        )
        base = knowledge_base_view(answer.knowledge_base)
        response.headers["location"] = f"/api/v1/knowledge-bases/{base.knowledge_base_id}"
        return base

    @router.get("")
    async def list_knowledge_bases(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.KnowledgeBaseList:
        """Knowledge bases by name."""
        answer = await knowledge.ListKnowledgeBases(
            knowledge_service_pb2.ListKnowledgeBasesRequest(
                page=values.page_request(page_size, page_token)
            )
        )
        return schemas.KnowledgeBaseList(
            knowledge_bases=[knowledge_base_view(base) for base in answer.knowledge_bases],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/{knowledge_base_id}")
    async def get_knowledge_base(knowledge_base_id: IdPath) -> schemas.KnowledgeBase:
        """One knowledge base, by id or "default"."""
        answer = await knowledge.GetKnowledgeBase(
            knowledge_service_pb2.GetKnowledgeBaseRequest(knowledge_base_id=knowledge_base_id)
        )
        return knowledge_base_view(answer.knowledge_base)

    @router.delete("/{knowledge_base_id}", status_code=204)
    async def delete_knowledge_base(knowledge_base_id: IdPath) -> None:
        """Remove a knowledge base with all its documents. An absent one is removed already."""
        await knowledge.DeleteKnowledgeBase(
            knowledge_service_pb2.DeleteKnowledgeBaseRequest(knowledge_base_id=knowledge_base_id)
        )

    @router.get("/{knowledge_base_id}/documents")
    async def list_documents(
        knowledge_base_id: IdPath, page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.DocumentList:
        """Documents, newest first."""
        answer = await knowledge.ListDocuments(
            knowledge_service_pb2.ListDocumentsRequest(
                knowledge_base_id=knowledge_base_id,
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.DocumentList(
            documents=[document_view(document) for document in answer.documents],
            next_page_token=answer.page.next_page_token,
        )

    return router


def documents_router(knowledge: "KnowledgeServiceAsyncStub") -> APIRouter:
    """Return the routes about documents that answer in one piece."""
    router = APIRouter(prefix=f"{API_PREFIX}/documents", tags=["knowledge"])

    @router.get("/{document_id}")
    async def get_document(document_id: IdPath) -> schemas.Document:
        """One document."""
        answer = await knowledge.GetDocument(
            knowledge_service_pb2.GetDocumentRequest(document_id=document_id)
        )
        return document_view(answer.document)

    @router.delete("/{document_id}", status_code=204)
    async def delete_document(document_id: IdPath) -> None:
        """Delete a document: not found by any search from now on. An absent one is gone already."""
        await knowledge.DeleteDocument(
            knowledge_service_pb2.DeleteDocumentRequest(document_id=document_id)
        )

    @router.post("/{document_id}/reindex", status_code=202)
    async def reindex_document(document_id: IdPath) -> schemas.Document:
        """Index a document anew; the old index answers until the new one is whole."""
        answer = await knowledge.Reindex(
            knowledge_service_pb2.ReindexRequest(document_id=document_id)
        )
        return document_view(answer.document)

    return router


def search_router(retrieval: "RetrievalServiceAsyncStub") -> APIRouter:
    """Return the route of searches."""
    router = APIRouter(prefix=API_PREFIX, tags=["knowledge"])

    @router.post("/search")
    async def search(body: schemas.SearchRequest) -> schemas.SearchAnswer:
        """Find passages by meaning and by words, best first."""
        return search_view(await retrieval.Search(search_request(body)))

    return router
