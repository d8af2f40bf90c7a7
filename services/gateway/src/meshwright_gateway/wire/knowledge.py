"""Knowledge bases, documents and search: JSON bodies to requests, messages to JSON bodies."""

from meshwright.rag.v1 import document_pb2, retrieval_service_pb2
from meshwright_gateway.http.schemas import knowledge as schemas
from meshwright_gateway.wire import values


def knowledge_base_view(base: document_pb2.KnowledgeBase) -> schemas.KnowledgeBase:
    """Return a knowledge base as JSON shows it."""
    return schemas.KnowledgeBase(
        knowledge_base_id=base.knowledge_base_id,
        name=base.name,
        description=base.description,
        embedding_model=base.embedding_model,
        document_count=base.document_count,
        create_time=values.moment_from(base.create_time),
    )


def document_view(document: document_pb2.Document) -> schemas.Document:
    """Return a document as JSON shows it."""
    return schemas.Document.model_validate(
        {
            "document_id": document.document_id,
            "knowledge_base_id": document.knowledge_base_id,
            "name": document.name,
            "media_type": document.media_type,
            "size_bytes": document.size_bytes,
            "sha256": document.sha256,
            "version": document.version,
            "state": _state_name(document.state),
            "failure_reason": document.failure_reason,
            "failure_message": document.failure_message,
            "page_count": document.page_count or None,
            "chunk_count": document.chunk_count,
            "metadata": values.object_from(document.metadata),
            "create_time": values.moment_from(document.create_time),
            "update_time": values.moment_from(document.update_time),
        }
    )


def progress_object(progress: document_pb2.IndexingProgress) -> dict[str, object]:
    """Return the data of an indexing event."""
    return {
        "document_id": progress.document_id,
        "state": _state_name(progress.state),
        "stage": progress.stage,
        "chunks_done": progress.chunks_done,
        "chunks_total": progress.chunks_total or None,
        "failure_reason": progress.failure_reason,
        "failure_message": progress.failure_message,
    }


def search_request(body: schemas.SearchRequest) -> retrieval_service_pb2.SearchRequest:
    """Return the request of a search."""
    request = retrieval_service_pb2.SearchRequest(
        query=body.query,
        knowledge_base_ids=body.knowledge_base_ids,
        top_k=body.top_k,
        document_ids=body.document_ids,
        neighbours=body.neighbours,
    )
    if body.vector_weight is not None:
        request.vector_weight = body.vector_weight
    if body.metadata_filter:
        request.metadata_filter.CopyFrom(values.struct_from(body.metadata_filter))
    return request


def search_view(answer: retrieval_service_pb2.SearchResponse) -> schemas.SearchAnswer:
    """Return the passages of a search as JSON shows them."""
    return schemas.SearchAnswer(
        passages=[_passage_view(passage) for passage in answer.passages],
        degraded=list(answer.degraded),
    )


def _passage_view(passage: document_pb2.Passage) -> schemas.Passage:
    return schemas.Passage(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        document_name=passage.document_name,
        knowledge_base_id=passage.knowledge_base_id,
        text=passage.text,
        page=passage.page or None,
        end_page=passage.end_page or None,
        start_offset=passage.start_offset,
        end_offset=passage.end_offset,
        heading_path=list(passage.heading_path),
        score=passage.score,
        vector_rank=passage.vector_rank or None,
        text_rank=passage.text_rank or None,
        metadata=values.object_from(passage.metadata),
    )


def _state_name(state: int) -> str:
    return values.enum_name(document_pb2.DocumentState, state, "DOCUMENT_STATE_")
