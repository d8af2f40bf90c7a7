"""Instances of a peer, and a channel over them, for tests of balancing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2_grpc
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright_common.clock import SystemClock
from meshwright_common.ids import new_id
from meshwright_common.registry.known import Known
from meshwright_common.registry.ports import Endpoint
from meshwright_common.rpc.balanced import BalancedChannel
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.rpc.transport import Transport
from meshwright_common.testing.waiting import eventually

Context = grpc.aio.ServicerContext[Any, Any]
GET = pb.GetDocumentRequest()
REINDEX = pb.ReindexRequest()
TENANT = new_id()
READ = ("kb:read", "kb:write")


@dataclass(slots=True)
class Instance(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    """A process of rag as others see it. Answers with its name; `fails`: it is unavailable."""

    name: str
    port: int = 0
    fails: bool = False
    calls: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    _server: grpc.aio.Server | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"127.0.0.1:{self.port}")

    def weighing(self, weight: int) -> Endpoint:
        return Endpoint(f"127.0.0.1:{self.port}", weight)

    async def start(self) -> None:
        """Serve, at the port of the last time."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self, grace: float | None = None) -> None:
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        await self._answer(context)
        return pb.GetDocumentResponse(document=document_pb2.Document(name=self.name))

    async def Reindex(self, request: pb.ReindexRequest, context: Context) -> pb.ReindexResponse:
        await self._answer(context)
        return pb.ReindexResponse()

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
    ) -> pb.UploadDocumentResponse:
        await self._answer(context)
        parts = [request.data async for request in request_iterator]
        name = b"".join(parts).decode()
        return pb.UploadDocumentResponse(document=document_pb2.Document(name=name))

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        await self._answer(context)
        for word in ("first", "last"):
            progress = document_pb2.IndexingProgress(document_id=f"{self.name} {word}")
            yield pb.WatchIndexingResponse(progress=progress)
            if word == "first":
                await self.release.wait()

    async def _answer(self, context: Context) -> None:
        self.calls += 1
        if self.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")


@dataclass(slots=True)
class Peers:
    """Instances that are there, and a channel over those that are known."""

    instances: list[Instance]
    known: Known
    channel: BalancedChannel
    policy: PolicyChannel

    @property
    def raw(self) -> knowledge_service_pb2_grpc.KnowledgeServiceAsyncStub:
        """A stub that sees what gRPC says."""
        return knowledge_service_pb2_grpc.KnowledgeServiceStub(self.channel)

    @property
    def stub(self) -> knowledge_service_pb2_grpc.KnowledgeServiceAsyncStub:
        """A stub with the policy of the mesh."""
        return knowledge_service_pb2_grpc.KnowledgeServiceStub(self.policy)

    def tell(self, *endpoints: Endpoint) -> None:
        self.known.tell(endpoints)

    async def names(self, calls: int) -> Counter[str]:
        """Return who answered how many of some calls."""
        return Counter([(await self.raw.GetDocument(GET)).document.name for _ in range(calls)])


@asynccontextmanager
async def peers(count: int, *, known: bool = True) -> AsyncIterator[Peers]:
    """Run `count` instances, called a, b, c; all of them are known unless told otherwise."""
    instances = [Instance(name) for name in "abcdef"[:count]]
    for instance in instances:
        await instance.start()
    table = Known([one.endpoint for one in instances] if known else [])
    transport = Transport()
    channel = BalancedChannel(
        "rag", table.watch, lambda address: transport.open_channel("rag", address)
    )
    policy = PolicyChannel(channel, CallPolicy("rag", lambda _: "token"), SystemClock())
    made = Peers(instances, table, channel, policy)
    try:
        yield made
    finally:
        await channel.close()
        for instance in instances:
            instance.release.set()
            await instance.stop()


async def all_connected(made: Peers) -> None:
    """Return when every instance has answered."""
    await eventually(lambda: connected(made))


async def connected(made: Peers) -> bool:
    return len(await made.names(len(made.instances) * 4)) == len(made.instances)
