"""Calls over several instances of a peer: spread, moved, repeated, left out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1 import knowledge_service_pb2_grpc
from meshwright_common.clock import SystemClock
from meshwright_common.errors import Unavailable
from meshwright_common.registry.ports import Endpoint
from meshwright_common.rpc.outliers import CONSECUTIVE_FAILURES
from meshwright_common.rpc.policy import CallPolicy, PolicyChannel
from meshwright_common.rpc.pool import FAILING, NotSent
from meshwright_common.rpc.stream import open_stream
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from tests.contract.balanced_peers import (
    GET,
    READ,
    REINDEX,
    TENANT,
    Peers,
    all_connected,
    connected,
    peers,
)

pytestmark = pytest.mark.asyncio


# --- spreading ------------------------------------------------------------------------------------


@pytest.mark.promise("BL-01")
async def test_calls_follow_the_weights_smoothly() -> None:
    async with peers(3) as made:
        await all_connected(made)
        a, b, c = made.instances
        made.tell(a.weighing(5), b.weighing(1), c.weighing(1))
        await eventually(lambda: five_to_one(made))
        order = "".join([(await made.raw.GetDocument(GET)).document.name for _ in range(70)])
        assert Counter(order) == {"a": 50, "b": 10, "c": 10}
        # Smooth: the heavy one has no long run, though 5 of 7 are its.
        assert "aaaaaa" not in order


async def five_to_one(made: Peers) -> bool:
    return (await made.names(7))["a"] == 5


@pytest.mark.promise("BL-01")
async def test_many_calls_at_once_are_spread_too() -> None:
    async with peers(2) as made:
        await all_connected(made)
        answers = await asyncio.gather(*(made.raw.GetDocument(GET) for _ in range(100)))
    assert Counter(one.document.name for one in answers) == {"a": 50, "b": 50}


# --- coming and going -----------------------------------------------------------------------------


@pytest.mark.promise("BL-02")
async def test_a_new_instance_gets_calls_within_a_second() -> None:
    async with peers(2) as made:
        a, b = made.instances
        made.tell(a.endpoint)
        await eventually(lambda: only(made, "a"))
        made.tell(a.endpoint, b.endpoint)
        await eventually(lambda: connected(made))


@pytest.mark.promise("BL-02")
async def test_one_that_left_gets_nothing_new_and_its_streams_end_in_peace() -> None:
    async with peers(2) as made:
        await all_connected(made)
        a, b = made.instances
        streams = [made.raw.WatchIndexing(pb.WatchIndexingRequest()) for _ in range(4)]
        readers = [one.__aiter__() for one in streams]
        for reader in readers:
            await anext(reader)
        assert (a.calls > 0, b.calls > 0) == (True, True)
        made.tell(b.endpoint)
        await eventually(lambda: only(made, "b"))
        before = a.calls
        assert await made.names(20) == {"b": 20}
        assert before == a.calls
        a.release.set()
        b.release.set()
        ends = sorted([(await anext(reader)).progress.document_id for reader in readers])
        assert ends == ["a last", "a last", "b last", "b last"]


async def only(made: Peers, name: str) -> bool:
    return set(await made.names(4)) == {name}


@pytest.mark.promise("BL-02")
async def test_a_restart_that_is_announced_fails_no_call() -> None:
    """Deregistered, drained, stopped, started, registered: at full speed, not idempotent."""
    async with peers(2) as made:
        await all_connected(made)
        stop = asyncio.Event()
        answered = Counter[int]()

        async def keep_calling(number: int) -> None:
            while not stop.is_set():
                await made.raw.Reindex(REINDEX)
                answered[number] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(keep_calling(number))
            for instance, other in zip(made.instances, reversed(made.instances), strict=True):
                made.tell(other.endpoint)
                await eventually(partial(only, made, other.name))
                await instance.stop(5)
                await instance.start()
                made.tell(instance.endpoint, other.endpoint)
                await eventually(lambda: connected(made))
            await eventually(lambda: len(answered) == 8 and min(answered.values()) > 10)
            stop.set()


@pytest.mark.promise("BL-04")
async def test_an_instance_that_dies_fails_no_idempotent_call() -> None:
    async with peers(2) as made:
        await all_connected(made)
        with calling_as(TENANT, *READ):
            for round_number in range(40):
                if round_number == 10:
                    await made.instances[0].stop()
                await made.stub.GetDocument(GET)


# --- failing --------------------------------------------------------------------------------------


@pytest.mark.promise("BL-03")
async def test_an_instance_that_keeps_failing_is_left_out() -> None:
    async with peers(3) as made:
        await all_connected(made)
        sick = made.instances[1]
        sick.fails = True
        with calling_as(TENANT, *READ):
            while sick.calls < 1000:
                before = sick.calls
                # It rests between failures, so that it takes a while to be condemned.
                await asyncio.gather(*(made.stub.GetDocument(GET) for _ in range(12)))
                if before == sick.calls and sick.calls >= CONSECUTIVE_FAILURES:
                    break
                await asyncio.sleep(0)
        sick.fails = False
        assert set(await made.names(30)) == {"a", "c"}


@pytest.mark.promise("BL-03")
async def test_an_instance_that_was_restarted_is_taken_back_at_once() -> None:
    async with peers(2) as made:
        await all_connected(made)
        sick = made.instances[0]
        sick.fails = True
        while sick.calls < 1000:
            results = await asyncio.gather(
                *(made.raw.GetDocument(GET) for _ in range(8)), return_exceptions=True
            )
            if not any(isinstance(one, grpc.aio.AioRpcError) for one in results):
                break
        sick.fails = False
        assert await made.names(8) == {"b": 8}
        await sick.stop()
        await sick.start()
        await eventually(lambda: connected(made))


# --- repeating ------------------------------------------------------------------------------------


@pytest.mark.promise("BL-04")
async def test_the_repeated_call_goes_to_another_instance() -> None:
    """Even if the failing one has all the weight."""
    async with peers(2) as made:
        await all_connected(made)
        a, b = made.instances
        made.tell(a.weighing(100), b.weighing(1))
        await eventually(lambda: hundred_to_one(made))
        a.fails = True
        before = a.calls
        with calling_as(TENANT, *READ):
            answer = await made.stub.GetDocument(GET)
        assert (answer.document.name, a.calls - before) == ("b", 1)


async def hundred_to_one(made: Peers) -> bool:
    return (await made.names(10))["a"] >= 9


@pytest.mark.promise("BL-05")
async def test_a_call_that_was_received_is_not_repeated_unless_idempotent() -> None:
    async with peers(2) as made:
        await all_connected(made)
        for instance in made.instances:
            instance.fails = True
        before = sum(one.calls for one in made.instances)
        with calling_as(TENANT, *READ), pytest.raises(Unavailable):
            await made.stub.Reindex(REINDEX)
        assert sum(one.calls for one in made.instances) == before + 1


@pytest.mark.promise("BL-05")
async def test_of_a_call_that_was_not_sent_no_request_was_taken() -> None:
    async with peers(1) as made:
        await all_connected(made)
        (instance,) = made.instances
        await instance.stop()
        await eventually(lambda: unreachable(made))
        taken = 0

        async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
            nonlocal taken
            for part in (b"whole ", b"document"):
                taken += 1
                yield pb.UploadDocumentRequest(data=part)

        upload = requests()
        with calling_as(TENANT, *READ):
            with pytest.raises(Unavailable):
                await made.stub.UploadDocument(upload)
            assert taken == 0
            await instance.start()
            await made.channel.channel_ready()
            answer = await made.stub.UploadDocument(upload)
        assert answer.document.name == "whole document"


async def unreachable(made: Peers) -> bool:
    try:
        await made.raw.GetDocument(GET)
    except grpc.aio.AioRpcError as error:
        return isinstance(error, NotSent)
    return False


@pytest.mark.promise("BL-05")
async def test_a_repeated_call_that_was_not_sent_is_made_in_the_end() -> None:
    """The policy alone: the first attempt could not be sent, the second one is answered."""

    class Flaky:
        def __init__(self) -> None:
            self.attempts = 0

        def unary_unary(self, method: str, *codecs: object) -> Any:
            def call(request: object, **options: object) -> Any:
                self.attempts += 1

                async def answer() -> pb.ReindexResponse:
                    if self.attempts == 1:
                        raise NotSent("nobody")
                    return pb.ReindexResponse()

                return answer()

            return call

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    flaky: Any = Flaky()
    channel = PolicyChannel(flaky, CallPolicy("rag", lambda _: "token"), SystemClock())
    with calling_as(TENANT, *READ):
        await knowledge_service_pb2_grpc.KnowledgeServiceStub(channel).Reindex(REINDEX)
    assert flaky.attempts == 2


# --- waiting --------------------------------------------------------------------------------------


@pytest.mark.promise("BL-06")
async def test_a_call_waits_for_the_first_instance() -> None:
    async with peers(1, known=False) as made:
        call = made.raw.GetDocument(GET, timeout=5)
        stream = made.raw.WatchIndexing(pb.WatchIndexingRequest(), timeout=5)
        await asyncio.sleep(0)
        assert not call.done()
        made.tell(made.instances[0].endpoint)
        assert (await call).document.name == "a"
        assert await call.code() is grpc.StatusCode.OK
        made.instances[0].release.set()
        async with open_stream(stream) as messages:
            assert [one.progress.document_id async for one in messages] == ["a first", "a last"]


@pytest.mark.promise("BL-06")
async def test_a_call_to_nobody_ends_with_its_time_and_can_be_cancelled() -> None:
    async with peers(0, known=False) as made:
        call = made.raw.GetDocument(GET, timeout=0.1)
        with pytest.raises(NotSent):
            await call
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        waiting = made.raw.GetDocument(GET)
        assert waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.promise("BL-06")
async def test_when_nobody_can_be_reached_the_call_ends_at_once() -> None:
    async with peers(1) as made:
        await made.channel.channel_ready()
        await made.instances[0].stop()
        async with asyncio.timeout(6):
            await eventually(lambda: unreachable(made))
        assert made.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


@pytest.mark.promise("BL-06")
async def test_a_first_call_waits_for_who_listens_between_two_attempts_to_connect() -> None:
    """A platform's first turn comes when all serve, and not all have noticed."""
    async with peers(1, known=False) as made:
        (instance,) = made.instances
        await instance.stop()
        made.tell(instance.endpoint)
        await eventually(lambda: made.channel.get_state(try_to_connect=True) is FAILING)
        call = made.raw.GetDocument(GET, timeout=5)
        await asyncio.sleep(0)
        await instance.start()
        assert (await call).document.name == "a"


@pytest.mark.promise("BL-06")
async def test_one_that_cannot_be_reached_is_passed_over() -> None:
    async with peers(1) as made:
        made.tell(made.instances[0].endpoint, Endpoint(f"127.0.0.1:{free_port()}"))
        await made.channel.channel_ready()
        assert await made.names(20) == {"a": 20}


@pytest.mark.promise("BL-06")
async def test_a_connection_that_takes_a_while_is_made_at_the_first_attempt() -> None:
    """Far away, over TLS, on a busy machine: half a second is not too long."""
    attempts = 0
    async with peers(1, known=False) as made:

        async def pass_on_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            there = await asyncio.open_connection("127.0.0.1", made.instances[0].port)
            await asyncio.sleep(0.5)
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, there[1]))
                group.create_task(pump(there[0], writer))

        slow = await asyncio.start_server(pass_on_later, "127.0.0.1")
        made.tell(Endpoint(f"127.0.0.1:{slow.sockets[0].getsockname()[1]}"))
        assert await made.names(3) == {"a": 3}
        assert attempts == 1
        slow.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one of the two ends."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
