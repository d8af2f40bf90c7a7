"""What is particular to the channel inside a process; the rest is in the contract suite."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright_common.rpc.handover import Handover
from meshwright_common.rpc.local import LocalChannel, LocalServer
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

GET = pb.GetDocumentRequest()
WATCH = pb.WatchIndexingRequest()


class Library(KnowledgeServiceServicer):
    """Waits where it is told to, and notes that it ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.release = asyncio.Event()

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> Any:
        await context.send_initial_metadata((("x-first", "1"),))
        try:
            await self.release.wait()
        finally:
            self.ended.set()
        context.set_trailing_metadata((("x-last", "2"),))
        return pb.GetDocumentResponse()

    async def WatchIndexing(self, request: pb.WatchIndexingRequest, context: Any) -> Any:
        try:
            yield pb.WatchIndexingResponse()
            await self.release.wait()
            yield pb.WatchIndexingResponse()
        finally:
            self.ended.set()

    async def Reindex(self, request: pb.ReindexRequest, context: Any) -> Any:
        context.set_code(grpc.StatusCode.ABORTED)
        context.set_details("set, not raised")
        return pb.ReindexResponse()

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> Any:
        raise ValueError("secret")

    async def UploadDocument(self, request_iterator: Any, context: Any) -> Any:
        answer = pb.UploadDocumentResponse()
        async for request in request_iterator:
            answer.document.size_bytes += len(request.data)
        return answer


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def server(library: Library) -> LocalServer:
    served = LocalServer()
    add_KnowledgeServiceServicer_to_server(library, served)
    return served


@pytest.fixture
def stub(server: LocalServer) -> Any:
    return KnowledgeServiceStub(LocalChannel(server))


async def test_forgotten_call_ends_its_handler(stub: Any, library: Library) -> None:
    call = stub.WatchIndexing(WATCH)
    await call.read()
    del call
    await eventually(library.ended.is_set)


async def test_surface_of_a_call_is_that_of_grpc(stub: Any, library: Library) -> None:
    finished: list[object] = []
    call = stub.GetDocument(GET, timeout=5)
    call.add_done_callback(finished.append)
    assert {"x-first": "1"} == dict(await call.initial_metadata())
    assert not call.done()
    assert not call.cancelled()
    assert 4 < call.time_remaining() <= 5
    library.release.set()
    assert pb.GetDocumentResponse() == await call == await call
    assert grpc.StatusCode.OK is await call.code()
    assert {"x-last": "2"} == dict(await call.trailing_metadata())
    assert "" == await call.details()
    assert call.done()
    await eventually(lambda: finished == [call])


async def test_cancelled_call_raises_cancelled_where_it_is_awaited(stub: Any) -> None:
    call = stub.GetDocument(GET)
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert grpc.StatusCode.CANCELLED is await call.code()


async def test_code_that_was_set_ends_the_call_with_it(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Reindex(pb.ReindexRequest())
    assert grpc.StatusCode.ABORTED is failed.value.code()
    assert "set, not raised" == failed.value.details()


async def test_exception_without_interceptors_still_tells_nothing(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.ListDocuments(pb.ListDocumentsRequest())
    assert grpc.StatusCode.UNKNOWN is failed.value.code()
    assert "secret" not in repr(failed.value)


async def test_requests_can_be_written_one_by_one(stub: Any) -> None:
    call = stub.UploadDocument()
    await call.write(pb.UploadDocumentRequest(data=b"12"))
    await call.write(pb.UploadDocumentRequest(data=b"345"))
    await call.done_writing()
    assert 5 == (await call).document.size_bytes


async def test_expired_timeout_never_reaches_the_handler(stub: Any, library: Library) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.GetDocument(GET, timeout=0)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is failed.value.code()
    assert not library.ended.is_set()


async def test_closed_channel_cancels_its_calls_and_starts_none(
    server: LocalServer, library: Library
) -> None:
    channel = LocalChannel(server)
    stub: Any = KnowledgeServiceStub(channel)
    call = stub.GetDocument(GET)
    await call.initial_metadata()
    assert grpc.ChannelConnectivity.READY is channel.get_state()
    await channel.close()
    assert grpc.ChannelConnectivity.SHUTDOWN is channel.get_state()
    await eventually(library.ended.is_set)
    with pytest.raises(grpc.aio.UsageError):
        stub.GetDocument(GET)


async def test_stop_cancels_what_outlives_the_grace(
    server: LocalServer, stub: Any, library: Library
) -> None:
    call = stub.GetDocument(GET)
    await call.initial_metadata()
    await server.stop(0.01)
    assert library.ended.is_set()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert grpc.StatusCode.UNAVAILABLE is failed.value.code()
    assert not await server.wait_for_termination(1)


async def test_nothing_is_left_of_ten_thousand_calls(
    server: LocalServer, stub: Any, library: Library
) -> None:
    library.release.set()
    for _ in range(5000):
        await stub.GetDocument(GET)
        assert 2 == len([event async for event in stub.WatchIndexing(WATCH)])
    await asyncio.sleep(0)
    assert not server._running
    assert len(asyncio.all_tasks()) == 1


async def test_handover_is_a_queue_of_one() -> None:
    place: Handover[int] = Handover(asyncio.get_running_loop())
    produced: list[int] = []

    async def produce() -> None:
        for number in range(1, 6):
            produced.append(number)
            await place.put(number)
        place.end()

    async def consume() -> AsyncIterator[int]:
        while (number := await place.take()) is not None:
            yield number

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        await asyncio.sleep(0)
        assert [1] == produced
        assert [1, 2, 3, 4, 5] == [number async for number in consume()]


async def test_end_delivers_what_lies_there_unless_it_is_dropped() -> None:
    loop = asyncio.get_running_loop()
    for drop, expected in ((False, 7), (True, None)):
        place: Handover[int] = Handover(loop)
        async with asyncio.TaskGroup() as group:
            putting = group.create_task(place.put(7))
            await asyncio.sleep(0)
            place.end(drop=drop)
            assert expected == await place.take()
            assert await place.take() is None
        assert putting.done()
        await place.put(8)
        assert await place.take() is None


async def test_end_wakes_a_waiting_consumer() -> None:
    place: Handover[int] = Handover(asyncio.get_running_loop())
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(place.take())
        await asyncio.sleep(0)
        place.end()
    assert taking.result() is None
