"""Knowledge bases through the public surface."""

import asyncio

import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.types.v1.page_pb2 import PageRequest
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from services.rag.tests.model import DEFAULT_MODEL
from services.rag.tests.world import World, tenant


async def create(world: World, name: str, **fields: str) -> pb.CreateKnowledgeBaseResponse:
    return await world.knowledge.CreateKnowledgeBase(
        pb.CreateKnowledgeBaseRequest(name=name, **fields)
    )


async def names(world: World, size: int = 50) -> list[str]:
    found, token = [], ""
    while True:
        page = await world.knowledge.ListKnowledgeBases(
            pb.ListKnowledgeBasesRequest(page=PageRequest(page_size=size, page_token=token))
        )
        found += [base.name for base in page.knowledge_bases]
        token = page.page.next_page_token
        if not token:
            return found


@pytest.mark.asyncio
async def test_the_default_one_comes_into_being_when_it_is_asked_for(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        assert await names(idle_world) == []
        request = pb.GetKnowledgeBaseRequest(knowledge_base_id="default")
        first, second = await asyncio.gather(
            idle_world.knowledge.GetKnowledgeBase(request),
            idle_world.knowledge.GetKnowledgeBase(request),
        )
    assert first.knowledge_base.name == "default"
    assert first.knowledge_base.knowledge_base_id == second.knowledge_base.knowledge_base_id


@pytest.mark.asyncio
async def test_the_first_vectors_fix_the_embedding_model(world: World) -> None:
    with world.caller(tenant()):
        base = (await create(world, "docs")).knowledge_base
        assert base.embedding_model == ""
        await world.add("a.md", "some text", base=base.knowledge_base_id)
        request = pb.GetKnowledgeBaseRequest(knowledge_base_id=base.knowledge_base_id)
        base = (await world.knowledge.GetKnowledgeBase(request)).knowledge_base
    assert (base.embedding_model, base.document_count) == (DEFAULT_MODEL, 1)


@pytest.mark.asyncio
async def test_a_model_that_makes_other_vectors_is_refused(world: World) -> None:
    with world.caller(tenant()):
        await world.add("a.md", "some text")
        world.model.length = 32
        document_id = (await world.upload("b.md", b"more text")).document.document_id
        last = (await world.indexed(document_id))[-1]
    assert last.failure_reason == "FAILED_PRECONDITION"
    assert "words-64 (64)" in last.failure_message


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["docs", "default"])
async def test_a_name_is_taken_once(idle_world: World, name: str) -> None:
    with idle_world.caller(tenant()):
        await create(idle_world, "docs")
        with pytest.raises(ServiceError) as error:
            await create(idle_world, name)
    assert error.value.reason == "ALREADY_EXISTS"


@pytest.mark.asyncio
async def test_a_repeated_request_creates_one(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        first = await create(idle_world, "docs", request_id="r")
        again = await create(idle_world, "docs", request_id="r")
        assert again.knowledge_base == first.knowledge_base
        assert await names(idle_world) == ["docs"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a", "description": "d" * 2001}, "description"),
        ({"name": "a", "embedding_model": "unheard-of"}, "embedding_model"),
        ({"name": "a", "request_id": "r" * 129}, "request_id"),
    ],
)
async def test_wrong_fields_are_named(
    idle_world: World, fields: dict[str, str], wrong: str
) -> None:
    with idle_world.caller(tenant()), pytest.raises(ServiceError) as error:
        await create(idle_world, **fields)
    assert error.value.field_violations[0].field == wrong


@pytest.mark.asyncio
async def test_they_are_listed_by_name_in_pages(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        for name in ("c", "a", "b"):
            await create(idle_world, name)
        assert await names(idle_world, size=2) == ["a", "b", "c"]


@pytest.mark.asyncio
async def test_deleting_one_takes_its_documents_along(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        base = (await create(world, "docs")).knowledge_base.knowledge_base_id
        await world.add("a.md", "the color is red", base=base)
        kept = await world.add("b.md", "the color is blue")
        request = pb.DeleteKnowledgeBaseRequest(knowledge_base_id=base)
        await world.knowledge.DeleteKnowledgeBase(request)
        with pytest.raises(ServiceError) as error:
            await world.search("color", knowledgeBaseIds=[base])
        assert error.value.reason == "KNOWLEDGE_BASE_NOT_FOUND"
        await world.knowledge.DeleteKnowledgeBase(request)
        assert [one.document_id for one in (await world.search("color")).passages] == [kept]

    async def only_the_other_is_left() -> bool:
        return (await world.counts(owner)) == {
            "documents": 1, "document_versions": 1, "passages": 1, "passage_terms": 1,
            "passage_vectors": 1, "work": 0,
        }  # fmt: skip

    await eventually(only_the_other_is_left)
    assert len(world.files()) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "absent", ["01890a5d-ac96-774b-bcce-b302099a8057", "manuals", "' OR 1=1 --"]
)
async def test_an_unknown_one_is_not_found(idle_world: World, absent: str) -> None:
    with idle_world.caller(tenant()):
        for call in (
            idle_world.knowledge.GetKnowledgeBase(
                pb.GetKnowledgeBaseRequest(knowledge_base_id=absent)
            ),
            idle_world.upload("a.md", b"text", base=absent),
            idle_world.search("text", knowledgeBaseIds=[absent]),
        ):
            with pytest.raises(ServiceError) as error:
                await call
            assert error.value.reason == "KNOWLEDGE_BASE_NOT_FOUND"


@pytest.mark.asyncio
async def test_another_tenants_one_is_not_found(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        base = (await create(idle_world, "docs")).knowledge_base.knowledge_base_id
    with idle_world.caller(tenant()), pytest.raises(ServiceError) as error:
        await idle_world.search("text", knowledgeBaseIds=[base])
    assert error.value.reason == "KNOWLEDGE_BASE_NOT_FOUND"
