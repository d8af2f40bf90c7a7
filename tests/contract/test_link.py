"""What the stream that two processes share adds to the promises of every channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from meshwright.rag.v1 import document_pb2
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright_common.health import Health
from meshwright_common.ids import new_id
from meshwright_common.rpc import link_frames as wire
from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES
from meshwright_common.rpc.link_channel import LinkChannel
from meshwright_common.rpc.link_flow import WINDOW_BYTES
from meshwright_common.rpc.link_outbox import BATCH_BYTES, Outbox
from meshwright_common.rpc.pool import NotSent
from meshwright_common.rpc.server import create_server
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import RpcSettings
from meshwright_common.testing.mesh import Served, serving, user
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
TENANT = new_id()
READ = ("kb:read", "kb:write")
GET = pb.GetDocumentRequest()
WATCH = pb.WatchIndexingRequest()
LONG = "." * (MAX_MESSAGE_BYTES // 2)


class Library(KnowledgeServiceServicer):
    """Streams until it is released, answers with what it got, and counts."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.produced = 0
        self.served = 0

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        self.served += 1
        if request.document_id == "wait":
            await self.release.wait()
        return pb.GetDocumentResponse(document=document_pb2.Document(name=request.document_id))

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        self.served += 1
        padding = request.document_ids[0] if request.document_ids else ""
        while not self.release.is_set():
            self.produced += 1
            yield pb.WatchIndexingResponse(
                progress=document_pb2.IndexingProgress(document_id=f"{self.produced}{padding}")
            )
            if not padding:
                await self.release.wait()

    def register(self, server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(self, server)


class Linked:
    """A service reached over one link."""

    def __init__(self, served: Served, channel: LinkChannel) -> None:
        self.served = served
        self.channel = channel
        self.stub: Any = KnowledgeServiceStub(channel)
        self.credentials = served.credentials(user(TENANT, *READ))

    def get(self, document_id: str = "x", timeout: float = 10) -> Any:
        request = pb.GetDocumentRequest(document_id=document_id)
        return self.stub.GetDocument(request, metadata=self.credentials, timeout=timeout)

    def watch(self, padding: str = "") -> Any:
        request = pb.WatchIndexingRequest(document_ids=[padding] if padding else [])
        return self.stub.WatchIndexing(request, metadata=self.credentials, timeout=20)


@asynccontextmanager
async def linked(library: Library, turn_seconds: float = 25) -> AsyncIterator[Linked]:
    async with serving(library.register, substrate="link") as served:
        inner = Transport().open_channel("rag", served.address)
        async with LinkChannel(inner, turn_seconds) as channel:
            await asyncio.wait_for(channel.channel_ready(), 20)
            assert channel.link is not None
            yield Linked(served, channel)


@pytest.mark.promise("LK-01")
async def test_frames_wait_for_the_write_before_them_and_for_nothing_else() -> None:
    written: list[bytes] = []
    may_go_on = asyncio.Semaphore(0)

    async def write(batch: bytes) -> None:
        written.append(batch)
        await may_go_on.acquire()

    outbox = Outbox(asyncio.get_running_loop())
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.run(write))
        outbox.send(b"1")
        await eventually(lambda: written == [b"1"])
        for frame in (b"2", b"3", b"4"):
            outbox.send(frame)
        outbox.send(b"long" * BATCH_BYTES, bulk=True)
        outbox.send(b"urgent")
        may_go_on.release()
        await eventually(lambda: len(written) == 2)
        assert written[1].startswith(b"234urgent")
        outbox.close()
        may_go_on.release()


@pytest.mark.promise("LK-01")
async def test_long_messages_of_all_kinds_arrive_whole() -> None:
    async def parts() -> AsyncIterator[pb.UploadDocumentRequest]:
        for letter in (b"a", b"b"):
            yield pb.UploadDocumentRequest(data=letter * (MAX_MESSAGE_BYTES // 2))

    class Store(Library):
        async def UploadDocument(
            self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
        ) -> pb.UploadDocumentResponse:
            got = [request.data async for request in request_iterator]
            return pb.UploadDocumentResponse(
                document=document_pb2.Document(size_bytes=sum(map(len, got)))
            )

    async with linked(Store()) as made:
        assert LONG == (await made.get(LONG)).document.name
        uploaded = await made.stub.UploadDocument(parts(), metadata=made.credentials, timeout=10)
        assert MAX_MESSAGE_BYTES == uploaded.document.size_bytes
        messages = aiter(made.watch(LONG))
        for number in ("1", "2", "3"):
            assert number + LONG == (await anext(messages)).progress.document_id


@pytest.mark.promise("LK-02")
async def test_a_slow_reader_stops_its_own_stream_alone() -> None:
    library = Library()
    async with linked(library) as made:
        slow = made.watch("." * 1000)
        reader = aiter(slow)
        await anext(reader)
        await stands_still(lambda: library.produced)
        held = library.produced
        assert held * 1000 <= WINDOW_BYTES + 2000
        quick = aiter(made.watch())
        assert "1" != (await anext(quick)).progress.document_id
        for _ in range(50):
            await made.get()
        assert library.produced <= held + 2
        for _ in range(held):
            await anext(reader)
        await eventually(lambda: library.produced > held + 2)
        slow.cancel()
        library.release.set()


async def stands_still(count: Callable[[], int]) -> None:
    """Return when a count has not changed over many turns of the loop and its sockets."""
    seen = -1
    while seen != count():
        seen = count()
        for _ in range(50):
            await asyncio.sleep(0.001)


@pytest.mark.promise("LK-05")
async def test_a_server_that_stops_ends_what_runs_and_refuses_the_rest_as_not_begun() -> None:
    library = Library()
    async with linked(library) as made:
        link = made.channel.link
        assert link is not None
        running = asyncio.ensure_future(made.get("wait"))
        await eventually(lambda: library.served == 1)
        stopping = asyncio.ensure_future(made.served.local_server.stop(10))
        # In the moment before the client is told.
        late = made.get()
        with pytest.raises(NotSent):
            await late
        await eventually(lambda: not link.takes_calls)
        assert made.channel.link is None
        library.release.set()
        assert "wait" == (await running).document.name
        await stopping
        assert 1 == library.served


@pytest.mark.promise("LK-06")
async def test_plain_clients_and_plain_peers_are_served_too() -> None:
    library = Library()
    async with linked(library) as made:
        async with Transport().open_channel("rag", made.served.address) as plain:
            stub: Any = KnowledgeServiceStub(plain)
            await stub.GetDocument(GET, metadata=made.credentials)
        local = made.served.local_server
        settings = RpcSettings(listen="127.0.0.1:0", reflection=False, link=False)
        server, port = await create_server(local, settings, interceptors=(), health=Health(()))
        await server.start()
        async with Transport(link=True).connect("rag", f"127.0.0.1:{port}") as channel:
            stub = KnowledgeServiceStub(channel)
            await stub.GetDocument(GET, timeout=5)
            assert "1" == (await anext(aiter(stub.WatchIndexing(WATCH)))).progress.document_id
        await server.stop(0)
    assert 3 == library.served


@pytest.mark.promise("LK-07")
@pytest.mark.parametrize(
    "batch",
    [
        b"\x01",
        wire.frame(wire.OPEN, 9, b"?"),
        wire.frame(wire.OPEN, 9)[:-1],
        wire.frame(wire.OPEN, 1, wire._encode(wire.Opening("/x", None, (), b"", False))) * 2,
        wire.frame(wire.OPEN, 9, wire._encode(["/x", None, [["name", 3]], b"", False])),
    ],
)
async def test_what_is_no_frame_ends_its_link_alone(batch: bytes) -> None:
    async with linked(Library()) as made:
        running = asyncio.ensure_future(made.get("wait", timeout=1))
        inner = Transport().open_channel("rag", made.served.address)
        method: Any = inner.stream_stream(wire.LINK_PATH)
        stream = method()
        await stream.write(batch)
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await _read_to_its_end(stream)
        assert grpc.StatusCode.INVALID_ARGUMENT is broken.value.code()
        await inner.close()
        await made.get()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await running
        assert grpc.StatusCode.DEADLINE_EXCEEDED is late.value.code()


@pytest.mark.promise("LK-07")
@pytest.mark.parametrize("kind", [wire.DATA, wire.PART, wire.LONG])
async def test_more_than_there_is_room_for_ends_the_call(kind: int) -> None:
    class Stuck(Library):
        async def UploadDocument(
            self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
        ) -> pb.UploadDocumentResponse:
            await self.release.wait()
            return pb.UploadDocumentResponse()

    library = Stuck()
    async with linked(library) as made:
        inner = Transport().open_channel("rag", made.served.address)
        method: Any = inner.stream_stream(wire.LINK_PATH)
        stream = method()
        streams = kind != wire.LONG
        name = "UploadDocument" if streams else "GetDocument"
        path = f"/meshwright.rag.v1.KnowledgeService/{name}"
        opening = wire.Opening(path, 20.0, made.credentials, None, streams)
        await stream.write(wire.opening_frame(1, opening))
        for _ in range(MAX_MESSAGE_BYTES // wire.PART_BYTES + 2):
            await stream.write(wire.frame(kind, 1, b"." * wire.PART_BYTES))
        ending = await ending_of(stream)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is ending.status_code
        stream.cancel()
        await inner.close()
        await made.get()


async def ending_of(stream: Any) -> wire.Ending:
    """Return how the one call of a raw link ends."""
    while True:
        for kind, _, body in wire.frames(await asyncio.wait_for(stream.read(), 20)):
            if kind == wire.END:
                return wire.read_ending(body)


@pytest.mark.promise("LK-08")
async def test_links_run_no_more_calls_than_are_set() -> None:
    library = Library()
    async with linked(library) as made:
        settings = RpcSettings(listen="127.0.0.1:0", reflection=False, maximum_concurrent_rpcs=3)
        local = made.served.local_server
        server, port = await create_server(local, settings, interceptors=(), health=Health(()))
        await server.start()
        address = f"127.0.0.1:{port}"
        async with LinkChannel(Transport().open_channel("rag", address)) as channel:
            await channel.channel_ready()
            other = Linked(made.served, channel)
            running = [asyncio.ensure_future(other.get("wait")) for _ in range(3)]
            await eventually(lambda: library.served == 3)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await other.get()
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
            library.release.set()
            await asyncio.gather(*running)
            await other.get()
        await server.stop(0)


@pytest.mark.promise("LK-09")
async def test_a_link_is_replaced_while_calls_run_on_it() -> None:
    library = Library()
    async with linked(library, turn_seconds=0.05) as made:
        first = made.channel.link
        stream = aiter(made.watch())
        await anext(stream)
        seen = {first}
        while len(seen) < 4:
            await made.get()
            seen.add(made.channel.link)
        assert made.channel.link is not first
        assert first is not None
        assert not first.is_over
        library.release.set()
        assert [] == [message async for message in stream]
        await asyncio.wait_for(first.ended(), 20)


async def _read_to_its_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
