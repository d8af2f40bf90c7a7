"""One suite for every store of an index: what is found, by whom, and what is left behind."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_rag.domain.errors import IndexIncomplete, IndexUnavailable, LeaseLost
from services.rag.tests.library import Library, Store, open_library

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

STORES: dict[Store, str] = {
    "pgvector": "",
    "milvus-lite": "milvus_lite_server",
    "milvus": "milvus_server",
    "postgres": "",
    "elasticsearch": "elasticsearch_server",
}
"""Each store and the fixture of its server, if it has one of its own."""

OUTSIDE = [name for name, fixture in STORES.items() if fixture]

MANUAL = [
    "Router | Hold the reset button for ten seconds to restore the password",
    "Router | The wireless network has a name and a key",
    "路由器 | 忘记密码时请按住重置按钮十秒钟",
    "路由器 | 打开应用程序选择无线网络",
    "Espresso machine | Descale the boiler with citric acid twice a year",
    "Packages | Install packages with apt-get and read sources.list",
]
QUESTIONS = {
    "how do I reset the password": 0,
    "wireless network key": 1,
    "忘记密码怎么重置": 2,
    "选择无线网络": 3,
    "descaling the boiler": 4,
    "apt-get install": 5,
}
"""What is asked, and the passage of the manual that has to come first, in every store."""


@pytest.fixture(scope="module")
def store_name() -> str:
    """What this module makes in shared servers begins with this."""
    return f"test_{secrets.token_hex(4)}"


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> tuple[Store, str]:
    fixture = STORES[request.param]
    return request.param, str(request.getfixturevalue(fixture)) if fixture else ""


@pytest_asyncio.fixture
async def library(
    store: tuple[Store, str], service_database: ServiceDatabase, store_name: str
) -> AsyncIterator[Library]:
    kind, url = store
    database = await service_database("meshwright_rag")
    async with open_library(kind, database, url, name=store_name) as opened:
        yield opened


@pytest_asyncio.fixture
async def narrow_library(
    store: tuple[Store, str], service_database: ServiceDatabase, store_name: str
) -> AsyncIterator[Library]:
    """One whose filters name no more than two documents."""
    kind, url = store
    database = await service_database("meshwright_rag")
    async with open_library(kind, database, url, name=store_name, named_at_most=2) as opened:
        yield opened


outside_only = pytest.mark.parametrize("store", OUTSIDE, indirect=True)


@pytest.mark.promise("STORE-01")
async def test_every_store_ranks_the_labelled_passages_first(library: Library) -> None:
    """R3, in Chinese and English; found as soon as the document answers (R2)."""
    tenant = new_id()
    base = await library.new_base(tenant)
    document = await library.add(tenant, base, MANUAL)
    for question, expected in QUESTIONS.items():
        best = (await library.search(tenant, [base], question))[0]
        assert (best.document_id, best.ordinal) == (document, expected), question


async def test_equal_searches_have_equal_answers(library: Library) -> None:
    tenant = new_id()
    base = await library.new_base(tenant)
    for _ in range(3):
        await library.add(tenant, base, ["the same words in every document"] * 2)
    first = await library.search(tenant, [base], "same words")
    assert len(first) == 6
    assert await library.search(tenant, [base], "same words") == first


@pytest.mark.promise("STORE-02")
async def test_no_tenant_finds_anything_of_another(library: Library) -> None:
    """R-21, S-09, S-11: whatever bases and documents it names."""
    mine, other = new_id(), new_id()
    my_base, other_base = await library.new_base(mine), await library.new_base(other)
    await library.add(mine, my_base, ["the color is red"])
    foreign = await library.add(other, other_base, ["the color is blue"])
    assert len(await library.search(mine, [my_base, other_base], "color")) == 1
    assert await library.search(mine, [other_base], "color") == []
    assert await library.search(mine, [my_base], "color", documents=[foreign]) == []


HOSTILE = (
    '" or tenant_id != "',
    "' or 1==1",
    '*", "*',
    '{"match_all": {}}',
    "_all",
    "{tenant}",
    "\u0430" * 36,
    "",
)


@pytest.mark.promise("STORE-02")
async def test_no_value_closes_the_clause_of_the_tenant(library: Library) -> None:
    """S-09, S-11: what is no id is refused, wherever it stands."""
    tenant, other = new_id(), new_id()
    base = await library.new_base(tenant)
    await library.add(tenant, base, ["the color is red"])
    await library.add(other, await library.new_base(other), ["the color is blue"])
    refusals = (InvalidArgument, asyncpg.DataError)
    for hostile in HOSTILE:
        with pytest.raises(refusals):
            await library.search(hostile, [base], "color")
        with pytest.raises(refusals):
            await library.search(tenant, [hostile], "color")
        with pytest.raises(refusals):
            await library.search(tenant, [base], "color", documents=[hostile])
        assert not await library.search(tenant, [base], "color", metadata={hostile: hostile})


@pytest.mark.promise("STORE-03")
async def test_what_is_put_twice_is_there_once(library: Library) -> None:
    """CP-27: an attempt that goes on where another one died."""
    tenant = new_id()
    base = await library.new_base(tenant)
    lease, task = await library.begin(tenant, base)
    for _ in range(3):
        await library.put(lease, task, MANUAL)
    assert await library.stored(tenant, task) == len(MANUAL)
    await library.publish(lease, task, len(MANUAL))
    found = await library.search(tenant, [base], "router password network")
    assert len({ref.ordinal for ref in found}) == len(found)


@pytest.mark.promise("STORE-04")
async def test_an_index_that_is_being_built_is_not_seen(library: Library) -> None:
    """R2: re-indexing without downtime; afterwards nothing is left of the old index."""
    tenant = new_id()
    base = await library.new_base(tenant)
    lease, old = await library.begin(tenant, base)
    await library.put(lease, old, ["the color is red"])
    await library.publish(lease, old, 1)
    lease, new = await library.begin(tenant, base, old.document_id)
    await library.put(lease, new, ["the color is blue", "the color is green"])
    (answer,) = await library.search(tenant, [base], "color")
    assert answer.generation == old.generation
    await library.publish(lease, new, 2)
    answers = await library.search(tenant, [base], "color")
    assert {one.generation for one in answers} == {new.generation}
    assert (await library.stored(tenant, old), await library.stored(tenant, new)) == (0, 2)


async def test_filters_hold_in_every_store(library: Library) -> None:
    tenant = new_id()
    base, elsewhere = await library.new_base(tenant), await library.new_base(tenant)
    first = await library.add(tenant, base, ["the report"], metadata={"year": 2023})
    second = await library.add(tenant, base, ["the report"], metadata={"year": 2024})
    third = await library.add(tenant, elsewhere, ["the report"], metadata={"year": 2024})

    async def found(bases: list[str], **wanted: object) -> set[str]:
        hits = await library.search(tenant, bases, "report", **wanted)  # type: ignore[arg-type]
        return {hit.document_id for hit in hits}

    assert await found([base, elsewhere]) == {first, second, third}
    assert await found([base]) == {first, second}
    assert await found([base, elsewhere], metadata={"year": 2024}) == {second, third}
    assert await found([base], documents=[first]) == {first}
    assert await found([base], metadata={"year": 1999}) == set()


@pytest.mark.promise("STORE-04")
async def test_a_deleted_document_leaves_nothing(library: Library) -> None:
    """I8, and R-21 for what was one's own."""
    tenant = new_id()
    base = await library.new_base(tenant)
    lease, task = await library.begin(tenant, base)
    await library.put(lease, task, MANUAL)
    await library.publish(lease, task, len(MANUAL))
    kept = await library.add(tenant, base, ["the password of the other document"])
    await library.delete(tenant, task.document_id)
    assert await library.stored(tenant, task) == 0
    (hit,) = await library.search(tenant, [base], "password")
    assert hit.document_id == kept


async def test_no_query_is_taken_for_syntax(library: Library) -> None:
    tenant = new_id()
    base = await library.new_base(tenant)
    await library.add(tenant, base, ["the b c d"])
    for query in ("'", "a & !b | (c:*)", "\\", "!!!", "🙂", "的", "AND OR NOT", "*", "b~", "/b/"):
        await library.search(tenant, [base], query)


async def test_unicode_of_every_kind_is_found_again(library: Library) -> None:
    tenant = new_id()
    base = await library.new_base(tenant)
    texts = ["Der Schlüssel heißt Straße", "ключ от сервера", "サーバーの鍵", "مفتاح الخادم"]
    await library.add(tenant, base, texts)
    for number, text in enumerate(texts):
        assert (await library.search(tenant, [base], text))[0].ordinal == number


async def test_an_empty_base_has_no_hits(library: Library) -> None:
    tenant = new_id()
    assert await library.search(tenant, [await library.new_base(tenant)], "anything") == []


@outside_only
async def test_a_base_of_many_documents_is_searched_by_its_own_id(
    narrow_library: Library,
) -> None:
    """With more documents than a filter names; those being built take no place in the answer."""
    library = narrow_library
    tenant = new_id()
    base = await library.new_base(tenant)
    for number in range(4):
        await library.add(tenant, base, [f"the color number {number}"])
    lease, building = await library.begin(tenant, base)
    await library.put(lease, building, ["the color"] * 20)
    found = await library.search(tenant, [base], "the color", most=4)
    assert len(found) == 4
    assert building.generation not in {ref.generation for ref in found}


@outside_only
@pytest.mark.promise("STORE-03")
async def test_a_store_that_lost_passages_is_filled_again(library: Library) -> None:
    """CP-27, I8: a document becomes ready only when every store holds all of it."""
    tenant = new_id()
    base = await library.new_base(tenant)
    lease, task = await library.begin(tenant, base)
    await library.put(lease, task, MANUAL)
    await library.outside.discard(tenant, task.document_id)
    with pytest.raises(IndexIncomplete):
        await library.publish(lease, task, len(MANUAL))
    assert await library.indexing.stored(lease, task) == frozenset()
    await library.put(lease, task, MANUAL)
    await library.publish(lease, task, len(MANUAL))
    assert await library.search(tenant, [base], "reset the password")


@outside_only
async def test_a_writer_that_lost_its_lease_takes_back_what_it_put(library: Library) -> None:
    """A worker that slept through a deletion leaves nothing in a store outside."""
    tenant = new_id()
    base = await library.new_base(tenant)
    lease, task = await library.begin(tenant, base)
    await library.put(lease, task, MANUAL[:1])
    await library.delete(tenant, task.document_id)
    with pytest.raises(LeaseLost):
        await library.put(lease, task, MANUAL[1:], first=1)
    assert await library.stored(tenant, task) == 0


@outside_only
async def test_a_failed_index_is_removed_and_an_older_one_goes_on_answering(
    library: Library,
) -> None:
    tenant = new_id()
    base = await library.new_base(tenant)
    document = await library.add(tenant, base, ["the color is red"])
    lease, task = await library.begin(tenant, base, document)
    await library.put(lease, task, ["the color is blue"])
    await library.indexing.fail(lease, reason="DOCUMENT_BROKEN", message="broken")
    assert await library.stored(tenant, task) == 0
    assert len(await library.search(tenant, [base], "color")) == 1


@outside_only
@pytest.mark.promise("STORE-02")
async def test_a_store_outside_names_the_tenant_in_every_call(library: Library) -> None:
    """R-21: one that knows the ids of another tenant's document counts and removes nothing."""
    tenant, other = new_id(), new_id()
    base = await library.new_base(tenant)
    lease, task = await library.begin(tenant, base)
    await library.put(lease, task, MANUAL)
    await library.outside.discard(other, task.document_id)
    counts = [await library.outside.count(one, task) for one in (tenant, other)]
    assert counts == [len(MANUAL), 0]


@pytest.mark.promise("STORE-05")
@pytest.mark.parametrize("kind", ["milvus", "elasticsearch"])
async def test_a_store_that_is_absent_is_unavailable_at_once(
    service_database: ServiceDatabase, kind: Store
) -> None:
    """And when it failed five times, it is left alone for a while."""
    database = await service_database("meshwright_rag")
    async with open_library(kind, database, "http://127.0.0.1:1") as library:
        tenant = new_id()
        base = await library.new_base(tenant)
        lease, task = await library.begin(tenant, base)
        causes = []
        for _ in range(7):
            with pytest.raises(IndexUnavailable) as error:
                await library.put(lease, task, MANUAL)
            causes.append(error.value.metadata["cause"])
        assert "pause" not in causes[0]
        assert "pause" in causes[-1]
        assert await library.indexing.stored(lease, task) == frozenset()
