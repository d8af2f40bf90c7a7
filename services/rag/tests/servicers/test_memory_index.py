"""The index of memories over the stub: who may ask, what is told, who pays."""

from __future__ import annotations

import pytest

from meshwright.rag.v1 import memory_index_service_pb2 as pb
from meshwright.rag.v1.memory_index_service_pb2_grpc import MemoryIndexServiceStub
from meshwright_common.context import MESH_INTERNAL, Principal
from meshwright_common.errors import InvalidArgument, PermissionDenied, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.rag.tests.world import World, tenant

pytestmark = pytest.mark.asyncio


def session_of(tenant_id: str) -> Principal:
    """Return the service that keeps memories."""
    return Principal(tenant_id, "session", "service", frozenset({MESH_INTERNAL}))


async def test_service_finds_what_it_indexed_and_the_user_pays(idle_world: World) -> None:
    """Must show: the usage of a user's memories is the user's."""
    index = MemoryIndexServiceStub(idle_world.served.channels().open("rag"))
    tenant_id, user, memory_id = tenant(), new_id(), new_id()
    memory = pb.IndexedMemory(memory_id=memory_id, user_id=user, text="lives in Berlin")
    with calling_as(session_of(tenant_id)):
        await index.IndexMemories(pb.IndexMemoriesRequest(memories=[memory]))
        search = pb.SearchMemoriesRequest(user_id=user, query="where is Berlin", top_k=5)
        (hit,) = (await index.SearchMemories(search)).hits
        assert hit.memory_id == memory_id
        assert 0 < hit.score <= 1
        await index.RemoveMemories(pb.RemoveMemoriesRequest(user_id=user, memory_ids=[memory_id]))
        assert not (await index.SearchMemories(search)).hits
    assert {subject for subject, _ in idle_world.model.calls} == {user}


async def test_users_may_not_ask_and_bad_input_is_named(idle_world: World) -> None:
    index = MemoryIndexServiceStub(idle_world.served.channels().open("rag"))
    search = pb.SearchMemoriesRequest(user_id=new_id(), query="x", top_k=5)
    with idle_world.caller(tenant()), pytest.raises(PermissionDenied):
        await index.SearchMemories(search)
    with calling_as(session_of(tenant())):
        for request, field in (
            (pb.SearchMemoriesRequest(user_id="me", query="x", top_k=5), "user_id"),
            (pb.SearchMemoriesRequest(user_id=new_id(), query="", top_k=5), "query"),
            (pb.SearchMemoriesRequest(user_id=new_id(), query="x", top_k=201), "top_k"),
        ):
            with pytest.raises(InvalidArgument, match=field):
                await index.SearchMemories(request)
        with pytest.raises(InvalidArgument, match="memories"):
            await index.IndexMemories(pb.IndexMemoriesRequest())


async def test_search_without_embeddings_is_away_and_safe_to_repeat(idle_world: World) -> None:
    index = MemoryIndexServiceStub(idle_world.served.channels().open("rag"))
    idle_world.model.error = Unavailable("away")
    search = pb.SearchMemoriesRequest(user_id=new_id(), query="x", top_k=5)
    with calling_as(session_of(tenant())), pytest.raises(Unavailable) as caught:
        await index.SearchMemories(search, timeout=2)
    assert caught.value.reason == "SEARCH_UNAVAILABLE"
