"""What the rules of this service need from the outside, in their own words."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from meshwright_rag.domain.chunking import ChunkSizes
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.models import (
    Document,
    IndexTask,
    KnowledgeBase,
    Lease,
    NewPassage,
    Outline,
    Passage,
    PassageRef,
    SearchScope,
    Stage,
    StoredFile,
    Upload,
    UploadHeader,
    WorkKind,
)
from meshwright_rag.domain.parsed import ParseLimits

Vector = Sequence[float]


class KnowledgeBases(Protocol):
    """The knowledge bases of a tenant."""

    async def create(
        self, tenant_id: str, name: str, *, description: str, embedding_model: str, request_id: str
    ) -> KnowledgeBase:
        """Create one; a repeated `request_id` returns what the first call created.

        Raises: KnowledgeBaseExists.
        """
        ...

    async def find(self, tenant_id: str, knowledge_base: str) -> KnowledgeBase:
        """Return one by id, or by the name "default", which is created when it is missing.

        Raises: KnowledgeBaseNotFound; InvalidArgument for what is neither.
        """
        ...

    async def find_all(
        self, tenant_id: str, knowledge_bases: Sequence[str]
    ) -> Sequence[KnowledgeBase]:
        """As `find`, for several at once; none means the default one. Repetitions count once."""
        ...

    async def page(
        self, tenant_id: str, *, size: int, after: str | None
    ) -> Sequence[KnowledgeBase]:
        """Return up to `size` knowledge bases by name, those after the name `after`."""
        ...

    async def delete(self, tenant_id: str, knowledge_base_id: str) -> None:
        """Make it and its documents vanish now; background work removes what is stored.

        Deleting an absent one does nothing.
        """
        ...


class Documents(Protocol):
    """The documents of a tenant and their states."""

    async def reserve(self, tenant_id: str, object_key: str) -> None:
        """Note that bytes are about to be stored, so that they are removed if nothing follows.

        Raises: FailedPrecondition (TENANT_SUSPENDED).
        """
        ...

    async def admit(self, tenant_id: str, header: UploadHeader, file: StoredFile) -> Upload:
        """Make stored bytes a document, a new version of one, or nothing new; all or nothing.

        The same name and bytes, or the same bytes under another name that is free: the existing
        document, a duplicate. The same name and other bytes: the document's next version.
        A repeated `request_id`: what the first call answered.
        Raises: KnowledgeBaseNotFound; AlreadyExists when the `request_id` came with other bytes;
        QuotaExceeded when the tenant may have no more documents, or no more bytes.
        """
        ...

    async def use(self, tenant_id: str) -> tuple[int, int]:
        """Return how many documents there are, and the bytes of their current versions."""
        ...

    async def get(self, tenant_id: str, document_id: str) -> Document:
        """Return one. Raises: DocumentNotFound."""
        ...

    async def get_all(self, tenant_id: str, document_ids: Sequence[str]) -> Sequence[Document]:
        """Return those that exist, in any order; deleted ones too until nothing is left of them."""
        ...

    async def page(
        self, tenant_id: str, knowledge_base_id: str, *, size: int, before: str | None
    ) -> Sequence[Document]:
        """Return up to `size` documents, newest first, those older than the id `before`."""
        ...

    async def delete(self, tenant_id: str, document_id: str) -> None:
        """Make it vanish now; background work removes what is stored. Absent: does nothing."""
        ...

    async def reindex(self, tenant_id: str, document_id: str) -> Document:
        """Ask for a new index; the one it has answers until then. Raises: DocumentNotFound."""
        ...


class Indexing(Protocol):
    """The bookkeeping of an indexing run. Each call proves its lease.

    Raises, every one: LeaseLost when another worker, a newer version or a deletion took over.
    """

    async def begin(self, lease: Lease) -> IndexTask:
        """Mark the document as being indexed and return what is to be done."""
        ...

    async def note(self, lease: Lease, stage: Stage, outline: Outline | None = None) -> None:
        """Note how far the run is and, once known, what the document is made of."""
        ...

    async def stored(self, lease: Lease, task: IndexTask) -> frozenset[int]:
        """Return the ordinals of passages that an earlier attempt stored with their indexes."""
        ...

    async def fix_vectors(self, lease: Lease, task: IndexTask, model: str, length: int) -> None:
        """Make model and vector length those of the knowledge base, if it has none yet.

        Raises: VectorsDiffer when it has others.
        """
        ...

    async def add(
        self,
        lease: Lease,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        """Store passages and put them into every index, unseen by searches. Idempotent."""
        ...

    async def publish(self, lease: Lease, task: IndexTask, outline: Outline) -> None:
        """Make the new index the one that answers, in one step.

        Raises: IndexIncomplete when an index does not hold every passage.
        """
        ...

    async def replaced_objects(self, lease: Lease) -> Sequence[str]:
        """Return the keys of original files of versions that no longer answer."""
        ...

    async def finish(self, lease: Lease, task: IndexTask) -> None:
        """Remove the indexes and file records of replaced versions, and end the work."""
        ...

    async def fail(self, lease: Lease, *, reason: str, message: str) -> None:
        """Mark the document as failed and end the work. An older index goes on answering."""
        ...


class PassageIndex(Protocol):
    """An index in a store of its own, outside the database that knows which passages answer.

    It is written before the database notes what it holds, and emptied before the database forgets.
    Every call may be repeated. Raises, every one: IndexUnavailable; IndexRefused.
    """

    async def put(
        self,
        tenant_id: str,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        """Store passages of the generation being built, in place of those of the same chunk ids."""
        ...

    async def count(self, tenant_id: str, task: IndexTask) -> int:
        """Return how many passages of the generation are stored: searches see them from now on."""
        ...

    @property
    def store(self) -> str:
        """What a receipt calls it."""
        ...

    async def discard(
        self, tenant_id: str, document_id: str, *, only: str = "", but: str = ""
    ) -> int:
        """Remove the document's passages: all, `only` one generation's, or all `but` one's.

        Returns how many, when a look has found none of them left.
        """
        ...


class Erasing(Protocol):
    """Removing what deleted things left behind. Idempotent; each call proves its lease."""

    async def document_objects(self, lease: Lease) -> Sequence[str]:
        """Return the keys of every original file of a deleted document."""
        ...

    async def erase_document(self, lease: Lease, objects: int) -> None:
        """Remove the document from every index and table, tell its receipt, and end the work.

        `objects`: how many of its files were removed before.
        """
        ...

    async def erase_knowledge_base(self, lease: Lease) -> bool:
        """Remove an emptied knowledge base and end the work. False: documents are left."""
        ...

    async def abandoned_object(self, lease: Lease) -> str:
        """Return the key of a file that no document came to own."""
        ...

    async def finish(self, lease: Lease) -> None:
        """End the work."""
        ...


class WorkQueue(Protocol):
    """Background work of all tenants. Leases end by the database's clock."""

    async def claim(self, kinds: Sequence[WorkKind], *, most: int) -> Sequence[Lease]:
        """Take up to `most` due pieces of work, oldest first; each has one owner at a time."""
        ...

    async def renew(self, lease: Lease) -> None:
        """Keep the lease for another term. Raises: LeaseLost."""
        ...

    async def retry(self, lease: Lease, *, delay_seconds: float, error: str) -> None:
        """Give the work back, to be done again after the delay. A lost lease: does nothing."""
        ...

    async def release(self, lease: Lease, *, delay_seconds: float = 0) -> None:
        """Give the work back as if it had not been tried. A lost lease: does nothing."""
        ...


class VectorIndex(Protocol):
    """Finds passages by the meaning of their text."""

    async def search(
        self, scope: SearchScope, vector: Vector, *, most: int
    ) -> Sequence[PassageRef]:
        """Return up to `most` passages by cosine similarity, nearest first.

        Only passages whose vector has the length of `vector` are looked at. Raises: Unavailable.
        """
        ...


class FullTextIndex(Protocol):
    """Finds passages by their words."""

    async def search(self, scope: SearchScope, query: str, *, most: int) -> Sequence[PassageRef]:
        """Return up to `most` passages that hold words of the query, best first.

        Empty when the query holds no words. Raises: Unavailable.
        """
        ...


class Passages(Protocol):
    """The texts of passages."""

    async def fetch(
        self, tenant_id: str, refs: Sequence[PassageRef], *, neighbours: int
    ) -> dict[PassageRef, Passage]:
        """Return the passages that may be shown now; deleted and replaced ones are left out.

        With `neighbours`, text, pages and offsets take in that many passages on either side.
        """
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of unit length, one a text, and the model that made them."""

    model: str
    vectors: Sequence[Vector]


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, model: str, texts: Sequence[str], *, purpose: str) -> Embedded:
        """Return the vectors in the order of the texts. Empty `model`: the default one.

        `purpose` is "indexing" or "search". Raises: NotFound for an unknown model; Unavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A document being read: what it is made of, and its passages in batches, in order."""

    outline: Outline
    batches: AsyncIterator[Sequence[NewPassage]]


class Reader(Protocol):
    """Parses and cuts documents, away from this process."""

    def read(
        self, path: Path, media_type: MediaType, *, limits: ParseLimits, sizes: ChunkSizes
    ) -> AbstractAsyncContextManager[Reading]:
        """Read the file. Raises: one of REJECTIONS; Unavailable when the reader was killed."""
        ...


class Files(Protocol):
    """The original files."""

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
        """Store a file and return its size and SHA-256 (hexadecimal). Raises: Unavailable."""
        ...

    def local_copy(self, key: str, *, sha256: str) -> AbstractAsyncContextManager[Path]:
        """Give a copy on this machine for the block.

        Raises: FileDamaged when the bytes are not those of the hash; Unavailable; NotFound.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove a file; an absent one is fine. Raises: Unavailable."""
        ...

    async def exists(self, key: str) -> bool:
        """Return whether a file is there. Raises: Unavailable."""
        ...

    def new_key(self, tenant_id: str) -> str:
        """Return a key that nobody has used."""
        ...
