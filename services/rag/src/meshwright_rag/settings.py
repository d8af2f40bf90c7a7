"""Settings of rag: `MESHWRIGHT_RAG__…`."""

from pathlib import Path
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from meshwright_common.settings import CommonSettings, Section, ServiceName

MEBIBYTE = 1024 * 1024
EMBEDDED: Final = "embedded:"


class _StoreSection(Section):
    """Where an index is kept: `embedded:` is PostgreSQL. `ca_file` (PEM) checks an https server."""

    url: str = Field(default=EMBEDDED, repr=False)
    ca_file: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the index is in PostgreSQL."""
        return self.url == EMBEDDED

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        parts = urlsplit(url)
        if url != EMBEDDED and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("must be embedded: or http(s)://[user:password@]host:port")
        return url


class VectorSettings(_StoreSection):
    """Where vectors are: `http(s)://[user:password@]host:port[/database]` is Milvus, 2.3 or newer.

    `collection` begins the names of the collections of passages, `memories` of those of memories,
    `token` logs in without a password, `index` is what new collections get.
    """

    token: str = Field(default="", repr=False)
    collection: str = Field(default="meshwright_passages", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    memories: str = Field(default="meshwright_memories", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    index: Literal["hnsw", "ivf_flat", "flat"] = "hnsw"


class FullTextSettings(_StoreSection):
    """Where words are: `http(s)://[user:password@]host:port` is Elasticsearch 8.

    `index` is the name of the index there, `api_key` logs in without a password.
    """

    api_key: str = Field(default="", repr=False)
    index: str = Field(default="meshwright-passages", pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")


class RagSection(Section):
    """What this service alone reads."""

    max_upload_bytes: int = Field(default=50 * MEBIBYTE, ge=1024)
    """The largest file."""

    max_pages: int = Field(default=5_000, ge=1)
    """Pages of the longest PDF."""

    max_unpacked_bytes: int = Field(default=200 * MEBIBYTE, ge=MEBIBYTE)
    """What a ZIP based file (DOCX) may unpack to."""

    max_unpack_ratio: int = Field(default=100, ge=2)
    """How many times its own size it may unpack to."""

    max_passages: int = Field(default=50_000, ge=1)
    """Passages of one document."""

    parse_timeout_seconds: float = Field(default=60, gt=0)
    """For parsing one document."""

    parse_memory_bytes: int = Field(default=1024 * MEBIBYTE, ge=256 * MEBIBYTE)
    """Address space of one parsing process."""

    parse_idle_seconds: float = Field(default=10, ge=0)
    """A parsing process without work is ended after this."""

    indexing_concurrency: int = Field(default=2, ge=1, le=64)
    """Documents that one process of rag indexes at once."""

    indexing_attempts: int = Field(default=4, ge=1, le=20)
    """Attempts until a document counts as failed: one, and three more."""

    lease_seconds: float = Field(default=30, ge=3, le=600)
    """Work of a process that is silent for this long is taken over by another."""

    poll_seconds: float = Field(default=1, ge=0.05, le=60)
    """How often work is looked for without being told of any."""

    orphan_seconds: float = Field(default=3_600, ge=60)
    """Uploaded bytes that no document came to own are removed after this."""

    chunk_tokens: int = Field(default=320, ge=32, le=4_000)
    """Size of a passage: about 4 characters of English a token, 1 of Chinese."""

    chunk_overlap_tokens: int = Field(default=48, ge=0, le=1_000)
    """What a passage repeats of the one before it, at most."""

    embed_batch: int = Field(default=64, ge=1, le=256)
    """Passages in one call to the embedding model."""

    embed_timeout_seconds: float = Field(default=60, gt=0)
    """For one such call."""

    vector_weight: float = Field(default=0.7, ge=0, le=1)
    """Weight of the vector side in a search that names none; the text side has the rest."""

    vector_weights: dict[str, float] = Field(default={"builtin-384": 0.2})
    """The same by embedding model, where another weight is better. The built-in embeddings are
    made of words themselves: beside the full-text search they add little but noise."""

    vectors: VectorSettings = VectorSettings()
    """The vector index. Documents are found by vectors once they are indexed with it."""

    full_text: FullTextSettings = FullTextSettings()
    """The full-text index. Documents are found by words once they are indexed with it."""

    search_side_seconds: float = Field(default=3, gt=0)
    """A search answers without the index that takes longer than this."""


class Settings(CommonSettings):
    """Everything a rag process reads."""

    service: ClassVar[ServiceName] = "rag"

    rag: RagSection = RagSection()
