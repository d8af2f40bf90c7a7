"""What the decorator around every channel promises, in one process and over gRPC: its policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
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
from meshwright_common.clock import ManualClock
from meshwright_common.context import CallContext
from meshwright_common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from meshwright_common.ids import new_id
from meshwright_common.resilience.breaker import BreakerPolicy
from meshwright_common.resilience.retry import Backoff
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.rpc.status import to_status
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.fault_channel import Fault, FaultChannel
from meshwright_common.testing.mesh import Served, Substrate, calling_as, collect, serving, user

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
TENANT = new_id()
PERMISSIONS = ("kb:read", "kb:write")
GET = pb.GetDocumentRequest()
WATCH = pb.WatchIndexingRequest()
QUICK = Backoff(initial_seconds=0.001, maximum_seconds=0.002)


class Witness(KnowledgeServiceServicer):
    """Notes the context of every call."""

    def __init__(self) -> None:
        self.calls: list[CallContext] = []
        self.remaining: list[float] = []

    def note(self) -> None:
        self.calls.append(call_context.current())
        remaining = call_context.remaining_seconds()
        assert remaining is not None
        self.remaining.append(remaining)

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        self.note()
        return pb.GetDocumentResponse()

    async def Reindex(self, request: pb.ReindexRequest, context: Context) -> pb.ReindexResponse:
        self.note()
        return pb.ReindexResponse()

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        self.note()
        for number in ("1", "2", "3"):
            yield pb.WatchIndexingResponse(
                progress=document_pb2.IndexingProgress(document_id=number)
            )

    def register(self, server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(self, server)


class Faulty:
    """A stub whose calls can be made to fail, with the policy around it."""

    def __init__(self, served: Served, breaker: BreakerPolicy | None = None) -> None:
        self.clock = ManualClock()
        self.faults = FaultChannel(served.raw_channel())
        policy = CallPolicy(
            "rag",
            served.channels().tokens.token_for,
            backoff=QUICK,
            breaker=breaker or BreakerPolicy(),
        )
        self.stub = KnowledgeServiceStub(PolicyChannel(self.faults, policy, self.clock))


@pytest.mark.promise("PC-01")
@pytest.mark.parametrize(
    ("left", "given", "expected"),
    [
        pytest.param(None, None, 10.0, id="the method's own"),
        pytest.param(None, 8.0, 8.0, id="the given one, shorter"),
        pytest.param(None, 60.0, 10.0, id="the given one is longer"),
        pytest.param(8.0, 9.0, 7.95, id="what is left, less the margin"),
        pytest.param(30.0, None, 10.0, id="more is left than the method gets"),
    ],
)
async def test_call_gets_the_least_of_the_deadlines(
    substrate: Substrate, left: float | None, given: float | None, expected: float
) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels(deadlines={}).open("rag"))
        began = time.monotonic()
        with calling_as(TENANT, *PERMISSIONS, timeout_seconds=left):
            await stub.GetDocument(GET, timeout=given)
        took = time.monotonic() - began
    # However long the call took. On the wire gRPC rounds a timeout up, by a hundredth of a second.
    assert expected - took - 0.01 <= witness.remaining[0] <= expected + 0.02


@pytest.mark.promise("PC-02")
async def test_call_without_time_is_not_sent(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with calling_as(TENANT, *PERMISSIONS, timeout_seconds=0.069):
            with pytest.raises(DeadlineExceeded):
                await stub.GetDocument(GET)
            with pytest.raises(DeadlineExceeded):
                await collect(stub.WatchIndexing(WATCH), [])
        with calling_as(TENANT, *PERMISSIONS, timeout_seconds=0.5):
            await stub.GetDocument(GET)
    assert 1 == len(witness.calls)


@pytest.mark.promise("PC-03")
async def test_identity_and_ids_reach_the_handler(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        caller = user(TENANT, *PERMISSIONS)
        with calling_as(caller) as bound:
            await stub.GetDocument(GET)
            async with open_stream(stub.WatchIndexing(WATCH)) as events:
                assert 3 == len([event async for event in events])
    for seen in witness.calls:
        assert caller == seen.principal
        assert bound.request_id == seen.request_id
        assert bound.correlation_id == seen.correlation_id
        assert bound.traceparent == seen.traceparent


@pytest.mark.promise("PC-03")
async def test_caller_cannot_write_the_metadata_of_the_channel(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with calling_as(TENANT, *PERMISSIONS):
            await stub.GetDocument(GET, metadata=(("x-extra", "may pass"),))
            with pytest.raises(InvalidArgument):
                await stub.GetDocument(GET, metadata=(("authorization", "Bearer forged"),))
    assert 1 == len(witness.calls)


@pytest.mark.promise("PC-04")
async def test_idempotent_call_is_repeated_when_the_peer_is_not_reached(
    substrate: Substrate,
) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        faulty = Faulty(served)
        faulty.faults.plan(Fault(), Fault())
        with calling_as(TENANT, *PERMISSIONS):
            await faulty.stub.GetDocument(GET)
        retries = [dict(call.metadata).get("x-retry-attempt") for call in faulty.faults.seen]
        assert [None, "1", "2"] == retries
        timeouts = [call.timeout_seconds for call in faulty.faults.seen]
        assert sorted(timeouts, reverse=True, key=lambda seconds: seconds or 0) == timeouts


@pytest.mark.promise("PC-04")
@pytest.mark.parametrize(
    ("method", "code", "expected_attempts"),
    [
        ("GetDocument", grpc.StatusCode.UNAVAILABLE, 3),
        ("WatchIndexing", grpc.StatusCode.UNAVAILABLE, 3),
        ("Reindex", grpc.StatusCode.UNAVAILABLE, 1),
        ("GetDocument", grpc.StatusCode.ABORTED, 1),
        ("GetDocument", grpc.StatusCode.DEADLINE_EXCEEDED, 1),
        ("GetDocument", grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
        ("GetDocument", grpc.StatusCode.INTERNAL, 1),
    ],
)
async def test_only_idempotent_and_unavailable_is_repeated(
    method: str, code: grpc.StatusCode, expected_attempts: int
) -> None:
    requests = {"GetDocument": GET, "WatchIndexing": WATCH, "Reindex": pb.ReindexRequest()}
    async with serving(Witness().register) as served:
        faulty = Faulty(served)
        faulty.faults.plan(*[Fault(code)] * 9)
        with calling_as(TENANT, *PERMISSIONS):
            call: Any = getattr(faulty.stub, method)(requests[method])
            with pytest.raises(ServiceError) as failed:
                await (collect(call, []) if method == "WatchIndexing" else call)
    assert code.name == failed.value.code
    assert expected_attempts == len(faulty.faults.seen)


@pytest.mark.promise("PC-05")
async def test_stream_is_not_repeated_after_its_first_message(substrate: Substrate) -> None:
    async with serving(Witness().register, substrate=substrate) as served:
        faulty = Faulty(served)
        faulty.faults.plan(Fault(), Fault(after_messages=2))
        events: list[pb.WatchIndexingResponse] = []
        with calling_as(TENANT, *PERMISSIONS), pytest.raises(Unavailable):
            await collect(faulty.stub.WatchIndexing(WATCH), events)
    assert ["1", "2"] == [event.progress.document_id for event in events]
    assert 2 == len(faulty.faults.seen)


@pytest.mark.promise("PC-06")
async def test_what_the_peer_decided_is_not_repeated() -> None:
    decided = to_status(Unavailable("the database is away", retry_after_seconds=0.01))
    async with serving(Witness().register) as served:
        faulty = Faulty(served)
        faulty.faults.plan(Fault(trailing_metadata=decided.trailing_metadata))
        with calling_as(TENANT, *PERMISSIONS), pytest.raises(Unavailable) as failed:
            await faulty.stub.GetDocument(GET)
    assert 1 == len(faulty.faults.seen)
    assert 0.01 == failed.value.retry_after_seconds


@pytest.mark.promise("PC-07")
async def test_steady_failure_is_hardly_repeated() -> None:
    async with serving(Witness().register) as served:
        faulty = Faulty(served, BreakerPolicy(consecutive_failures=10**6, least_calls=10**6))
        faulty.faults.plan(*[Fault()] * 1000)
        with calling_as(TENANT, *PERMISSIONS):
            for _ in range(100):
                with pytest.raises(Unavailable):
                    await faulty.stub.GetDocument(GET)
    assert len(faulty.faults.seen) <= 110


@pytest.mark.promise("PC-08")
async def test_failing_peer_gets_a_pause_and_then_a_trial() -> None:
    policy = BreakerPolicy(consecutive_failures=3, open_seconds=1.0, half_open_calls=1)
    async with serving(Witness().register) as served:
        faulty = Faulty(served, policy)
        faulty.faults.plan(*[Fault()] * 3)
        with calling_as(TENANT, *PERMISSIONS):
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await faulty.stub.Reindex(pb.ReindexRequest())
            with pytest.raises(Unavailable) as refused:
                await faulty.stub.Reindex(pb.ReindexRequest())
            assert 3 == len(faulty.faults.seen)
            assert 1.0 == refused.value.retry_after_seconds
            faulty.clock.advance(1.0)
            await faulty.stub.Reindex(pb.ReindexRequest())
            await faulty.stub.Reindex(pb.ReindexRequest())
    assert 5 == len(faulty.faults.seen)


@pytest.mark.promise("PC-08")
async def test_stream_is_a_good_sign_from_its_first_message() -> None:
    """A trial that is a long stream must not keep everybody else out until it ends."""
    policy = BreakerPolicy(consecutive_failures=1, open_seconds=1.0, half_open_calls=1)
    async with serving(Witness().register) as served:
        faulty = Faulty(served, policy)
        faulty.faults.plan(Fault())
        with calling_as(TENANT, *PERMISSIONS):
            with pytest.raises(Unavailable):
                await faulty.stub.Reindex(pb.ReindexRequest())
            faulty.clock.advance(1.0)
            async with open_stream(faulty.stub.WatchIndexing(WATCH)) as events:
                await anext(events)
                await faulty.stub.Reindex(pb.ReindexRequest())


@pytest.mark.promise("PC-08")
async def test_errors_the_peer_decides_on_do_not_open_the_breaker() -> None:
    decided = to_status(NotFound())
    fault = Fault(grpc.StatusCode.NOT_FOUND, trailing_metadata=decided.trailing_metadata)
    async with serving(Witness().register) as served:
        faulty = Faulty(served, BreakerPolicy(consecutive_failures=2))
        faulty.faults.plan(*[fault] * 10)
        with calling_as(TENANT, *PERMISSIONS):
            for _ in range(10):
                with pytest.raises(NotFound):
                    await faulty.stub.GetDocument(GET)
    assert 10 == len(faulty.faults.seen)


@pytest.mark.promise("PC-09")
async def test_call_without_a_deadline_gets_the_methods_own(substrate: Substrate) -> None:
    witness = Witness()
    released = asyncio.Event()

    class Stuck(Witness):
        async def GetDocument(
            self, request: pb.GetDocumentRequest, context: Context
        ) -> pb.GetDocumentResponse:
            await released.wait()
            return pb.GetDocumentResponse()

        async def WatchIndexing(
            self, request: pb.WatchIndexingRequest, context: Context
        ) -> AsyncIterator[pb.WatchIndexingResponse]:
            yield pb.WatchIndexingResponse()
            await released.wait()

    short = {
        f"/meshwright.rag.v1.KnowledgeService/{name}": 0.1
        for name in ("GetDocument", "WatchIndexing")
    }
    async with serving(witness.register, substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        await stub.GetDocument(GET, metadata=served.credentials(user(TENANT, *PERMISSIONS)))
    assert 1 < witness.remaining[0] <= 10
    async with serving(Stuck().register, substrate=substrate, deadlines=short) as served:
        stub = KnowledgeServiceStub(served.raw_channel())
        credentials = served.credentials(user(TENANT, *PERMISSIONS))
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.GetDocument(GET, metadata=credentials)
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            async for _ in stub.WatchIndexing(WATCH, metadata=credentials):
                pass
        assert time.monotonic() - started < 9, "the methods' own are 10 s"
        released.set()
    assert grpc.StatusCode.DEADLINE_EXCEEDED is unary.value.code()
    assert grpc.StatusCode.DEADLINE_EXCEEDED is stream.value.code()


@pytest.mark.promise("PC-10")
async def test_no_call_is_made_without_a_caller(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with pytest.raises(Unauthenticated):
            await stub.GetDocument(GET)
    assert [] == witness.calls
