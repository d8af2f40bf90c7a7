"""What is repeated when something always fails, through all layers (reliability.md R-17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright_common import context as call_context
from meshwright_common.clock import ManualClock
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from meshwright_common.resilience.breaker import BreakerPolicy
from meshwright_common.resilience.retry import Backoff
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.testing.fault_channel import Fault, FaultChannel
from meshwright_common.testing.mesh import Served, calling_as, serving

if TYPE_CHECKING:
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
TENANT: Final = new_id()
GET: Final = pb.GetDocumentRequest()
NEVER: Final = BreakerPolicy(consecutive_failures=10**6, least_calls=10**6)
QUICK: Final = Backoff(initial_seconds=0.0001, maximum_seconds=0.0002)


class Hop(KnowledgeServiceServicer):
    """Passes each call on, and its failure back."""

    def __init__(self) -> None:
        self.below: KnowledgeServiceAsyncStub | None = None
        self.retry_attempts: list[int] = []

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        self.retry_attempts.append(call_context.current().retry_attempt)
        if self.below is None:
            return pb.GetDocumentResponse()
        return await self.below.GetDocument(request)

    def register(self, server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(self, server)


class Link:
    """The channel from one hop to the next, with its policy; its calls can be made to fail."""

    def __init__(self, served: Served) -> None:
        self.faults = FaultChannel(served.raw_channel())
        policy = CallPolicy("rag", served.channels().tokens.token_for, backoff=QUICK, breaker=NEVER)
        self.stub: KnowledgeServiceAsyncStub = KnowledgeServiceStub(
            PolicyChannel(self.faults, policy, ManualClock())
        )

    @property
    def calls(self) -> int:
        return len(self.faults.seen)


@pytest.mark.promise("OVER-03")
async def test_through_four_hops_hardly_more_is_tried_than_was_asked_for() -> None:
    first, second, third, bottom = Hop(), Hop(), Hop(), Hop()
    async with (
        serving(first.register) as at_first,
        serving(second.register) as at_second,
        serving(third.register) as at_third,
        serving(bottom.register) as at_bottom,
    ):
        links = [Link(served) for served in (at_first, at_second, at_third, at_bottom)]
        first.below, second.below, third.below = (link.stub for link in links[1:])
        links[3].faults.plan(*[Fault()] * 10_000)
        offered = 300
        with calling_as(TENANT, "kb:read"):
            for _ in range(offered):
                with pytest.raises(Unavailable):
                    await links[0].stub.GetDocument(GET)
    # Those above the failure repeat nothing; the one next to it stays within its budget.
    assert [link.calls for link in links[:3]] == [offered] * 3
    assert offered < links[3].calls <= 1.1 * offered


@pytest.mark.promise("OVER-04")
async def test_who_serves_a_repeated_call_repeats_nothing() -> None:
    first, bottom = Hop(), Hop()
    async with serving(first.register) as at_first, serving(bottom.register) as at_bottom:
        above, below = Link(at_first), Link(at_bottom)
        first.below = below.stub
        above.faults.plan(Fault())
        below.faults.plan(*[Fault()] * 10)
        with calling_as(TENANT, "kb:read"), pytest.raises(Unavailable):
            await above.stub.GetDocument(GET)
    assert above.calls == 2
    assert first.retry_attempts == [1]
    assert below.calls == 1
    # And whoever is further below would know as well.
    assert dict(below.faults.seen[0].metadata)["x-retry-attempt"] == "1"
