"""A servicer that stands for the service of documents."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceServicer
from meshwright_common.errors import Aborted, InvalidArgument, NotFound, Unavailable
from meshwright_common.ids import new_id

Context = grpc.aio.ServicerContext[Any, Any]


class Knowledge(KnowledgeServiceServicer):
    """Takes documents and remembers what arrived."""

    def __init__(self) -> None:
        self.headers: list[document_pb2.DocumentHeader] = []
        self.sizes: list[int] = []
        self.digests: list[str] = []
        self.largest_piece = 0
        self.open_uploads = 0
        self.progress: list[document_pb2.IndexingProgress] = []

    async def UploadDocument(
        self,
        request_iterator: AsyncIterator[knowledge_service_pb2.UploadDocumentRequest],
        context: Context,
    ) -> knowledge_service_pb2.UploadDocumentResponse:
        self.open_uploads += 1
        try:
            return await self._take(request_iterator)
        finally:
            self.open_uploads -= 1

    async def _take(
        self, requests: AsyncIterator[knowledge_service_pb2.UploadDocumentRequest]
    ) -> knowledge_service_pb2.UploadDocumentResponse:
        digest, size = hashlib.sha256(), 0
        header: document_pb2.DocumentHeader | None = None
        async for request in requests:
            if request.WhichOneof("part") == "header":
                header = request.header
                if header.knowledge_base_id == "absent":
                    error = NotFound("there is no such knowledge base")
                    error.reason = "KNOWLEDGE_BASE_NOT_FOUND"
                    raise error
            elif not request.data:
                raise InvalidArgument("data must have 1 byte at least")
            else:
                size += len(request.data)
                self.largest_piece = max(self.largest_piece, len(request.data))
                digest.update(request.data)
        if header is None:
            raise InvalidArgument("header must be the first message")
        if not size:
            empty = InvalidArgument("the file holds no bytes")
            empty.reason = "DOCUMENT_EMPTY"
            raise empty
        self.headers.append(header)
        self.sizes.append(size)
        self.digests.append(digest.hexdigest())
        document = document_pb2.Document(
            document_id=new_id(),
            knowledge_base_id=header.knowledge_base_id,
            name=header.name,
            size_bytes=size,
            sha256=digest.hexdigest(),
            version=1,
            state=document_pb2.DOCUMENT_STATE_PENDING,
            metadata=header.metadata,
        )
        return knowledge_service_pb2.UploadDocumentResponse(document=document)

    async def WatchIndexing(
        self, request: knowledge_service_pb2.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[knowledge_service_pb2.WatchIndexingResponse]:
        for progress in self.progress:
            yield knowledge_service_pb2.WatchIndexingResponse(progress=progress)

    async def DeleteKnowledgeBase(
        self, request: knowledge_service_pb2.DeleteKnowledgeBaseRequest, context: Context
    ) -> knowledge_service_pb2.DeleteKnowledgeBaseResponse:
        raise Aborted("somebody changes it", retry_after_seconds=1.5)

    async def Reindex(
        self, request: knowledge_service_pb2.ReindexRequest, context: Context
    ) -> knowledge_service_pb2.ReindexResponse:
        raise ValueError("a defect with a secret")

    async def GetDocument(
        self, request: knowledge_service_pb2.GetDocumentRequest, context: Context
    ) -> knowledge_service_pb2.GetDocumentResponse:
        raise Unavailable("the store is away", retry_after_seconds=2.0)
