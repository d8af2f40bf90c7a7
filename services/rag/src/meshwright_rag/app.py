"""rag's composition root."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.rag.v1.knowledge_service_pb2_grpc import add_KnowledgeServiceServicer_to_server
from meshwright.rag.v1.memory_index_service_pb2_grpc import (
    add_MemoryIndexServiceServicer_to_server,
)
from meshwright.rag.v1.retrieval_service_pb2_grpc import add_RetrievalServiceServicer_to_server
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.erasure.stored import StoredData
from meshwright_common.events.backbone import event_log, is_relayed
from meshwright_common.events.consumer import Consumer
from meshwright_common.events.topics import Topic
from meshwright_common.identity.signing import load_record_signer
from meshwright_common.quotas import Quotas
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import (
    JOB_STATEMENT_TIMEOUT_SECONDS,
    Database,
    open_database,
)
from meshwright_rag.adapters.document_receipts import DocumentReceipts
from meshwright_rag.adapters.indexes import TERMS, VECTORS, Indexes, PutRows
from meshwright_rag.adapters.live_documents import LiveDocuments
from meshwright_rag.adapters.model_client import ModelClient
from meshwright_rag.adapters.objects import ObjectFiles
from meshwright_rag.adapters.parse_process import ParseProcesses
from meshwright_rag.adapters.pgvector import PgVectorIndex, put_vectors
from meshwright_rag.adapters.pgvector_memories import PgVectorMemories
from meshwright_rag.adapters.postgres_documents import PostgresDocuments
from meshwright_rag.adapters.postgres_erasing import PostgresErasing
from meshwright_rag.adapters.postgres_full_text import PostgresFullTextIndex, put_terms
from meshwright_rag.adapters.postgres_indexing import PostgresIndexing
from meshwright_rag.adapters.postgres_knowledge_bases import PostgresKnowledgeBases
from meshwright_rag.adapters.postgres_passages import PostgresPassages
from meshwright_rag.adapters.postgres_work import PostgresWorkQueue
from meshwright_rag.adapters.stored_data import stored_data
from meshwright_rag.consumers import CONSUMER, IndexRequests
from meshwright_rag.domain.chunking import ChunkSizes
from meshwright_rag.domain.erasure import Eraser
from meshwright_rag.domain.indexing import Indexer
from meshwright_rag.domain.knowledge import Knowledge
from meshwright_rag.domain.memory_index import MemoryIndex
from meshwright_rag.domain.memory_ports import MemoryVectors
from meshwright_rag.domain.models import WorkKind
from meshwright_rag.domain.parsed import ParseLimits
from meshwright_rag.domain.ports import Embedder, FullTextIndex, PassageIndex, VectorIndex
from meshwright_rag.domain.retrieval import Retrieval, VectorWeights
from meshwright_rag.domain.uploads import Uploads
from meshwright_rag.domain.watching import IndexingWatch
from meshwright_rag.servicers.knowledge import KnowledgeServicer
from meshwright_rag.servicers.memory_index import MemoryIndexServicer
from meshwright_rag.servicers.retrieval import RetrievalServicer
from meshwright_rag.settings import RagSection, Settings
from meshwright_rag.workers import Duty, Workers

SERVICE_NAMES = (
    "meshwright.rag.v1.KnowledgeService",
    "meshwright.rag.v1.RetrievalService",
    "meshwright.rag.v1.MemoryIndexService",
)
WATCH_SECONDS = 0.3
"""How soon a change of a document's state is told to those who watch it."""

_JOB_CONNECTIONS = 4


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened."""
    own = settings.rag
    async with (
        open_database(settings.database, settings.service) as database,
        open_database(
            settings.database,
            settings.service,
            max_size=_JOB_CONNECTIONS,
            statement_timeout_seconds=JOB_STATEMENT_TIMEOUT_SECONDS,
        ) as jobs,
        open_objects(settings.objects) as objects,
        _search_stores(own, database) as stores,
        _parsing(own) as reader,
    ):
        embedder = ModelClient(
            ModelServiceStub(channels.open("model-router")),
            timeout_seconds=own.embed_timeout_seconds,
        )
        directory = DirectoryServiceStub(channels.open("session"))
        quotas = Quotas(directory, settings.service, settings.quotas)
        receipts = DocumentReceipts(
            load_record_signer(settings.identity.keys_dir), relayed=is_relayed(settings.events)
        )
        workers = _workers(own, jobs, objects, stores.indexes, reader, embedder, receipts)
        consumer = Consumer(
            CONSUMER,
            (Topic.DOCUMENT_INDEX,),
            IndexRequests(workers.nudge).handle,
            jobs,
            log=event_log(settings.events, jobs),
        )

        def register(server: grpc.aio.Server) -> None:
            knowledge = _knowledge(own, database, quotas, objects, embedder)
            add_KnowledgeServiceServicer_to_server(knowledge, server)
            retrieval = RetrievalServicer(_retrieval(own, database, stores, embedder))
            add_RetrievalServiceServicer_to_server(retrieval, server)
            memories = MemoryIndexServicer(MemoryIndex(stores.memories, embedder))
            add_MemoryIndexServiceServicer_to_server(memories, server)

        yield App(
            name=settings.service,
            register=register,
            service_names=SERVICE_NAMES,
            tasks=(
                BackgroundTask("rag-consumer", consumer.run, consumer.stop, apart=True),
                BackgroundTask("rag-workers", workers.run, workers.stop, apart=True),
            ),
            checks=(Check("database", database.probe), *stores.checks),
            stores=stored_data(
                jobs,
                PostgresDocuments(jobs, quotas, orphan_seconds=own.orphan_seconds),
                objects,
                stores.stored,
                workers.nudge,
            ),
        )


@dataclass(frozen=True, slots=True)
class _SearchStores:
    """The indexes of the settings: as searches see them, and as writers do.

    A store outside the database is no condition for serving: without it, the other side answers.
    """

    vectors: VectorIndex
    full_text: FullTextIndex
    memories: MemoryVectors
    indexes: Indexes
    checks: tuple[Check, ...]
    stored: Sequence[StoredData]
    """Those outside the database, as stores that can forget."""


@asynccontextmanager
async def _search_stores(own: RagSection, database: Database) -> AsyncIterator[_SearchStores]:
    """Open the stores. The drivers of those that are not used are not imported: they are large."""
    tables: dict[str, PutRows] = {}
    outside: list[PassageIndex] = []
    checks: tuple[Check, ...] = ()
    stored: list[StoredData] = []
    vectors: VectorIndex
    full_text: FullTextIndex
    memories: MemoryVectors
    live = LiveDocuments(database)
    async with AsyncExitStack() as stack:
        if own.vectors.is_embedded:
            vectors = pgvector = PgVectorIndex(database)
            memories = PgVectorMemories(database)
            tables[VECTORS] = put_vectors
            checks = (Check("vectors", pgvector.probe),)
        else:
            # Else the driver would read any .env above its own folder into our environment.
            os.environ.setdefault("PYTHON_DOTENV_DISABLED", "true")
            from meshwright_rag.adapters.milvus import MilvusIndex  # noqa: PLC0415
            from meshwright_rag.adapters.milvus_collections import (  # noqa: PLC0415
                open_collections,
            )
            from meshwright_rag.adapters.milvus_memories import MilvusMemories  # noqa: PLC0415
            from meshwright_rag.adapters.milvus_stores import milvus_stores  # noqa: PLC0415

            collections = await stack.enter_async_context(open_collections(own.vectors))
            vectors = milvus = MilvusIndex(collections, live)
            memories = MilvusMemories(collections)
            outside.append(milvus)
            stored += milvus_stores(collections)
        if own.full_text.is_embedded:
            full_text = PostgresFullTextIndex(database)
            tables[TERMS] = put_terms
        else:
            from meshwright_rag.adapters.elasticsearch import open_elasticsearch  # noqa: PLC0415
            from meshwright_rag.adapters.elasticsearch_store import (  # noqa: PLC0415
                ElasticsearchPassages,
            )

            full_text = elasticsearch = await stack.enter_async_context(
                open_elasticsearch(own.full_text, live)
            )
            outside.append(elasticsearch)
            stored.append(ElasticsearchPassages(elasticsearch))
        yield _SearchStores(vectors, full_text, memories, Indexes(tables, outside), checks, stored)


@asynccontextmanager
async def _parsing(own: RagSection) -> AsyncIterator[ParseProcesses]:
    processes = ParseProcesses(
        most=own.indexing_concurrency,
        timeout_seconds=own.parse_timeout_seconds,
        idle_seconds=own.parse_idle_seconds,
        memory_bytes=own.parse_memory_bytes,
    )
    try:
        yield processes
    finally:
        await processes.close()


def _knowledge(
    own: RagSection,
    database: Database,
    quotas: Quotas,
    objects: ObjectStore,
    embedder: Embedder,
) -> KnowledgeServicer:
    bases = PostgresKnowledgeBases(database)
    documents = PostgresDocuments(database, quotas, orphan_seconds=own.orphan_seconds)
    files = ObjectFiles(objects)
    return KnowledgeServicer(
        knowledge=Knowledge(bases, embedder),
        knowledge_bases=bases,
        documents=documents,
        uploads=Uploads(bases, documents, files, max_bytes=own.max_upload_bytes),
        watch=IndexingWatch(documents, poll_seconds=WATCH_SECONDS),
    )


def _retrieval(
    own: RagSection, database: Database, stores: _SearchStores, embedder: Embedder
) -> Retrieval:
    return Retrieval(
        knowledge_bases=PostgresKnowledgeBases(database),
        embedder=embedder,
        vectors=stores.vectors,
        full_text=stores.full_text,
        passages=PostgresPassages(database),
        weights=VectorWeights(own.vector_weight, own.vector_weights),
        side_seconds=own.search_side_seconds,
    )


def _workers(
    own: RagSection,
    jobs: Database,
    objects: ObjectStore,
    indexes: Indexes,
    reader: ParseProcesses,
    embedder: Embedder,
    receipts: DocumentReceipts,
) -> Workers:
    queue = PostgresWorkQueue(jobs, lease_seconds=own.lease_seconds)
    files = ObjectFiles(objects)
    indexer = Indexer(
        indexing=PostgresIndexing(jobs, indexes),
        files=files,
        reader=reader,
        embedder=embedder,
        limits=ParseLimits(
            max_pages=own.max_pages,
            max_unpacked_bytes=own.max_unpacked_bytes,
            max_unpack_ratio=own.max_unpack_ratio,
            max_passages=own.max_passages,
        ),
        sizes=ChunkSizes(
            target=own.chunk_tokens,
            overlap=own.chunk_overlap_tokens,
            least=own.chunk_tokens // 4,
        ),
        embed_batch=own.embed_batch,
    )
    erase = Duty(Eraser(PostgresErasing(jobs, indexes.outside, receipts), files, queue).run)
    return Workers(
        queue,
        {
            WorkKind.INDEX: Duty(indexer.run, indexer.give_up, own.indexing_attempts),
            WorkKind.ERASE_DOCUMENT: erase,
            WorkKind.ERASE_KNOWLEDGE_BASE: erase,
            WorkKind.DISCARD_OBJECT: erase,
        },
        most=own.indexing_concurrency,
        lease_seconds=own.lease_seconds,
        poll_seconds=own.poll_seconds,
    )
