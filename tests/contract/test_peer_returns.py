"""A peer that was away and came back: its breaker does not keep calls from it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from meshwright.rag.v1 import knowledge_service_pb2_grpc
from meshwright_common.clock import SystemClock
from meshwright_common.errors import Unavailable
from meshwright_common.resilience.breaker import BreakerPolicy
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from tests.contract.balanced_peers import GET, READ, TENANT, all_connected, peers

pytestmark = pytest.mark.asyncio


@pytest.mark.promise("BL-03")
async def test_a_peer_that_comes_back_is_called_at_once_however_long_it_failed() -> None:
    """The breaker's pause is for a peer that fails, not for one that was started again."""
    async with peers(1) as made:
        await all_connected(made)
        patient = CallPolicy("rag", lambda _: "token", breaker=BreakerPolicy(open_seconds=60.0))
        stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(
            PolicyChannel(made.channel, patient, SystemClock())
        )
        (instance,) = made.instances
        await instance.stop()

        async def is_answered() -> bool:
            with calling_as(TENANT, *READ), suppress(Unavailable):
                return bool((await stub.GetDocument(GET)).document.name)
            return False

        async def is_given_a_pause() -> bool:
            with calling_as(TENANT, *READ):
                try:
                    await stub.GetDocument(GET)
                except Unavailable as error:
                    return (error.retry_after_seconds or 0) > 30
            return False

        await eventually(is_given_a_pause)
        await instance.start()
        await eventually(is_answered)
