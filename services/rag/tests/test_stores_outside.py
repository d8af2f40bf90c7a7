"""The service with Milvus and Elasticsearch: as a whole, and while one or both are away."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2, retrieval_service_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_common.testing.servers.elasticsearch import ElasticsearchServer
from meshwright_common.testing.servers.milvus import MilvusLiteServer
from meshwright_common.testing.waiting import eventually
from meshwright_rag.settings import FullTextSettings, RagSection, VectorSettings
from services.rag.tests.world import READY, SECTION, World, open_world, tenant

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

MANUAL = "# Router\n\nHold the reset button.\n\n# 路由器\n\n忘记密码时请按住重置按钮十秒钟。\n"


def outside(vectors: str, full_text: str) -> RagSection:
    """Return settings with both indexes outside the database, under names nobody else uses."""
    name = f"test_{secrets.token_hex(4)}"
    return SECTION.model_copy(
        update={
            "vectors": VectorSettings(url=vectors, collection=name),
            "full_text": FullTextSettings(url=full_text, index=name),
        }
    )


@pytest_asyncio.fixture
async def outside_world(
    database_settings: DatabaseSettingsFor,
    tmp_path: Path,
    milvus_server: str,
    elasticsearch_server: str,
) -> AsyncIterator[World]:
    """The service on servers that all tests share."""
    settings = await database_settings("meshwright_rag")
    section = outside(milvus_server, elasticsearch_server)
    async with open_world(settings, tmp_path, section=section) as world:
        yield world


@pytest_asyncio.fixture
async def older_world(
    debian_postgres: str, tmp_path: Path, milvus_server: str, elasticsearch_server: str
) -> AsyncIterator[World]:
    """The service on PostgreSQL 15, which has no pgvector here."""
    server = PostgresServer(debian_postgres, str(urlsplit(debian_postgres).password))
    name = await server.clone("meshwright_rag")
    section = outside(milvus_server, elasticsearch_server)
    async with open_world(server.settings_of(name), tmp_path, section=section) as world:
        yield world
    await server.drop(name)


@pytest.fixture(scope="module")
def milvus_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLiteServer]:
    """A server that tests stop."""
    server = MilvusLiteServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def elasticsearch_of_ours(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ElasticsearchServer]:
    """A server that tests stop."""
    server = ElasticsearchServer(tmp_path_factory.mktemp("elasticsearch"))
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def world_on_milvus(
    database_settings: DatabaseSettingsFor,
    tmp_path: Path,
    milvus_of_ours: MilvusLiteServer,
    elasticsearch_server: str,
) -> AsyncIterator[World]:
    """The service on a Milvus that the test stops; it runs at the beginning."""
    milvus_of_ours.start()
    settings = await database_settings("meshwright_rag")
    section = outside(milvus_of_ours.url, elasticsearch_server)
    async with open_world(settings, tmp_path, section=section) as world:
        yield world


@pytest_asyncio.fixture
async def frail_world(
    database_settings: DatabaseSettingsFor,
    tmp_path: Path,
    milvus_of_ours: MilvusLiteServer,
    elasticsearch_of_ours: ElasticsearchServer,
) -> AsyncIterator[World]:
    """The service on two servers that the test stops; they run at the beginning."""
    milvus_of_ours.start()
    settings = await database_settings("meshwright_rag")
    section = outside(milvus_of_ours.url, elasticsearch_of_ours.url)
    async with open_world(settings, tmp_path, section=section) as world:
        yield world


async def whole_search(world: World, question: str) -> retrieval_service_pb2.SearchResponse:
    """Search until both sides answered: the first search of a cold server may be too slow."""
    answers: list[retrieval_service_pb2.SearchResponse] = []

    async def is_whole() -> bool:
        answers.append(await world.search(question))
        return not answers[-1].degraded

    await eventually(is_whole, timeout_seconds=30)
    return answers[-1]


async def test_a_document_is_found_by_both_sides_and_leaves_neither_behind(
    outside_world: World,
) -> None:
    """R1-R3 in the arrangement of production."""
    world, owner = outside_world, tenant()
    with world.caller(owner):
        document = await world.add("manual.md", MANUAL)
        for question in ("reset button", "忘记密码"):
            best = (await whole_search(world, question)).passages[0]
            assert (best.document_id, best.vector_rank, best.text_rank) == (document, 1, 1)
        # What is not used is not filled.
        counts = await world.counts(owner)
        assert (counts["passage_terms"], counts["passage_vectors"]) == (0, 0)
        await world.knowledge.DeleteDocument(
            knowledge_service_pb2.DeleteDocumentRequest(document_id=document)
        )
        assert not (await world.search("reset button")).passages

        async def erased() -> bool:
            return not any((await world.counts(owner)).values())

        await eventually(erased, timeout_seconds=20)


async def test_a_new_version_replaces_the_old_one(outside_world: World) -> None:
    """R2."""
    world = outside_world
    with world.caller(tenant()):
        document = await world.add("color.md", "the color is red")
        assert await world.add("color.md", "the color is blue") == document
        texts = [one.text for one in (await whole_search(world, "color")).passages]
    assert texts == ["the color is blue"]


@pytest.mark.promise("STORE-07")
async def test_the_service_needs_no_pgvector_beside_milvus(older_world: World) -> None:
    """engines.md: the embedded index alone wants it. And it is no condition for serving: R-29."""
    world, owner = older_world, tenant()
    assert [check.name for check in world.app.checks] == ["database"]
    with world.caller(owner):
        document = await world.add("color.md", "the color is red")
        found = await whole_search(world, "color")
        assert [one.document_id for one in found.passages] == [document]
        await world.knowledge.DeleteDocument(
            knowledge_service_pb2.DeleteDocumentRequest(document_id=document)
        )

        async def erased() -> bool:
            async with unit_of_work(world.database, owner) as connection:
                return not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM documents WHERE tenant_id = $1)", owner
                )

        await eventually(erased, timeout_seconds=20)


@pytest.mark.promise("STORE-05")
async def test_one_store_away_leaves_the_other_and_both_are_told(
    frail_world: World,
    milvus_of_ours: MilvusLiteServer,
    elasticsearch_of_ours: ElasticsearchServer,
) -> None:
    """R4, R-29, F-32, F-34: and all is well again without a restart of ours."""
    world = frail_world
    with world.caller(tenant()):
        await world.add("manual.md", MANUAL)

        async def degraded() -> list[str]:
            try:
                found = await world.search("reset button")
            except ServiceError:
                return ["text", "vector"]
            assert found.passages
            return list(found.degraded)

        async def whole() -> bool:
            return not await degraded()

        await eventually(whole, timeout_seconds=30)
        milvus_of_ours.kill()
        assert "vector" in await degraded()
        elasticsearch_of_ours.pause()
        with pytest.raises(ServiceError) as error:
            await world.search("reset button")
        assert error.value.reason == "SEARCH_UNAVAILABLE"
        milvus_of_ours.start()

        async def half() -> bool:
            return await degraded() == ["text"]

        await eventually(half, timeout_seconds=30)
        elasticsearch_of_ours.resume()
        await eventually(whole, timeout_seconds=60)
        elasticsearch_of_ours.kill()
        assert "text" in await degraded()


@pytest.mark.promise("STORE-05")
async def test_a_store_that_hangs_holds_up_no_answer(
    world_on_milvus: World, milvus_of_ours: MilvusLiteServer
) -> None:
    """F-32 (STOP), F-33."""
    world = world_on_milvus
    with world.caller(tenant()):
        await world.add("manual.md", MANUAL)
        milvus_of_ours.pause()
        try:
            for _ in range(8):
                found = await world.search("reset button")
                assert list(found.degraded) == ["vector"]
                assert found.passages
        finally:
            milvus_of_ours.resume()


@pytest.mark.promise("STORE-06")
async def test_indexing_waits_for_a_store_that_is_away(
    world_on_milvus: World, milvus_of_ours: MilvusLiteServer
) -> None:
    """F-32: the document is not failed, however long the outage is; deleting waits, too."""
    world, owner = world_on_milvus, tenant()
    with world.caller(owner):
        gone = await world.add("gone.md", "the color is blue")
        milvus_of_ours.kill()
        document = (await world.upload("manual.md", MANUAL.encode())).document.document_id
        await world.knowledge.DeleteDocument(
            knowledge_service_pb2.DeleteDocumentRequest(document_id=gone)
        )

        async def stage() -> int:
            answer = await world.knowledge.GetDocument(
                knowledge_service_pb2.GetDocumentRequest(document_id=document)
            )
            return int(answer.document.state)

        async def attempted() -> bool:
            return await stage() == document_pb2.DOCUMENT_STATE_INDEXING

        await eventually(attempted)
        milvus_of_ours.start()

        async def ready() -> bool:
            return await stage() == READY

        await eventually(ready, timeout_seconds=60)
        await whole_search(world, "reset button")

        async def erased() -> bool:
            return (await world.counts(owner))["work"] == 0

        await eventually(erased, timeout_seconds=30)
        assert (await world.counts(owner))["documents"] == 1
