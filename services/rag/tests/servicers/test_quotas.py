"""Documents and bytes of a tenant end at its quota, exactly, and its administrators are told."""

import asyncio

import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright_common.context import MESH_INTERNAL, Principal
from meshwright_common.errors import FailedPrecondition, ResourceExhausted, ServiceError
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from services.rag.tests.world import World, tenant


async def outcomes(world: World, *names: str, content: bytes = b"Words to read.") -> list[str]:
    """Upload documents at the same time; return "" or the reason for each."""

    async def upload(name: str) -> str:
        try:
            await world.upload(name, content + name.encode())
        except ServiceError as error:
            return error.reason
        return ""

    return await asyncio.gather(*map(upload, names))


async def told(world: World, owner: str) -> list[tuple[str, int]]:
    """Return which shares of which quota are in the log of notifications."""
    async with unit_of_work(world.database, owner) as connection:
        rows = await connection.fetch(
            "SELECT convert_from(body, 'UTF8')::jsonb -> 'data' AS data FROM events.outbox"
            " WHERE tenant_id = $1 AND topic = 'notification' ORDER BY position",
            owner,
        )
    return [(row["data"]["details"]["quota"], row["data"]["details"]["percent"]) for row in rows]


@pytest.mark.asyncio
async def test_of_many_uploads_at_once_as_many_succeed_as_there_may_be_documents(
    idle_world: World,
) -> None:
    owner = tenant()
    idle_world.directory.limits[owner] = tenant_pb2.Quota(max_documents=5)
    with idle_world.caller(owner):
        bases = [
            (await idle_world.knowledge.CreateKnowledgeBase(
                pb.CreateKnowledgeBaseRequest(name=f"base {number}")
            )).knowledge_base.knowledge_base_id
            for number in range(3)
        ]  # fmt: skip

        async def upload(number: int) -> ServiceError | None:
            try:
                await idle_world.upload(f"{number}.txt", b"%d" % number, base=bases[number % 3])
            except ServiceError as error:
                return error
            return None

        got = await asyncio.gather(*map(upload, range(12)))
    refused = [error for error in got if error is not None]
    assert (5, 7) == (len(got) - len(refused), len(refused))
    assert {("QUOTA_EXCEEDED", "documents", "5", "5")} == {
        (error.reason, error.metadata["quota"], error.metadata["limit"], error.metadata["used"])
        for error in refused
    }


@pytest.mark.asyncio
async def test_bytes_of_current_versions_count_and_a_deleted_document_makes_room(
    idle_world: World,
) -> None:
    owner = tenant()
    idle_world.directory.limits[owner] = tenant_pb2.Quota(max_storage_bytes=100)
    with idle_world.caller(owner):
        first = await idle_world.upload("a.txt", b"a" * 60)
        with pytest.raises(ResourceExhausted) as refused:
            await idle_world.upload("b.txt", b"b" * 41)
        assert ("storage_bytes", "60") == (
            refused.value.metadata["quota"],
            refused.value.metadata["used"],
        )
        await idle_world.upload("a.txt", b"A" * 100)
        with pytest.raises(ResourceExhausted):
            await idle_world.upload("a.txt", b"A" * 101)
        await idle_world.knowledge.DeleteDocument(
            pb.DeleteDocumentRequest(document_id=first.document.document_id)
        )
        await idle_world.upload("b.txt", b"b" * 41)
    with calling_as(Principal(owner, "session", "service", frozenset({MESH_INTERNAL}))):
        use = await idle_world.knowledge.GetStorageUse(pb.GetStorageUseRequest())
    assert (1, 41) == (use.documents, use.storage_bytes)


@pytest.mark.asyncio
async def test_each_share_of_a_quota_is_told_once_a_day(idle_world: World) -> None:
    owner = tenant()
    idle_world.directory.limits[owner] = tenant_pb2.Quota(max_documents=10)
    with idle_world.caller(owner):
        await outcomes(idle_world, *(f"{number}.txt" for number in range(9)))
        assert [("documents", 80), ("documents", 90)] == await told(idle_world, owner)
        document = (await idle_world.upload("9.txt", b"nine")).document
        await idle_world.knowledge.DeleteDocument(
            pb.DeleteDocumentRequest(document_id=document.document_id)
        )
        await idle_world.upload("again.txt", b"nine again")
    assert [80, 90, 100] == [percent for _, percent in await told(idle_world, owner)]


@pytest.mark.asyncio
async def test_a_suspended_tenant_uploads_nothing(idle_world: World) -> None:
    owner = tenant()
    idle_world.directory.suspended.add(owner)
    with idle_world.caller(owner):
        with pytest.raises(FailedPrecondition) as refused:
            await idle_world.upload("a.txt", b"Words.")
        assert "TENANT_SUSPENDED" == refused.value.reason
    assert not idle_world.files()
