"""Documents of tenants put into one index by the real bookkeeping, without files and models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshwright_common.identity.signing import ephemeral_record_signer
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.adapters.document_receipts import DocumentReceipts
from meshwright_rag.adapters.elasticsearch import open_elasticsearch
from meshwright_rag.adapters.indexes import TERMS, VECTORS, Indexes
from meshwright_rag.adapters.jieba_terms import tsvector
from meshwright_rag.adapters.live_documents import NAMED_AT_MOST, LiveDocuments
from meshwright_rag.adapters.milvus import MilvusIndex
from meshwright_rag.adapters.milvus_collections import open_collections
from meshwright_rag.adapters.pgvector import PgVectorIndex, put_vectors
from meshwright_rag.adapters.postgres_erasing import PostgresErasing
from meshwright_rag.adapters.postgres_full_text import PostgresFullTextIndex, put_terms
from meshwright_rag.adapters.postgres_indexing import PostgresIndexing
from meshwright_rag.domain.models import (
    IndexTask,
    Lease,
    NewPassage,
    Outline,
    PassageRef,
    SearchScope,
    WorkKind,
)
from meshwright_rag.domain.ports import FullTextIndex, PassageIndex, VectorIndex
from meshwright_rag.settings import FullTextSettings, VectorSettings
from services.rag.tests.model import vector_of_words

Store: TypeAlias = Literal["pgvector", "postgres", "milvus-lite", "milvus", "elasticsearch"]
LENGTH = 512
"""Of the vectors: long enough that the words of a small test hardly collide."""


@dataclass
class Library:
    """One index and the database beside it. A text is a passage, `heading | text` one with both."""

    database: Database
    indexes: Indexes
    vectors: VectorIndex | None
    full_text: FullTextIndex | None

    @property
    def indexing(self) -> PostgresIndexing:
        """The bookkeeping of runs."""
        return PostgresIndexing(self.database, self.indexes)

    @property
    def outside(self) -> PassageIndex:
        """The store outside the database."""
        (store,) = self.indexes.outside
        return store

    async def new_base(self, tenant: str) -> str:
        """Create a knowledge base."""
        base = new_id()
        async with unit_of_work(self.database, tenant) as connection:
            await connection.execute(
                "INSERT INTO knowledge_bases (tenant_id, id, name) VALUES ($1, $2, $3)",
                tenant, base, base,
            )  # fmt: skip
        return base

    async def begin(
        self,
        tenant: str,
        base: str,
        document: str = "",
        metadata: Mapping[str, object] | None = None,
    ) -> tuple[Lease, IndexTask]:
        """Ask for an index of a new document, or for a new one of `document`, and take the work."""
        generation = new_id()
        async with unit_of_work(self.database, tenant) as connection:
            if document:
                await connection.execute(
                    "UPDATE documents SET generation = $3, state = 'pending'"
                    " WHERE tenant_id = $1 AND id = $2",
                    tenant, document, generation,
                )  # fmt: skip
            else:
                document = new_id()
                await connection.execute(
                    """
                    INSERT INTO documents (tenant_id, id, knowledge_base_id, name, media_type,
                                           size_bytes, sha256, object_key, generation, metadata)
                    VALUES ($1, $2, $3, $4, 'text/plain', 1, repeat('0', 64), 'key', $5, $6)
                    """,
                    tenant, document, base, document, generation, dict(metadata or {}),
                )  # fmt: skip
            await connection.execute(
                """
                INSERT INTO work (tenant_id, kind, subject_id, generation, epoch)
                VALUES ($1, 'index', $2, $3, 1)
                ON CONFLICT (tenant_id, kind, subject_id) DO UPDATE
                   SET generation = excluded.generation
                """,
                tenant, document, generation,
            )  # fmt: skip
        lease = Lease(tenant, WorkKind.INDEX, document, epoch=1, attempt=1)
        return lease, await self.indexing.begin(lease)

    async def put(
        self, lease: Lease, task: IndexTask, texts: Sequence[str], first: int = 0
    ) -> None:
        """Store passages of a run, the first of them as number `first`."""
        passages = [passage(first + number, text) for number, text in enumerate(texts)]
        vectors = [vector_of_words(one.text, LENGTH) for one in passages]
        await self.indexing.add(lease, task, passages, vectors)

    async def publish(self, lease: Lease, task: IndexTask, count: int) -> None:
        """Make a run's index the one that answers and remove what it replaces."""
        await self.indexing.publish(lease, task, Outline(page_count=0, passage_count=count))
        await self.indexing.finish(lease, task)

    async def add(
        self,
        tenant: str,
        base: str,
        texts: Sequence[str],
        *,
        document: str = "",
        metadata: Mapping[str, object] | None = None,
    ) -> str:
        """Index a document, or `document` anew, and return its id."""
        lease, task = await self.begin(tenant, base, document, metadata)
        await self.put(lease, task, texts)
        await self.publish(lease, task, len(texts))
        return task.document_id

    async def delete(self, tenant: str, document: str) -> None:
        """Delete a document and erase what is left of it."""
        async with unit_of_work(self.database, tenant) as connection:
            await connection.execute(
                "UPDATE documents SET state = 'deleted', deleted_at = now()"
                " WHERE tenant_id = $1 AND id = $2",
                tenant, document,
            )  # fmt: skip
            await connection.execute(
                "DELETE FROM work WHERE tenant_id = $1 AND subject_id = $2", tenant, document
            )
            await connection.execute(
                "INSERT INTO work (tenant_id, kind, subject_id, epoch)"
                " VALUES ($1, 'erase_document', $2, 1)",
                tenant, document,
            )  # fmt: skip
        lease = Lease(tenant, WorkKind.ERASE_DOCUMENT, document, epoch=1, attempt=1)
        receipts = DocumentReceipts(ephemeral_record_signer(), relayed=False)
        erasing = PostgresErasing(self.database, self.indexes.outside, receipts)
        await erasing.erase_document(lease, 0)

    async def search(
        self,
        tenant: str,
        bases: Sequence[str],
        query: str,
        *,
        most: int = 10,
        metadata: Mapping[str, object] | None = None,
        documents: Sequence[str] = (),
    ) -> Sequence[PassageRef]:
        """Ask the index."""
        scope = SearchScope(tenant, tuple(bases), metadata or {}, tuple(documents))
        if self.vectors is not None:
            return await self.vectors.search(scope, vector_of_words(query, LENGTH), most=most)
        assert self.full_text is not None
        return await self.full_text.search(scope, query, most=most)

    async def stored(self, tenant: str, task: IndexTask) -> int:
        """Return how many passages of a generation the index itself holds."""
        if self.indexes.outside:
            return await self.outside.count(tenant, task)
        (table,) = self.indexes.tables
        async with unit_of_work(self.database, tenant) as connection:
            count = await connection.fetchval(
                f"SELECT count(*) FROM {table}"  # noqa: S608 - one of two constants
                " WHERE tenant_id = $1 AND generation = $2",
                tenant, task.generation,
            )  # fmt: skip
        return int(count)


def passage(number: int, text: str) -> NewPassage:
    """Return a passage: "heading | text", or the text alone."""
    heading, _, body = text.rpartition(" | ")
    headings = (heading,) if heading else ()
    terms, count = tsvector(body, headings)
    return NewPassage(
        ordinal=number, text=body, start=0, end=len(body), page=None, heading_path=headings,
        terms=terms, term_count=count,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def open_library(
    store: Store,
    database: Database,
    url: str = "",
    *,
    name: str = "library",
    named_at_most: int = NAMED_AT_MOST,
) -> AsyncIterator[Library]:
    """Open a store behind its port; `name` begins the names of what is made in it."""
    live = LiveDocuments(database, named_at_most=named_at_most)
    if store == "pgvector":
        yield Library(database, Indexes({VECTORS: put_vectors}), PgVectorIndex(database), None)
    elif store == "postgres":
        index = PostgresFullTextIndex(database)
        yield Library(database, Indexes({TERMS: put_terms}), None, index)
    elif store == "elasticsearch":
        words = FullTextSettings(url=url, index=name)
        async with open_elasticsearch(words, live) as elasticsearch:
            yield Library(database, Indexes({}, [elasticsearch]), None, elasticsearch)
    else:
        settings = VectorSettings(url=url, collection=name)
        async with open_collections(settings) as collections:
            milvus = MilvusIndex(collections, live)
            yield Library(database, Indexes({}, [milvus]), milvus, None)
