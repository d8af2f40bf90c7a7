"""Knowledge bases, documents, passages and searches, as the rules of this service see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

from meshwright_rag.domain.media_types import MediaType

DEFAULT_KNOWLEDGE_BASE: Final = "default"
"""Name, accepted in place of an id, of the knowledge base that each tenant gets on first use."""

Metadata = Mapping[str, object]
"""A JSON object with string keys."""


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """Documents that are searched together, all with vectors of one model.

    `embedding_model` is empty, and `vector_length` None, until the first document is indexed with
    the default model of that moment; then they stay.
    """

    tenant_id: str
    knowledge_base_id: str
    name: str
    description: str
    embedding_model: str
    vector_length: int | None
    document_count: int
    created_at: datetime


class DocumentState(StrEnum):
    """What has become of a document. `ready` means that all of it can be found."""

    PENDING = "pending"
    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    DELETED = "deleted"


SETTLED: Final = frozenset({DocumentState.READY, DocumentState.FAILED, DocumentState.DELETED})
"""States that do not change by themselves."""


class Stage(StrEnum):
    """Where indexing is."""

    STORED = "stored"
    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    WRITING = "writing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Document:
    """A document and how far its indexing is.

    While a newer version is being indexed, or could not be, the version before it goes on
    answering searches. `page_count` is 0 for formats without pages.
    """

    tenant_id: str
    document_id: str
    knowledge_base_id: str
    name: str
    media_type: MediaType
    size_bytes: int
    sha256: str
    version: int
    state: DocumentState
    failure_reason: str
    failure_message: str
    stage: Stage
    chunks_done: int
    chunks_total: int
    page_count: int
    chunk_count: int
    metadata: Metadata
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """What a client says about a document before its bytes come."""

    knowledge_base_id: str
    name: str
    media_type: str
    metadata: Metadata
    request_id: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Bytes that arrived whole and wait for a document to belong to."""

    object_key: str
    size_bytes: int
    sha256: str
    media_type: MediaType


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload led to. `duplicate`: the very same document was there already."""

    document: Document
    duplicate: bool


@dataclass(frozen=True, slots=True)
class PassageRef:
    """Names one passage of one index generation of a document, the same in every index."""

    document_id: str
    generation: str
    ordinal: int

    @property
    def chunk_id(self) -> str:
        """The UUID of this passage: the same whoever stores it, however often."""
        return str(uuid5(UUID(self.generation), str(self.ordinal)))


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage on its way into the indexes.

    `terms` are the words of text and headings, `term_count` of them in the text, cut and written
    by the reader in the form that the full-text index takes.
    """

    ordinal: int
    text: str
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    terms: str = field(repr=False)
    term_count: int

    def text_to_embed(self, document_name: str) -> str:
        """Return the text with the headings that give it its meaning."""
        context = " > ".join(self.heading_path) or document_name
        return self.text if self.text.startswith(context) else f"{context}\n{self.text}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as a search returns it, with everything that a citation needs.

    `start` and `end` are characters of the document's extracted text. `page` and `end_page` count
    from 1; None: the format has no pages.
    """

    chunk_id: str
    document_id: str
    document_name: str
    knowledge_base_id: str
    text: str
    page: int | None
    end_page: int | None
    start: int
    end: int
    heading_path: tuple[str, ...]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. Ranks count from 1; None: not found by that side."""

    passage: Passage
    score: float
    vector_rank: int | None
    text_rank: int | None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for, and where.

    `vector_weight` is in [0, 1]; None: the right one for the model of the vectors. `neighbours`:
    passages before and after to add to each hit.
    """

    query: str
    knowledge_base_ids: tuple[str, ...]
    top_k: int = 10
    vector_weight: float | None = None
    metadata_filter: Metadata = field(default_factory=dict)
    document_ids: tuple[str, ...] = ()
    neighbours: int = 0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first. `degraded` names the sides that could not be asked: vector, text."""

    hits: Sequence[Hit]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchScope:
    """The part of the index a search may see. Empty `document_ids`: all documents."""

    tenant_id: str
    knowledge_base_ids: tuple[str, ...]
    metadata_filter: Metadata
    document_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one piece of work. `epoch` rises with every owner; older ones are void."""

    tenant_id: str
    kind: "WorkKind"
    subject_id: str
    epoch: int
    attempt: int


class WorkKind(StrEnum):
    """Kinds of background work."""

    INDEX = "index"
    ERASE_DOCUMENT = "erase_document"
    ERASE_KNOWLEDGE_BASE = "erase_knowledge_base"
    DISCARD_OBJECT = "discard_object"


@dataclass(frozen=True, slots=True)
class IndexTask:
    """What an indexing run needs to know about its document.

    `published`: an earlier attempt made the index the one that answers; only leftovers remain.
    """

    document_id: str
    knowledge_base_id: str
    name: str
    media_type: MediaType
    object_key: str
    sha256: str
    generation: str
    embedding_model: str
    uploaded_by: str
    published: bool

    def ref(self, passage: NewPassage) -> PassageRef:
        """Return the name of a passage of the index that the run builds."""
        return PassageRef(self.document_id, self.generation, passage.ordinal)


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a document once it is cut into passages. `page_count` 0: no pages."""

    page_count: int
    passage_count: int
