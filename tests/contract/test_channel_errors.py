"""What every channel promises, in one process and over gRPC (house.md 3.5): how calls fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
from meshwright_common import context as call_context
from meshwright_common.errors import (
    CLASS_BY_CODE,
    Cancelled,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    ServiceError,
)
from meshwright_common.ids import new_id
from meshwright_common.rpc.local import LocalChannel, LocalServer
from meshwright_common.testing.mesh import Served, Substrate, calling_as, collect, serving, user
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Context], Awaitable[None]]
TENANT = new_id()
READ = "kb:read"
GET = pb.GetDocumentRequest()
WATCH = pb.WatchIndexingRequest()


class Failing(KnowledgeServiceServicer):
    """Does `behaviour`, in a stream after two messages."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        await self.behaviour(context)
        return pb.GetDocumentResponse()

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        for number in ("1", "2"):
            yield pb.WatchIndexingResponse(
                progress=document_pb2.IndexingProgress(document_id=number)
            )
        await self.behaviour(context)

    def register(self, server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(self, server)


def raising(error: BaseException) -> Behaviour:
    async def behaviour(context: Context) -> None:
        raise error

    return behaviour


async def outcome(served: Served) -> tuple[ServiceError, list[str], ServiceError]:
    """Return how a unary call fails, what a stream brings before it fails, and how."""
    stub = KnowledgeServiceStub(served.channels().open("rag"))
    events: list[pb.WatchIndexingResponse] = []
    with calling_as(TENANT, READ):
        with pytest.raises(ServiceError) as unary:
            await stub.GetDocument(GET)
        with pytest.raises(ServiceError) as stream:
            await collect(stub.WatchIndexing(WATCH), events)
    return unary.value, [event.progress.document_id for event in events], stream.value


async def raw_outcome(served: Served) -> tuple[grpc.aio.AioRpcError, grpc.aio.AioRpcError]:
    """Return the gRPC errors of a unary call and of a stream."""
    stub: Any = KnowledgeServiceStub(served.raw_channel())
    credentials = served.credentials(user(TENANT, READ))
    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await stub.GetDocument(GET, metadata=credentials, timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as stream:
        async for _ in stub.WatchIndexing(WATCH, metadata=credentials, timeout=20):
            pass
    return unary.value, stream.value


@pytest.mark.promise("CH-03")
@pytest.mark.parametrize("way", ["abort", "abort_with_status"])
async def test_abort_reaches_the_caller_with_all_three(substrate: Substrate, way: str) -> None:
    trailing = (("x-reason", "worn out"), ("x-raw-bin", b"\x00\xff"))

    class Ended(grpc.Status):
        code = grpc.StatusCode.NOT_FOUND
        details = "no such page: 第三页"
        trailing_metadata = trailing

    async def behaviour(context: Context) -> None:
        if way == "abort":
            await context.abort(Ended.code, Ended.details, trailing)
        await context.abort_with_status(Ended())

    async with serving(Failing(behaviour).register, substrate=substrate) as served:
        for error in await raw_outcome(served):
            assert grpc.StatusCode.NOT_FOUND is error.code()
            assert Ended.details == error.details()
            assert set(trailing) <= set(error.trailing_metadata())


@pytest.mark.promise("CH-05")
async def test_error_in_mid_stream_comes_after_the_items(substrate: Substrate) -> None:
    async with serving(Failing(raising(NotFound())).register, substrate=substrate) as served:
        _, items, error = await outcome(served)
    assert ["1", "2"] == items
    assert isinstance(error, NotFound)


@pytest.mark.promise("CH-06")
@pytest.mark.parametrize(
    "error", [ValueError("secret"), KeyError("secret"), TimeoutError(), NotImplementedError()]
)
async def test_unmapped_exception_tells_the_caller_nothing(
    substrate: Substrate, error: Exception
) -> None:
    async with serving(Failing(raising(error)).register, substrate=substrate) as served:
        unary, _, stream = await outcome(served)
        raw = await raw_outcome(served)
    assert (Internal, Internal) == (type(unary), type(stream))
    assert unary.message == stream.message
    for rpc_error in raw:
        assert grpc.StatusCode.INTERNAL is rpc_error.code()
        told = f"{rpc_error.details()} {rpc_error.trailing_metadata()}"
        assert "secret" not in told
        assert type(error).__name__ not in told


@pytest.mark.promise("CH-12")
async def test_service_error_arrives_as_the_same_error(substrate: Substrate) -> None:
    class LibraryClosed(InvalidArgument):
        reason = "DOCUMENT_BROKEN"
        text = "{name} cannot be read: 第 {page} 页"

    sent = LibraryClosed(
        name="a.pdf",
        page="3",
        retry_after_seconds=1.25,
        field_violations=(FieldViolation("name", "is damaged"), FieldViolation("page", "is odd")),
    )
    async with serving(Failing(raising(sent)).register, substrate=substrate) as served:
        unary, _, stream = await outcome(served)
    for received in (unary, stream):
        assert InvalidArgument is type(received)
        assert "DOCUMENT_BROKEN" == received.reason
        assert "a.pdf cannot be read: 第 3 页" == received.message
        assert {"name": "a.pdf", "page": "3"} == received.metadata
        assert sent.field_violations == received.field_violations
        assert 1.25 == received.retry_after_seconds


@pytest.mark.promise("CH-12")
@pytest.mark.parametrize("code", sorted(CLASS_BY_CODE))
async def test_every_code_comes_back_as_its_class(code: str) -> None:
    error_class = CLASS_BY_CODE[code]
    async with serving(Failing(raising(error_class("told"))).register) as served:
        unary, _, stream = await outcome(served)
    for received in (unary, stream):
        assert error_class is type(received)
        assert (error_class.reason, "told") == (received.reason, received.message)


@pytest.mark.promise("CH-12")
@pytest.mark.parametrize("letter", ["m", "书", "\n", "🜛", "\ud800"])
async def test_huge_error_still_arrives(substrate: Substrate, letter: str) -> None:
    """gRPC drops trailing metadata over 8 KiB at random: what is sent is bounded."""
    violations = tuple(FieldViolation("f" * 5000, "d" * 5000) for _ in range(100))
    huge = InvalidArgument(letter * 100_000, field_violations=violations)
    huge.metadata.update({f"key_{number}": "v" * 5000 for number in range(100)})
    async with serving(Failing(raising(huge)).register, substrate=substrate) as served:
        unary, _, _ = await outcome(served)
    assert "INVALID_ARGUMENT" == unary.reason
    assert unary.message.startswith(letter.replace("\ud800", "?") * 50)
    assert "v" * 400 == unary.metadata["key_0"]


@pytest.mark.promise("CH-17")
async def test_cancelled_error_nobody_asked_for_ends_the_call(substrate: Substrate) -> None:
    async def await_cancelled_future(context: Context) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with serving(Failing(await_cancelled_future).register, substrate=substrate) as served:
        unary, items, stream = await outcome(served)
    assert (Cancelled, ["1", "2"], Cancelled) == (type(unary), items, type(stream))


@pytest.mark.promise("CH-19")
async def test_group_of_service_errors_arrives_as_the_first(substrate: Substrate) -> None:
    group = ExceptionGroup("", [NotFound("the first"), ExceptionGroup("", [Internal("second")])])
    async with serving(Failing(raising(group)).register, substrate=substrate) as served:
        unary, _, stream = await outcome(served)
    assert (NotFound, "the first") == (type(unary), unary.message)
    assert (NotFound, "the first") == (type(stream), stream.message)


@pytest.mark.promise("CH-19")
async def test_group_with_a_defect_in_it_is_internal(substrate: Substrate) -> None:
    group = ExceptionGroup("", [NotFound("the first"), ValueError("secret")])
    async with serving(Failing(raising(group)).register, substrate=substrate) as served:
        unary, _, _ = await outcome(served)
    assert Internal is type(unary)


@pytest.mark.promise("CH-06")
async def test_timeout_at_the_deadline_is_told_as_such(substrate: Substrate) -> None:
    async def until_the_deadline(context: Context) -> None:
        remaining = call_context.remaining_seconds()
        assert remaining is not None
        async with asyncio.timeout(remaining - 0.05):
            await asyncio.Event().wait()

    async def after_the_deadline(context: Context) -> None:
        try:
            await until_the_deadline(context)
        except TimeoutError:
            await asyncio.sleep(0.05)
            raise

    failing = Failing(after_the_deadline)
    async with serving(failing.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with calling_as(TENANT, READ), pytest.raises(DeadlineExceeded):
            await stub.GetDocument(GET, timeout=0.2)


@pytest.mark.promise("CH-02")
async def test_interceptors_run_outermost_first() -> None:
    order: list[str] = []

    class Noting(grpc.aio.ServerInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            order.append(f"{self.name} {handler_call_details.method.rpartition('/')[2]}")
            return await continuation(handler_call_details)

    async def nothing(context: Context) -> None:
        order.append("handler")

    noting = (Noting("outer"), Noting("inner"))
    local = LocalServer(noting)
    Failing(nothing).register(local)
    remote = grpc.aio.server(interceptors=noting)
    local.copy_to(remote)
    port = remote.add_insecure_port("127.0.0.1:0")
    await remote.start()
    async with LocalChannel(local) as near, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as far:
        for channel in (near, far):
            await KnowledgeServiceStub(channel).GetDocument(GET)
    await remote.stop(0)
    assert ["outer GetDocument", "inner GetDocument", "handler"] * 2 == order


@pytest.mark.promise("CH-20")
@pytest.mark.parametrize("attempt", range(5))
async def test_requests_that_are_cut_off_never_look_whole(
    substrate: Substrate, attempt: int
) -> None:
    """Otherwise half a file is stored as a whole one. The race is repeated."""

    class Store(KnowledgeServiceServicer):
        def __init__(self) -> None:
            self.stored: list[int] = []
            self.seen = 0
            self.ended = asyncio.Event()

        async def UploadDocument(
            self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
        ) -> pb.UploadDocumentResponse:
            try:
                async for _ in request_iterator:
                    self.seen += 1
                self.stored.append(self.seen)
            finally:
                self.ended.set()
            return pb.UploadDocumentResponse()

    async def cut_off() -> AsyncIterator[pb.UploadDocumentRequest]:
        for _ in range(attempt):
            yield pb.UploadDocumentRequest(data=b"half")
        # While the handler waits for the next one.
        await eventually(lambda: store.seen == attempt)
        raise LookupError("the file vanished")

    async def whole() -> AsyncIterator[pb.UploadDocumentRequest]:
        for _ in range(attempt):
            yield pb.UploadDocumentRequest(data=b"all")

    store = Store()

    def add(server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(store, server)

    async with serving(add, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with calling_as(TENANT, "kb:write"):
            with pytest.raises(LookupError):
                await stub.UploadDocument(cut_off())
            if substrate == "grpc" and attempt:
                await asyncio.wait_for(store.ended.wait(), 20)
            assert store.stored == []
            store.seen = 0
            await stub.UploadDocument(whole())
    assert store.stored == [attempt]
