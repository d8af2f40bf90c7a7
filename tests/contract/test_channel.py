"""What every channel promises, in one process and over gRPC (house.md 3.5): the calls."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2_grpc
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
)
from meshwright_common.errors import ResourceExhausted, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES
from meshwright_common.rpc.local import LocalChannel, LocalServer
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.mesh import Served, Substrate, calling_as, collect, serving, user

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
TENANT = new_id()
READ = ("kb:read", "kb:write")
WATCH = pb.WatchIndexingRequest()


def register(servicer: KnowledgeServiceServicer) -> Callable[[grpc.aio.Server], None]:
    return lambda server: knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(
        servicer, server
    )


def stub_of(served: Served) -> knowledge_service_pb2_grpc.KnowledgeServiceAsyncStub:
    return KnowledgeServiceStub(served.channels().open("rag"))


def progress(number: int, padding: str = "") -> pb.WatchIndexingResponse:
    """Return one message of a stream that can be told from the others."""
    return pb.WatchIndexingResponse(
        progress=document_pb2.IndexingProgress(document_id=f"{number}{padding}")
    )


class Library(KnowledgeServiceServicer):
    """Answers with what it got."""

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        return pb.GetDocumentResponse(
            document=document_pb2.Document(document_id=request.document_id)
        )

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        for document_id in request.document_ids:
            yield pb.WatchIndexingResponse(
                progress=document_pb2.IndexingProgress(document_id=document_id)
            )

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
    ) -> pb.UploadDocumentResponse:
        parts = [request.data async for request in request_iterator]
        return pb.UploadDocumentResponse(
            document=document_pb2.Document(name=b"".join(parts).decode(), size_bytes=len(parts))
        )


class Mirror(reflection_pb2_grpc.ServerReflectionServicer):
    """A servicer with the one kind of call that our own services do not have."""

    async def ServerReflectionInfo(
        self,
        request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: Context,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for request in request_iterator:
            yield reflection_pb2.ServerReflectionResponse(valid_host=request.host)


class Endless(KnowledgeServiceServicer):
    """Streams until it is stopped, and notes how that went."""

    def __init__(self, *, waits_at_await: bool = False, padding: str = "") -> None:
        self.waits_at_await = waits_at_await
        self.padding = padding
        self.produced = 0
        self.started = asyncio.Event()
        self.cleaned_up = asyncio.Event()

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        try:
            while True:
                self.produced += 1
                yield progress(self.produced, self.padding)
                self.started.set()
                if self.waits_at_await:
                    await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        try:
            self.started.set()
            await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()
        return pb.GetDocumentResponse()


@pytest.mark.promise("CH-01")
async def test_four_kinds_of_calls_bring_the_same_values(substrate: Substrate) -> None:
    def add_mirror(server: grpc.aio.Server) -> None:
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(Mirror(), server)

    async def parts() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(data=b"one ")
        yield pb.UploadDocumentRequest(data=b"two")

    async def hosts() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(host="a")
        yield reflection_pb2.ServerReflectionRequest(host="b")

    async with serving(register(Library()), add_mirror, substrate=substrate) as served:
        stub = stub_of(served)
        channel: Any = served.channels().open("rag")
        mirror: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with calling_as(TENANT, *READ):
            got = await stub.GetDocument(pb.GetDocumentRequest(document_id="x"))
            uploaded = await stub.UploadDocument(parts())
            from_list = await stub.UploadDocument(iter([pb.UploadDocumentRequest(data=b"list")]))
            request = pb.WatchIndexingRequest(document_ids=["1", "2", "3"])
            async with open_stream(stub.WatchIndexing(request)) as events:
                watched = [event.progress.document_id async for event in events]
            async with open_stream(mirror.ServerReflectionInfo(hosts())) as answers:
                mirrored = [answer.valid_host async for answer in answers]
    assert "x" == got.document.document_id
    assert ("one two", 2) == (uploaded.document.name, uploaded.document.size_bytes)
    assert "list" == from_list.document.name
    assert ["1", "2", "3"] == watched
    assert ["a", "b"] == mirrored


@pytest.mark.promise("CH-04")
async def test_deadline_ends_the_call_and_its_handler(substrate: Substrate) -> None:
    endless = Endless(waits_at_await=True)
    async with serving(register(endless), substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        credentials = served.credentials(user(TENANT, *READ))
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.GetDocument(pb.GetDocumentRequest(), timeout=0.2, metadata=credentials)
        await asyncio.wait_for(endless.cleaned_up.wait(), 20)
        endless.cleaned_up.clear()
        received: list[pb.WatchIndexingResponse] = []
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await collect(stub.WatchIndexing(WATCH, timeout=0.2, metadata=credentials), received)
        await asyncio.wait_for(endless.cleaned_up.wait(), 20)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is unary.value.code()
    assert grpc.StatusCode.DEADLINE_EXCEEDED is stream.value.code()
    assert 1 == len(received)


@pytest.mark.promise("CH-07")
@pytest.mark.parametrize("waits_at_await", [True, False], ids=["at-await", "at-yield"])
@pytest.mark.parametrize("leaves_by", ["break", "error"])
async def test_leaving_open_stream_ends_the_handler(
    substrate: Substrate, leaves_by: str, waits_at_await: bool
) -> None:
    endless = Endless(waits_at_await=waits_at_await)
    async with serving(register(endless), substrate=substrate) as served:
        stub = stub_of(served)
        with calling_as(TENANT, *READ):
            try:
                async with open_stream(stub.WatchIndexing(WATCH)) as events:
                    async for _ in events:
                        if leaves_by == "error":
                            raise LookupError
                        break
            except LookupError:
                pass
        await asyncio.wait_for(endless.cleaned_up.wait(), 20)


@pytest.mark.promise("CH-08")
@pytest.mark.parametrize("waits_at_await", [True, False], ids=["at-await", "at-yield"])
async def test_cancelled_handler_cleans_up_wherever_it_waits(
    substrate: Substrate, waits_at_await: bool
) -> None:
    endless = Endless(waits_at_await=waits_at_await)
    async with serving(register(endless), substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        credentials = served.credentials(user(TENANT, *READ))
        call = stub.WatchIndexing(WATCH, timeout=5, metadata=credentials)
        await anext(aiter(call))
        await asyncio.wait_for(endless.started.wait(), 20)
        assert call.cancel()
        await asyncio.wait_for(endless.cleaned_up.wait(), 20)
        assert grpc.StatusCode.CANCELLED is await call.code()
        assert not call.cancel()


@pytest.mark.promise("CH-09")
async def test_producer_waits_for_a_slow_reader(substrate: Substrate) -> None:
    endless = Endless(padding="." * 64 * 1024)
    async with serving(register(endless), substrate=substrate) as served:
        stub = stub_of(served)
        with calling_as(TENANT, *READ):
            async with open_stream(stub.WatchIndexing(WATCH)) as events:
                for _ in range(3):
                    await anext(events)
                seen = -1
                while seen != endless.produced:
                    seen = endless.produced
                    await stub_turns()
                ahead = endless.produced - 3
    # A queue of one, and the message in the making; buffers of the transport in bytes; or what a
    # link's window holds, and the two at its ends.
    assert ahead <= {"grpc": 200, "balanced": 200, "link": 6}.get(substrate, 2)


async def stub_turns() -> None:
    """Let everything that can run, run: sockets too, which need more than turns of the loop."""
    for _ in range(50):
        await asyncio.sleep(0.001)


@pytest.mark.promise("CH-10")
async def test_messages_are_shared_only_where_nothing_is_copied(substrate: Substrate) -> None:
    kept: list[pb.GetDocumentRequest] = []

    class Keeper(KnowledgeServiceServicer):
        async def GetDocument(
            self, request: pb.GetDocumentRequest, context: Context
        ) -> pb.GetDocumentResponse:
            kept.append(request)
            return pb.GetDocumentResponse()

    async with serving(register(Keeper()), substrate=substrate) as served:
        request = pb.GetDocumentRequest(document_id="original")
        with calling_as(TENANT, *READ):
            await stub_of(served).GetDocument(request)
        request.document_id = "changed later"
    assert (substrate == "local") == (kept[0] is request)
    assert ("changed later" if substrate == "local" else "original") == kept[0].document_id


@pytest.mark.promise("CH-11")
async def test_handler_sees_nothing_of_its_callers_context(substrate: Substrate) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")
    seen: list[tuple[str, asyncio.Task[Any] | None]] = []

    class Observer(KnowledgeServiceServicer):
        async def GetDocument(
            self, request: pb.GetDocumentRequest, context: Context
        ) -> pb.GetDocumentResponse:
            seen.append((mark.get(), asyncio.current_task()))
            mark.set("of the handler")
            return pb.GetDocumentResponse()

    async with serving(register(Observer()), substrate=substrate) as served:
        mark.set("of the caller")
        with calling_as(TENANT, *READ):
            await stub_of(served).GetDocument(pb.GetDocumentRequest())
    assert "unset" == seen[0][0]
    assert asyncio.current_task() is not seen[0][1]
    assert "of the caller" == mark.get()


@pytest.mark.promise("CH-13")
async def test_generated_code_registers_as_the_local_server_expects() -> None:
    """When this fails, the stub compiler changed: follow it in LocalServer and here."""
    seen: list[str] = []

    class Recorder(LocalServer):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                seen.append(name)
            return super().__getattribute__(name)

    server = Recorder()
    knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(Library(), server)
    assert ["add_generic_rpc_handlers", "add_registered_method_handlers"] == seen
    asked: dict[str, tuple[object, ...]] = {}

    class Asked(LocalChannel):
        def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
            asked[method] = (len(args), *sorted(kwargs))
            return super().unary_unary(method, *args, **kwargs)

    KnowledgeServiceStub(Asked(server))
    expected = (0, "_registered_method", "request_serializer", "response_deserializer")
    assert {expected} == set(asked.values())


@pytest.mark.promise("CH-14")
async def test_message_over_the_limit_is_refused_either_way(substrate: Substrate) -> None:
    class Verbose(Library):
        async def GetDocument(
            self, request: pb.GetDocumentRequest, context: Context
        ) -> pb.GetDocumentResponse:
            size = int(request.document_id) if len(request.document_id) < 9 else 0
            return pb.GetDocumentResponse(document=document_pb2.Document(name="." * size))

    async with serving(register(Verbose()), substrate=substrate) as served:
        stub = stub_of(served)
        fits = MAX_MESSAGE_BYTES - 100
        with calling_as(TENANT, *READ):
            await stub.GetDocument(pb.GetDocumentRequest(document_id=str(fits)))
            await stub.GetDocument(pb.GetDocumentRequest(document_id="." * fits))
            for size in (str(MAX_MESSAGE_BYTES), "." * MAX_MESSAGE_BYTES):
                with pytest.raises(ResourceExhausted) as refused:
                    await stub.GetDocument(pb.GetDocumentRequest(document_id=size))
                assert "TOO_LARGE" == refused.value.reason


@pytest.mark.promise("CH-15")
@pytest.mark.parametrize("kind", ["read", "await"])
async def test_cancelled_wait_ends_the_call(substrate: Substrate, kind: str) -> None:
    endless = Endless(waits_at_await=True)
    async with serving(register(endless), substrate=substrate) as served:
        stub = stub_of(served)

        async def read_all() -> None:
            async with open_stream(stub.WatchIndexing(WATCH)) as events:
                async for _ in events:
                    pass

        async def get() -> None:
            await stub.GetDocument(pb.GetDocumentRequest())

        with calling_as(TENANT, *READ):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(read_all() if kind == "read" else get())
                await asyncio.wait_for(endless.started.wait(), 20)
                task.cancel()
        assert task.cancelled()
        await asyncio.wait_for(endless.cleaned_up.wait(), 20)


@pytest.mark.promise("CH-16")
async def test_error_of_the_request_iterator_reaches_the_caller(substrate: Substrate) -> None:
    async def broken() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(data=b"one")
        raise LookupError("the file vanished")

    async with serving(register(Library()), substrate=substrate) as served:
        with calling_as(TENANT, *READ), pytest.raises(LookupError, match="vanished"):
            await stub_of(served).UploadDocument(broken())


@pytest.mark.promise("CH-18")
async def test_stopping_server_finishes_what_runs_and_refuses_the_rest(
    substrate: Substrate,
) -> None:
    release = asyncio.Event()
    started = asyncio.Event()

    class Slow(KnowledgeServiceServicer):
        async def Reindex(self, request: pb.ReindexRequest, context: Context) -> pb.ReindexResponse:
            started.set()
            await release.wait()
            return pb.ReindexResponse()

    async with serving(register(Slow()), substrate=substrate) as served:
        stub = stub_of(served)
        with calling_as(TENANT, *READ):
            async with asyncio.TaskGroup() as group:
                running = group.create_task(as_task(stub.Reindex(pb.ReindexRequest())))
                await asyncio.wait_for(started.wait(), 20)
                for server in served.servers:
                    group.create_task(server.stop(5))
                group.create_task(served.local_server.stop(5))
                await asyncio.sleep(0)
                with pytest.raises(Unavailable):
                    await stub.Reindex(pb.ReindexRequest())
                release.set()
            assert pb.ReindexResponse() == running.result()


async def as_task(call: Any) -> Any:
    """Await a call in a task of its own."""
    return await call
