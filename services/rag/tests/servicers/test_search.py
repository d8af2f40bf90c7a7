"""Searching through the public surface: both sides, filters, neighbours, and parts away."""

import asyncio

import asyncpg
import pytest

from meshwright.rag.v1 import knowledge_service_pb2, retrieval_service_pb2
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.testing.engines import PostgresServer
from services.rag.tests.pdfs import Text, lines, make_pdf
from services.rag.tests.world import World, tenant

CHINESE = """# 路由器手册

## 重置密码

忘记密码时，请按住重置按钮十秒钟。

## 无线网络

打开应用程序，选择无线网络并输入密码。
"""


@pytest.mark.asyncio
async def test_a_hit_carries_what_a_citation_needs(world: World) -> None:
    filler = lines(*(f"Filler line {number} about other things." for number in range(20)))
    pdf = make_pdf([filler, [Text("The warranty lasts two years.")], filler])
    with world.caller(tenant()):
        document_id = await world.add("terms.pdf", pdf)
        best = (await world.search("how long is the warranty", topK=1)).passages[0]
    assert (best.document_id, best.document_name, best.page, best.end_page) == (
        document_id, "terms.pdf", 2, 2,
    )  # fmt: skip
    assert best.text == "The warranty lasts two years."
    assert best.end_offset - best.start_offset == len(best.text)
    assert best.chunk_id
    assert (best.vector_rank, best.text_rank) == (1, 1)
    assert best.score == pytest.approx(1.0)


@pytest.mark.asyncio
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
async def test_chinese_questions_find_their_section(world: World, weight: float) -> None:
    with world.caller(tenant()):
        await world.add("手册.md", CHINESE)
        found = await world.search("密码忘记了怎么重置？", vectorWeight=weight)
    assert "十秒钟" in found.passages[0].text
    assert list(found.degraded) == []


@pytest.mark.asyncio
async def test_words_match_in_every_inflection_width_and_case(world: World) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "Partitions are resized with PARTED before the café opens.")
        for query in ("resizing a partition", "\uff50\uff41\uff52\uff54\uff45\uff44", "Cafe"):
            assert (await world.search(query, vectorWeight=0.0)).passages, query


@pytest.mark.asyncio
async def test_only_documents_with_the_wanted_metadata_are_found(world: World) -> None:
    with world.caller(tenant()):
        for year in (2023, 2024):
            answer = await world.upload(
                f"{year}.md", f"report of {year}".encode(), metadata={"year": year, "ok": True}
            )
            await world.indexed(answer.document.document_id)
        found = await world.search("report", metadataFilter={"year": 2024, "ok": True})
    assert [one.document_name for one in found.passages] == ["2024.md"]
    assert found.passages[0].metadata["year"] == 2024


@pytest.mark.asyncio
async def test_only_wanted_documents_and_knowledge_bases_are_searched(world: World) -> None:
    with world.caller(tenant()):
        created = await world.knowledge.CreateKnowledgeBase(
            knowledge_service_pb2.CreateKnowledgeBaseRequest(name="other")
        )
        other = created.knowledge_base.knowledge_base_id
        one = await world.add("one.md", "the color is red")
        two = await world.add("two.md", "the color is blue")
        three = await world.add("three.md", "the color is green", base=other)
        everywhere = await world.search("color", knowledgeBaseIds=["default", other])
        assert {hit.document_id for hit in everywhere.passages} == {one, two, three}
        only = await world.search("color", documentIds=[two])
        assert {hit.document_id for hit in only.passages} == {two}
        elsewhere = await world.search("color", knowledgeBaseIds=[other])
        assert {hit.document_id for hit in elsewhere.passages} == {three}


@pytest.mark.asyncio
async def test_neighbours_are_added_without_repeating_what_overlaps(world: World) -> None:
    text = " ".join(f"Sentence number {number} says something." for number in range(200))
    with world.caller(tenant()):
        await world.add("a.txt", text)
        plain = (await world.search("Sentence number 100", topK=1, vectorWeight=0.0)).passages[0]
        wide = (
            await world.search("Sentence number 100", topK=1, vectorWeight=0.0, neighbours=1)
        ).passages[0]
    assert plain.text in wide.text
    assert wide.start_offset < plain.start_offset
    assert wide.end_offset > plain.end_offset
    assert wide.text.split() == text[wide.start_offset : wide.end_offset].split()


@pytest.mark.asyncio
async def test_without_the_embedding_model_the_words_answer_and_say_so(world: World) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "the color is red")
        world.model.error = Unavailable("away")
        found = await world.search("color")
        assert list(found.degraded) == ["vector"]
        assert found.passages[0].text == "the color is red"
        with pytest.raises(ServiceError) as error:
            await world.search("color", vectorWeight=1.0)
    assert error.value.reason == "SEARCH_UNAVAILABLE"


@pytest.mark.asyncio
async def test_a_side_that_hangs_does_not_hold_up_the_answer(world: World) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "the color is red")
        world.model.gate = asyncio.Event()
        async with asyncio.timeout(20):
            found = await world.search("color")
    assert list(found.degraded) == ["vector"]
    assert found.passages


@pytest.mark.asyncio
async def test_without_the_full_text_index_the_vectors_answer_and_say_so(
    world: World, postgres_server: PostgresServer
) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "the color is red")
        async with world.database.connection() as connection:
            name = await connection.fetchval("SELECT current_database()")
        owner = await asyncpg.connect(postgres_server.settings_of(name).url_for("owner"))
        try:
            async with owner.transaction():
                await owner.execute("LOCK TABLE rag.passage_terms")
                found = await world.search("color")
        finally:
            await owner.close()
    assert list(found.degraded) == ["text"]
    assert found.passages


@pytest.mark.asyncio
async def test_equal_searches_have_equal_answers(world: World) -> None:
    with world.caller(tenant()):
        for number in range(8):
            await world.add(f"{number}.md", f"the same words in every file, {number}")
        first = await world.search("same words")
        second = await world.search("same words")
    assert first == second


@pytest.mark.asyncio
async def test_an_empty_knowledge_base_has_no_hits(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        found = await idle_world.search("anything")
    assert (list(found.passages), list(found.degraded)) == ([], [])


@pytest.mark.asyncio
@pytest.mark.parametrize("query", ["'", "a & !b | (c:*)", "\\", ":*", "!!!", "the", "的", "🙂"])
async def test_no_query_is_taken_for_syntax(world: World, query: str) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "the b c d")
        found = await world.search(query, vectorWeight=0.0)
    assert list(found.degraded) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"query": ""}, "query"),
        ({"query": "  "}, "query"),
        ({"query": "x" * 4001}, "query"),
        ({"query": "x", "topK": 51}, "top_k"),
        ({"query": "x", "topK": -1}, "top_k"),
        ({"query": "x", "vectorWeight": 1.5}, "vector_weight"),
        ({"query": "x", "vectorWeight": "NaN"}, "vector_weight"),
        ({"query": "x", "neighbours": 3}, "neighbours"),
        ({"query": "x", "documentIds": ["no id"]}, "document_ids"),
        ({"query": "x", "knowledgeBaseIds": ["default"] * 17}, "knowledge_base_ids"),
    ],
)
async def test_wrong_fields_are_named(
    idle_world: World, fields: dict[str, object], wrong: str
) -> None:
    with idle_world.caller(tenant()), pytest.raises(ServiceError) as error:
        await idle_world.search(**fields)  # type: ignore[arg-type]
    assert error.value.field_violations[0].field == wrong


@pytest.mark.asyncio
async def test_several_searches_answer_in_their_order(world: World) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "apples are red")
        await world.add("b.md", "bananas are yellow")
        searches = [
            retrieval_service_pb2.SearchRequest(query=query, top_k=1)
            for query in ("bananas", "apples", "bananas")
        ]
        answer = await world.retrieval.BatchSearch(
            retrieval_service_pb2.BatchSearchRequest(searches=searches)
        )
    assert [one.passages[0].document_name for one in answer.results] == ["b.md", "a.md", "b.md"]


@pytest.mark.asyncio
async def test_embedding_for_a_search_is_ours_when_the_caller_may_not_call_models(
    world: World,
) -> None:
    owner = tenant()
    with world.caller(owner) as uploader:
        await world.add("a.md", "the color is red")
        await world.search("color")
    with world.caller(owner, "kb:read", "model:invoke") as caller:
        await world.search("color")
    assert [subject for subject, _ in world.model.calls] == [
        uploader.subject, "rag", caller.subject,
    ]  # fmt: skip
