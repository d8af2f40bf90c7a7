"""Bodies of knowledge bases, documents and search."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Identifier,
    Input,
    JsonObject,
    JsonObjectInput,
    KnowledgeBaseIds,
    Listing,
    Output,
)

DocumentStateName = Literal["pending", "indexing", "ready", "failed", "deleted", "unspecified"]


class KnowledgeBaseCreate(Input):
    """A new knowledge base."""

    name: str = Field(min_length=1, max_length=100, description="Unique in the tenant.")
    description: str = Field(default="", max_length=2000)
    embedding_model: str = Field(default="", max_length=200, description="Empty: the default.")


class KnowledgeBase(Output):
    """A set of documents searched together."""

    knowledge_base_id: str
    name: str
    description: str
    embedding_model: str
    document_count: int
    create_time: datetime


class KnowledgeBaseList(Listing):
    """Knowledge bases by name."""

    knowledge_bases: list[KnowledgeBase]


class Document(Output):
    """A document and the state of its index."""

    document_id: str
    knowledge_base_id: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    version: int
    state: DocumentStateName
    failure_reason: str
    failure_message: str
    page_count: int | None = Field(description="Null: the format has none, or not yet known.")
    chunk_count: int
    metadata: JsonObject
    create_time: datetime
    update_time: datetime


class UploadedDocument(Output):
    """A stored document, not yet indexed."""

    document: Document
    duplicate: bool = Field(description="The same bytes were there under the same name.")


class DocumentList(Listing):
    """Documents, newest first."""

    documents: list[Document]


class IndexingProgress(Output):
    """Data of the events of a document's stream."""

    document_id: str
    state: DocumentStateName
    stage: str
    chunks_done: int
    chunks_total: int | None
    failure_reason: str
    failure_message: str


class SearchRequest(Input):
    """A search by meaning and by words."""

    query: str = Field(min_length=1, max_length=4000)
    knowledge_base_ids: KnowledgeBaseIds = ()
    top_k: int = Field(default=10, ge=1, le=50)
    vector_weight: float | None = Field(default=None, ge=0, le=1, description="Absent: 0.7.")
    metadata_filter: JsonObjectInput = Field(
        default={}, description="Only documents whose metadata holds all these values."
    )
    document_ids: Annotated[tuple[Identifier, ...], Field(strict=False, max_length=100)] = ()
    neighbours: int = Field(
        default=0, ge=0, le=2, description="Passages before and after each hit to add to its text."
    )


class Passage(Output):
    """A passage that fits."""

    chunk_id: str
    document_id: str
    document_name: str
    knowledge_base_id: str
    text: str
    page: int | None
    end_page: int | None
    start_offset: int
    end_offset: int
    heading_path: list[str]
    score: float
    vector_rank: int | None = Field(description="Null: the vector search did not find it.")
    text_rank: int | None = Field(description="Null: the text search did not find it.")
    metadata: JsonObject


class SearchAnswer(Output):
    """Passages, best first."""

    passages: list[Passage]
    degraded: list[str] = Field(description="Parts that were missing: vector, text.")
