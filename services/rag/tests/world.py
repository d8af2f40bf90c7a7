"""The whole service on a real database behind the real interceptors, and people who call it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from meshwright.model_router.v1.model_service_pb2_grpc import (
    add_ModelServiceServicer_to_server,
)
from meshwright.rag.v1 import document_pb2, knowledge_service_pb2, retrieval_service_pb2
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from meshwright_common.app import App
from meshwright_common.context import Principal
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.settings import (
    DatabaseSettings,
    IdentitySettings,
    ObjectSettings,
    RedisSettings,
)
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.mesh import Served, Substrate, calling_as, serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_model_router.app import build as build_models
from meshwright_model_router.settings import Settings as ModelSettings
from meshwright_rag.app import build
from meshwright_rag.settings import RagSection, Settings
from services.rag.tests.model import WordsModel

if TYPE_CHECKING:  # the names exist in the stubs' type files only
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub
    from meshwright.rag.v1.retrieval_service_pb2_grpc import RetrievalServiceAsyncStub

READY = document_pb2.DOCUMENT_STATE_READY
FAILED = document_pb2.DOCUMENT_STATE_FAILED
TABLES = ("documents", "document_versions", "passages", "passage_terms", "passage_vectors", "work")
SECTION = RagSection(
    max_upload_bytes=2 * 1024 * 1024,
    lease_seconds=3,
    poll_seconds=0.05,
    orphan_seconds=60,
    parse_idle_seconds=20,
    search_side_seconds=1.5,
)


@dataclass
class World:
    """What a test calls and looks into."""

    database: Database
    objects: Path
    served: Served
    model: WordsModel
    directory: QuotaDirectory
    knowledge: KnowledgeServiceAsyncStub
    retrieval: RetrievalServiceAsyncStub
    app: App
    _running: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def start_work(self, *names: str) -> None:
        """Run the service's background tasks: rag-consumer, rag-workers; all without names."""
        for task in self.app.tasks:
            if not names or task.name in names:
                self._running[task.name] = asyncio.ensure_future(task.run())

    async def stop_work(self) -> None:
        """Stop them as the runner does."""
        for task in self.app.tasks:
            if task.name in self._running and task.stop:
                task.stop()
        if self._running:
            await asyncio.wait(self._running.values())
        self._running.clear()

    @contextlib.contextmanager
    def caller(self, tenant: str, *permissions: str) -> Iterator[Principal]:
        """Call as a user of the tenant."""
        wanted = permissions or ("kb:read", "kb:write")
        with calling_as(tenant, *wanted) as call:
            assert call.principal is not None
            yield call.principal

    async def upload(
        self,
        name: str,
        content: bytes,
        *,
        base: str = "",
        metadata: dict[str, object] | None = None,
        request_id: str = "",
        piece: int = 64 * 1024,
    ) -> knowledge_service_pb2.UploadDocumentResponse:
        """Upload as the current caller."""
        header = document_pb2.DocumentHeader(
            knowledge_base_id=base,
            name=name,
            metadata=ParseDict(metadata or {}, Struct()),
            request_id=request_id,
        )
        return await self.knowledge.UploadDocument(_requests(header, content, piece))

    async def indexed(self, *document_ids: str) -> list[document_pb2.IndexingProgress]:
        """Wait until the documents are settled; return all progress that was told."""
        request = knowledge_service_pb2.WatchIndexingRequest(document_ids=document_ids)
        async with (
            asyncio.timeout(20),
            open_stream(self.knowledge.WatchIndexing(request)) as told,
        ):
            return [one.progress async for one in told]

    async def add(self, name: str, content: bytes | str, *, base: str = "") -> str:
        """Upload and index a document that has to become ready; return its id."""
        raw = content.encode() if isinstance(content, str) else content
        document_id = (await self.upload(name, raw, base=base)).document.document_id
        last = (await self.indexed(document_id))[-1]
        assert last.state == READY, last
        return document_id

    async def search(self, query: str, **fields: object) -> retrieval_service_pb2.SearchResponse:
        """Search as the current caller."""
        request = ParseDict({"query": query, **fields}, retrieval_service_pb2.SearchRequest())
        return await self.retrieval.Search(request)

    async def counts(self, tenant: str) -> dict[str, int]:
        """Return the rows that each table holds of a tenant."""
        async with unit_of_work(self.database, tenant) as connection:
            return {
                table: await connection.fetchval(
                    f"SELECT count(*) FROM {table} WHERE tenant_id = $1",  # noqa: S608
                    tenant,
                )
                for table in TABLES
            }

    def files(self) -> Sequence[Path]:
        """Return the stored original files."""
        return [one for one in self.objects.rglob("*") if one.is_file()]


async def _requests(
    header: document_pb2.DocumentHeader, content: bytes, piece: int
) -> AsyncIterator[knowledge_service_pb2.UploadDocumentRequest]:
    yield knowledge_service_pb2.UploadDocumentRequest(header=header)
    for start in range(0, len(content), piece):
        data = content[start : start + piece]
        yield knowledge_service_pb2.UploadDocumentRequest(data=data)


@contextlib.asynccontextmanager
async def open_world(
    database_settings: DatabaseSettings,
    folder: Path,
    *,
    section: RagSection = SECTION,
    substrate: Substrate = "local-copy",
    working: bool = True,
    model_redis: RedisSettings | None = None,
) -> AsyncIterator[World]:
    """Build the service and serve it; with `working`, its background tasks run.

    `model_redis`: vectors come from the real model-router, which shares with its replicas by this
    Redis and whose schema the database has to have.
    """
    model, directory = WordsModel(), QuotaDirectory()
    objects = ObjectSettings(url=f"file://{folder}/objects")
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(substrate=substrate))
        directory.register(served.local_server)
        if model_redis is not None:
            own = ModelSettings(
                database=database_settings, redis=model_redis, encryption=encryption_settings()
            )
            models = build_models(own, served.channels("model-router"))
            (await stack.enter_async_context(models)).register(served.local_server)
        else:
            add_ModelServiceServicer_to_server(model, served.local_server)
        ensure_record_key(folder / "keys")
        settings = Settings(
            database=database_settings,
            objects=objects,
            identity=IdentitySettings(keys_dir=folder / "keys"),
            rag=section,
        )
        app = await stack.enter_async_context(build(settings, served.channels("rag")))
        app.register(served.local_server)
        channels = served.channels()
        world = World(
            database=await stack.enter_async_context(open_database(database_settings, "rag")),
            objects=folder / "objects" / "tenants",
            served=served,
            model=model,
            directory=directory,
            knowledge=KnowledgeServiceStub(channels.open("rag")),
            retrieval=RetrievalServiceStub(channels.open("rag")),
            app=app,
        )
        if working:
            world.start_work()
        try:
            yield world
        finally:
            await world.stop_work()


def tenant() -> str:
    """Return a tenant nobody knows."""
    return new_id()
