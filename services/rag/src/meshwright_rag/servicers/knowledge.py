"""KnowledgeService: protobuf in, domain call, protobuf out."""

from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceServicer
from meshwright.types.v1.page_pb2 import PageInfo
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_rag import wire
from meshwright_rag.domain.knowledge import Knowledge
from meshwright_rag.domain.ports import Documents, KnowledgeBases
from meshwright_rag.domain.uploads import Uploads
from meshwright_rag.domain.watching import IndexingWatch

MAX_PIECE_BYTES: Final = 1024 * 1024
MAX_WATCHED: Final = 100

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; the interceptors bind what matters."""


class KnowledgeServicer(KnowledgeServiceServicer):
    """Serves KnowledgeService."""

    def __init__(
        self,
        *,
        knowledge: Knowledge,
        knowledge_bases: KnowledgeBases,
        documents: Documents,
        uploads: Uploads,
        watch: IndexingWatch,
    ) -> None:
        self._knowledge = knowledge
        self._knowledge_bases = knowledge_bases
        self._documents = documents
        self._uploads = uploads
        self._watch = watch

    async def CreateKnowledgeBase(
        self, request: pb.CreateKnowledgeBaseRequest, context: Context
    ) -> pb.CreateKnowledgeBaseResponse:
        """Create a knowledge base."""
        base = await self._knowledge.create(
            principal().tenant_id,
            request.name,
            description=request.description,
            embedding_model=request.embedding_model,
            request_id=wire.request_id(request.request_id),
        )
        return pb.CreateKnowledgeBaseResponse(knowledge_base=wire.knowledge_base_message(base))

    async def GetKnowledgeBase(
        self, request: pb.GetKnowledgeBaseRequest, context: Context
    ) -> pb.GetKnowledgeBaseResponse:
        """Read one knowledge base."""
        if not request.knowledge_base_id:
            raise invalid("knowledge_base_id", "must be an id, or default")
        base = await self._knowledge_bases.find(principal().tenant_id, request.knowledge_base_id)
        return pb.GetKnowledgeBaseResponse(knowledge_base=wire.knowledge_base_message(base))

    async def ListKnowledgeBases(
        self, request: pb.ListKnowledgeBasesRequest, context: Context
    ) -> pb.ListKnowledgeBasesResponse:
        """List knowledge bases by name."""
        scope = (principal().tenant_id, "knowledge_bases")
        size, after = wire.page_of(request.page, *scope)
        found = await self._knowledge_bases.page(scope[0], size=size + 1, after=after)
        more = wire.page_token(found[size - 1].name, *scope) if len(found) > size else ""
        return pb.ListKnowledgeBasesResponse(
            knowledge_bases=[wire.knowledge_base_message(base) for base in found[:size]],
            page=PageInfo(next_page_token=more),
        )

    async def DeleteKnowledgeBase(
        self, request: pb.DeleteKnowledgeBaseRequest, context: Context
    ) -> pb.DeleteKnowledgeBaseResponse:
        """Delete a knowledge base with its documents."""
        if not request.knowledge_base_id:
            raise invalid("knowledge_base_id", "must be an id, or default")
        await self._knowledge_bases.delete(principal().tenant_id, request.knowledge_base_id)
        return pb.DeleteKnowledgeBaseResponse()

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
    ) -> pb.UploadDocumentResponse:
        """Take a file in."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise invalid("header", "must be the first message")
        upload = await self._uploads.receive(
            principal().tenant_id, wire.upload_header(first.header), _pieces(request_iterator)
        )
        return pb.UploadDocumentResponse(
            document=wire.document_message(upload.document), duplicate=upload.duplicate
        )

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        """Read one document."""
        document_id = parse_id(request.document_id, "document_id")
        document = await self._documents.get(principal().tenant_id, document_id)
        return pb.GetDocumentResponse(document=wire.document_message(document))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        """List the documents of a knowledge base, newest first."""
        tenant_id = principal().tenant_id
        base = await self._knowledge_bases.find(tenant_id, request.knowledge_base_id)
        scope = (tenant_id, "documents", base.knowledge_base_id)
        size, before = wire.page_of(request.page, *scope)
        found = await self._documents.page(
            tenant_id,
            base.knowledge_base_id,
            size=size + 1,
            before=None if before is None else parse_id(before, "page.page_token"),
        )
        more = wire.page_token(found[size - 1].document_id, *scope) if len(found) > size else ""
        return pb.ListDocumentsResponse(
            documents=[wire.document_message(document) for document in found[:size]],
            page=PageInfo(next_page_token=more),
        )

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: Context
    ) -> pb.DeleteDocumentResponse:
        """Delete a document."""
        document_id = parse_id(request.document_id, "document_id")
        await self._documents.delete(principal().tenant_id, document_id)
        return pb.DeleteDocumentResponse()

    async def Reindex(self, request: pb.ReindexRequest, context: Context) -> pb.ReindexResponse:
        """Index a document anew."""
        document_id = parse_id(request.document_id, "document_id")
        document = await self._documents.reindex(principal().tenant_id, document_id)
        return pb.ReindexResponse(document=wire.document_message(document))

    async def GetStorageUse(
        self, request: pb.GetStorageUseRequest, context: Context
    ) -> pb.GetStorageUseResponse:
        """Say how much the caller's tenant stores."""
        documents, storage_bytes = await self._documents.use(principal().tenant_id)
        return pb.GetStorageUseResponse(documents=documents, storage_bytes=storage_bytes)

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        """Follow the indexing of documents."""
        if not 1 <= len(request.document_ids) <= MAX_WATCHED:
            raise invalid("document_ids", f"must have 1 to {MAX_WATCHED} entries")
        wanted = [parse_id(one, "document_ids") for one in request.document_ids]
        async for document_id, document in self._watch.follow(principal().tenant_id, wanted):
            yield pb.WatchIndexingResponse(progress=wire.progress_message(document_id, document))


async def _pieces(requests: AsyncIterator[pb.UploadDocumentRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "data":
            raise invalid("data", "must follow the header")
        if not 1 <= len(request.data) <= MAX_PIECE_BYTES:
            raise invalid("data", f"must have 1 to {MAX_PIECE_BYTES} bytes")
        yield request.data
