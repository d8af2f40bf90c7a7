"""Protobuf to models and back; the shape of requests is judged here."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.rag.v1 import document_pb2 as document_pb
from meshwright.rag.v1 import retrieval_service_pb2 as retrieval_pb
from meshwright.types.v1.page_pb2 import PageRequest
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_rag.domain.models import (
    Document,
    DocumentState,
    Hit,
    KnowledgeBase,
    Metadata,
    SearchQuery,
    SearchResult,
    UploadHeader,
)

MAX_QUERY_CHARACTERS: Final = 4_000
MAX_KNOWLEDGE_BASES: Final = 16
MAX_TOP_K: Final = 50
DEFAULT_TOP_K: Final = 10
MAX_DOCUMENT_IDS: Final = 100
MAX_NEIGHBOURS: Final = 2
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_REQUEST_ID: Final = 128
MAX_PAGE_SIZE: Final = 200
DEFAULT_PAGE_SIZE: Final = 50

_STATES: Final = {
    DocumentState.PENDING: document_pb.DOCUMENT_STATE_PENDING,
    DocumentState.INDEXING: document_pb.DOCUMENT_STATE_INDEXING,
    DocumentState.READY: document_pb.DOCUMENT_STATE_READY,
    DocumentState.FAILED: document_pb.DOCUMENT_STATE_FAILED,
    DocumentState.DELETED: document_pb.DOCUMENT_STATE_DELETED,
}


def knowledge_base_message(base: KnowledgeBase) -> document_pb.KnowledgeBase:
    """Return the message of a knowledge base."""
    return document_pb.KnowledgeBase(
        knowledge_base_id=base.knowledge_base_id,
        name=base.name,
        description=base.description,
        embedding_model=base.embedding_model,
        document_count=base.document_count,
        create_time=_timestamp(base.created_at),
    )


def document_message(document: Document) -> document_pb.Document:
    """Return the message of a document."""
    return document_pb.Document(
        document_id=document.document_id,
        knowledge_base_id=document.knowledge_base_id,
        name=document.name,
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        sha256=document.sha256,
        version=document.version,
        state=_STATES[document.state],
        failure_reason=document.failure_reason,
        failure_message=document.failure_message,
        page_count=document.page_count,
        chunk_count=document.chunk_count,
        metadata=_struct(document.metadata),
        create_time=_timestamp(document.created_at),
        update_time=_timestamp(document.updated_at),
    )


def progress_message(document_id: str, document: Document | None) -> document_pb.IndexingProgress:
    """Return the message of a document's progress; None: it was deleted."""
    if document is None:
        return document_pb.IndexingProgress(
            document_id=document_id, state=document_pb.DOCUMENT_STATE_DELETED, stage="done"
        )
    return document_pb.IndexingProgress(
        document_id=document_id,
        state=_STATES[document.state],
        stage=document.stage,
        chunks_done=document.chunks_done,
        chunks_total=document.chunks_total,
        failure_reason=document.failure_reason,
        failure_message=document.failure_message,
    )


def upload_header(message: document_pb.DocumentHeader) -> UploadHeader:
    """Return what is known before the bytes come. Raises: InvalidArgument."""
    return UploadHeader(
        knowledge_base_id=message.knowledge_base_id,
        name=message.name,
        media_type=message.media_type,
        metadata=metadata(message.metadata, "header.metadata"),
        request_id=request_id(message.request_id, "header.request_id"),
    )


def search_query(message: retrieval_pb.SearchRequest) -> SearchQuery:
    """Return the search. Raises: InvalidArgument naming the field."""
    query = message.query.strip()
    if not query or len(query) > MAX_QUERY_CHARACTERS:
        raise invalid("query", f"must have 1 to {MAX_QUERY_CHARACTERS} characters")
    _at_most("knowledge_base_ids", message.knowledge_base_ids, MAX_KNOWLEDGE_BASES)
    _at_most("document_ids", message.document_ids, MAX_DOCUMENT_IDS)
    top_k = message.top_k or DEFAULT_TOP_K
    if not 1 <= top_k <= MAX_TOP_K:
        raise invalid("top_k", f"must be 1 to {MAX_TOP_K}, or 0 for {DEFAULT_TOP_K}")
    weight = message.vector_weight if message.HasField("vector_weight") else None
    if weight is not None and not 0 <= weight <= 1:
        raise invalid("vector_weight", "must be 0 to 1")
    if not 0 <= message.neighbours <= MAX_NEIGHBOURS:
        raise invalid("neighbours", f"must be 0 to {MAX_NEIGHBOURS}")
    return SearchQuery(
        query=query,
        knowledge_base_ids=tuple(message.knowledge_base_ids),
        top_k=top_k,
        vector_weight=weight,
        metadata_filter=metadata(message.metadata_filter, "metadata_filter"),
        document_ids=tuple(parse_id(one, "document_ids") for one in message.document_ids),
        neighbours=message.neighbours,
    )


def search_response(result: SearchResult) -> retrieval_pb.SearchResponse:
    """Return the answer to a search."""
    return retrieval_pb.SearchResponse(
        passages=[_passage(hit) for hit in result.hits], degraded=result.degraded
    )


def _passage(hit: Hit) -> document_pb.Passage:
    passage = hit.passage
    return document_pb.Passage(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        document_name=passage.document_name,
        knowledge_base_id=passage.knowledge_base_id,
        text=passage.text,
        page=passage.page or 0,
        end_page=passage.end_page or 0,
        start_offset=passage.start,
        end_offset=passage.end,
        heading_path=passage.heading_path,
        score=hit.score,
        vector_rank=hit.vector_rank or 0,
        text_rank=hit.text_rank or 0,
        metadata=_struct(passage.metadata),
    )


def metadata(message: Struct, field: str) -> Metadata:
    """Return a Struct as a JSON object, whole numbers as such. Raises: InvalidArgument."""
    try:
        values = MessageToDict(message)
    except ValueError as error:
        raise invalid(field, "must not hold NaN or infinity") from error
    converted: Metadata = {name: _whole(value) for name, value in values.items()}
    encoded = orjson.dumps(converted)
    if len(encoded) > MAX_METADATA_BYTES:
        raise invalid(field, f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
    if b"\\u0000" in encoded:
        raise invalid(field, "must not hold the character U+0000")
    return converted


_EXACT: Final = 2.0**53
"""Whole numbers below this are exact as floating point numbers."""


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value


def request_id(value: str, field: str = "request_id") -> str:
    """Return the idempotency key. Raises: InvalidArgument when it is too long or not text."""
    if len(value) > MAX_REQUEST_ID or not value.isprintable():
        raise invalid(field, f"must have at most {MAX_REQUEST_ID} printable characters")
    return value


def page_of(request: PageRequest, *scope: str) -> tuple[int, str | None]:
    """Return size and last seen key of a list request; `scope` is tenant and filter.

    Raises: InvalidArgument for a size out of range and for a token of another list.
    """
    size = request.page_size or DEFAULT_PAGE_SIZE
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise invalid("page.page_size", f"must be 1 to {MAX_PAGE_SIZE}, or 0")
    if not request.page_token:
        return size, None
    try:
        raw = base64.urlsafe_b64decode(request.page_token.encode())
        mark, last = raw[: len(_mark(scope))], raw[len(_mark(scope)) :].decode()
    except ValueError as error:
        raise invalid("page.page_token", "is not a token of this list") from error
    if mark != _mark(scope) or not last.isprintable():
        raise invalid("page.page_token", "is not a token of this list")
    return size, last


def page_token(last: str, *scope: str) -> str:
    """Return the token of the page after `last`."""
    return base64.urlsafe_b64encode(_mark(scope) + last.encode()).decode()


def _mark(scope: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(scope).encode()).digest()[:8]


def _at_most(field: str, values: Sequence[str], most: int) -> None:
    if len(values) > most:
        raise invalid(field, f"must have at most {most} entries")


def _struct(values: Metadata) -> Struct:
    return ParseDict(dict(values), Struct())


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
