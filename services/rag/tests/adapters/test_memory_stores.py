"""One suite for every store of memories: found at once, by their user alone, and removed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import security_violations, unscoped
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_rag.adapters.milvus_collections import open_collections
from meshwright_rag.adapters.milvus_memories import MilvusMemories
from meshwright_rag.adapters.pgvector_memories import PgVectorMemories
from meshwright_rag.domain.memory_ports import Memory, MemoryVectors
from meshwright_rag.settings import VectorSettings
from services.rag.tests.model import vector_of_words

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

STORES = {"pgvector": "", "milvus-lite": "milvus_lite_server", "milvus": "milvus_server"}
LENGTH = 256
MODEL = "words"


@pytest_asyncio.fixture(params=STORES)
async def vectors(
    request: pytest.FixtureRequest, service_database: ServiceDatabase
) -> AsyncIterator[MemoryVectors]:
    if request.param == "pgvector":
        yield PgVectorMemories(await service_database("meshwright_rag"))
        return
    url = str(request.getfixturevalue(STORES[request.param]))
    settings = VectorSettings(url=url, memories=f"test_{secrets.token_hex(4)}")
    async with open_collections(settings) as collections:
        yield MilvusMemories(collections)


async def put(
    vectors: MemoryVectors, tenant: str, user: str, texts: Sequence[str], model: str = MODEL
) -> list[str]:
    memories = [Memory(new_id(), user, text) for text in texts]
    made = [vector_of_words(text, LENGTH) for text in texts]
    await vectors.put(tenant, model, memories, made)
    return [memory.memory_id for memory in memories]


async def found(
    vectors: MemoryVectors, tenant: str, user: str, query: str, model: str = MODEL
) -> list[str]:
    hits = await vectors.search(tenant, user, model, vector_of_words(query, LENGTH), most=10)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1.00001 for score in scores)
    return [hit.memory_id for hit in hits]


async def test_memory_is_found_when_the_call_returns_and_by_its_user_alone(
    vectors: MemoryVectors,
) -> None:
    tenant, user, other = new_id(), new_id(), new_id()
    assert await found(vectors, tenant, user, "anything at all") == []
    mine = await put(vectors, tenant, user, ["lives in Berlin", "likes green tea"])
    theirs = await put(vectors, tenant, other, ["lives in Berlin too"])
    assert (await found(vectors, tenant, user, "Berlin"))[0] == mine[0]
    assert set(await found(vectors, tenant, user, "green tea")) == set(mine)
    assert await found(vectors, tenant, other, "Berlin") == theirs
    assert await found(vectors, new_id(), user, "Berlin") == []


async def test_memory_is_put_anew_in_place_and_vectors_of_another_model_are_not_compared(
    vectors: MemoryVectors,
) -> None:
    tenant, user = new_id(), new_id()
    memory = Memory(new_id(), user, "")
    for text in ("lives in Berlin", "lives in Paris"):
        await vectors.put(tenant, MODEL, [memory], [vector_of_words(text, LENGTH)])
    (hit,) = await vectors.search(tenant, user, MODEL, vector_of_words("Paris", LENGTH), most=10)
    assert (hit.memory_id, hit.score > 0.5) == (memory.memory_id, True)
    assert await found(vectors, tenant, user, "Paris", model="other") == []


async def test_removed_memory_is_not_found_when_the_call_returns(vectors: MemoryVectors) -> None:
    tenant, user, other = new_id(), new_id(), new_id()
    first, second, third = await put(vectors, tenant, user, ["one", "two", "three"])
    kept = await put(vectors, tenant, other, ["one"])
    await vectors.remove(tenant, user, [first, new_id()])
    assert set(await found(vectors, tenant, user, "one two")) == {second, third}
    # An id of somebody else's, named as if it were one's own, stays.
    await vectors.remove(tenant, user, kept)
    assert await found(vectors, tenant, other, "one") == kept
    await vectors.remove(tenant, user, [])
    assert await found(vectors, tenant, user, "two three") == []
    assert await found(vectors, tenant, other, "one") == kept


async def test_table_of_memories_keeps_tenants_apart(service_database: ServiceDatabase) -> None:
    database = await service_database("meshwright_rag")
    vectors = PgVectorMemories(database)
    tenant, user = new_id(), new_id()
    await put(vectors, tenant, user, ["secret"])
    async with unscoped(database) as connection:
        assert await connection.fetch("SELECT FROM memory_vectors") == []
        assert await security_violations(connection, ["rag"]) == []
