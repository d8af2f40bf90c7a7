"""The service's memory beside a scripted index, and what tests do with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshwright.rag.v1.memory_index_service_pb2_grpc import (
    add_MemoryIndexServiceServicer_to_server,
)
from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceStub
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_session.memory_parts import MemoryParts, memory_parts
from meshwright_session.settings import SessionSection
from services.session.tests.memory_index import WordsIndex
from services.session.tests.world import Member, World

if TYPE_CHECKING:  # the names exist in the stubs' type files only
    from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub

FACT, PREFERENCE, SUMMARY = (
    pb.MEMORY_KIND_FACT,
    pb.MEMORY_KIND_PREFERENCE,
    pb.MEMORY_KIND_SUMMARY,
)
USER, MODEL, UNTRUSTED = (
    pb.MEMORY_ORIGIN_USER,
    pb.MEMORY_ORIGIN_MODEL,
    pb.MEMORY_ORIGIN_UNTRUSTED,
)
SMALL = SessionSection(memories_per_user=100, memory_look_seconds=0.05, summary_turns=2)


@dataclass(frozen=True)
class Mind:
    """The service's memory with a scripted index beside it."""

    world: World
    index: WordsIndex
    stub: MemoryServiceAsyncStub
    parts: MemoryParts

    async def remember(
        self, member: Member, *memories: pb.NewMemory, batch: str = "", session_id: str = ""
    ) -> Sequence[pb.Memory]:
        request = pb.RememberRequest(
            memories=memories, batch_id=batch or new_id(), session_id=session_id
        )
        with calling_as(member.principal):
            return (await self.stub.Remember(request)).memories

    async def recall(self, member: Member, query: str, **more: Any) -> pb.RecallResponse:
        with calling_as(member.principal):
            return await self.stub.Recall(pb.RecallRequest(query=query, **more))

    async def texts(self, member: Member, query: str, **more: Any) -> list[str]:
        recalled = await self.recall(member, query, **more)
        return [one.memory.text for one in recalled.memories]

    async def forget(self, member: Member, **selection: Any) -> int:
        with calling_as(member.principal):
            return (await self.stub.Forget(pb.ForgetRequest(**selection))).forgotten_count

    async def listed(self, member: Member, **more: Any) -> list[pb.Memory]:
        with calling_as(member.principal):
            return list((await self.stub.ListMemories(pb.ListMemoriesRequest(**more))).memories)

    async def waiting(self, member: Member) -> int:
        """Return how many entries of the index may not be in line."""
        async with unit_of_work(self.world.database, member.tenant_id) as connection:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM memory_index_work WHERE tenant_id = $1", member.tenant_id
                )
            )

    async def lose_leases(self, member: Member) -> None:
        """Let whoever holds work on the index be dead for long."""
        async with unit_of_work(self.world.database, member.tenant_id) as connection:
            await connection.execute(
                "UPDATE memory_index_work SET available_time = now() WHERE tenant_id = $1",
                member.tenant_id,
            )

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Run the worker for the block."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.parts.worker.run())
            try:
                yield
            finally:
                self.parts.worker.stop()
                await running


def a_mind(world: World, index: WordsIndex, settings: SessionSection = SMALL) -> Mind:
    server = world.served.local_server
    add_MemoryIndexServiceServicer_to_server(index, server)
    parts = memory_parts(settings, world.database, world.served.channels("session"), world.keys)
    parts.register(server)
    return Mind(world, index, MemoryServiceStub(world.served.channels().open("session")), parts)


def fact(text: str, topic: str = "", origin: Any = USER, **more: Any) -> pb.NewMemory:
    return pb.NewMemory(kind=more.pop("kind", FACT), text=text, topic=topic, origin=origin, **more)


async def settled(mind: Mind, owner: Member) -> None:
    async def is_settled() -> bool:
        return await mind.waiting(owner) == 0

    await eventually(is_settled)
