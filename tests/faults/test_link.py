"""A peer behind a link that dies, or stands still (reliability.md D1, D2)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright_common.errors import DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.identity.keys import ensure_keys, load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.registry.known import Known
from meshwright_common.registry.ports import Endpoint
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.testing.mesh import calling_as, collect
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

COMMAND = (sys.executable, "-m", "bench.link_process")
TENANT = new_id()
GET = pb.GetDocumentRequest()
ENDLESS = pb.WatchIndexingRequest(document_ids=["1000000", "100"])
"""A message every 10 ms."""


@dataclass(slots=True)
class Peer:
    """A service in a process of its own, whose address is where it listened last."""

    keys: Path
    known: Known
    process: Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *COMMAND, str(self.keys), stdin=DEVNULL, stdout=PIPE
        )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 20)
        self.known.tell([Endpoint(line.decode().split()[-1])])

    def signal(self, which: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(which)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


class OneNamed:
    """A registry that knows the one peer."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def watch(self, peer: str) -> Any:
        return self._known.watch()


@contextlib.asynccontextmanager
async def peer_and_stub(folder: Path) -> AsyncIterator[tuple[Peer, Any]]:
    keys = folder / "keys"
    ensure_keys(keys, SERVICE_NAMES)
    peer = Peer(keys, Known())
    tokens = TokenMinter("gateway", load_keys(keys, ["gateway"]).private_key("gateway"))
    transport = Transport(discovery=OneNamed(peer.known), link=True)
    try:
        await peer.start()
        async with Channels(tokens, {"rag": "consul:///rag"}, transport=transport) as channels:
            channel = channels.open("rag")
            await asyncio.wait_for(channel.channel_ready(), 20)
            yield peer, KnowledgeServiceStub(channel)
    finally:
        await peer.kill()


@pytest.mark.promise("LK-03")
async def test_calls_to_a_peer_that_is_killed_end_at_once(tmp_path: Path) -> None:
    async with peer_and_stub(tmp_path) as (peer, stub):
        got: list[list[pb.WatchIndexingResponse]] = [[] for _ in range(3)]
        with calling_as(TENANT, "kb:read", timeout_seconds=20):
            async with asyncio.TaskGroup() as group:
                reading = [
                    group.create_task(unavailable(collect(stub.WatchIndexing(ENDLESS), one)))
                    for one in got
                ]
                await eventually(lambda: all(len(one) > 3 for one in got))
                began = time.monotonic()
                await peer.kill()
                await asyncio.wait(reading, timeout=15)
            assert time.monotonic() - began < 10, "the calls have 20 s"
            await peer.start()
            await eventually(lambda: answers(stub))


async def unavailable(call: Any) -> None:
    with pytest.raises(Unavailable):
        await call


async def answers(stub: Any) -> bool:
    try:
        await stub.GetDocument(GET)
    except ServiceError:
        return False
    return True


@pytest.mark.promise("LK-04")
async def test_calls_to_a_peer_that_stands_still_end_at_their_deadlines(tmp_path: Path) -> None:
    async with peer_and_stub(tmp_path) as (peer, stub):
        got: list[pb.WatchIndexingResponse] = []
        with calling_as(TENANT, "kb:read"):
            await stub.GetDocument(GET)
            peer.signal(signal.SIGSTOP)
            began = time.monotonic()
            for seconds in (0.2, 0.5):
                with pytest.raises(DeadlineExceeded):
                    await stub.GetDocument(GET, timeout=seconds)
            with pytest.raises(DeadlineExceeded):
                await collect(stub.WatchIndexing(ENDLESS, timeout=0.3), got)
            assert 0.9 < time.monotonic() - began < 10
            peer.signal(signal.SIGCONT)
            await eventually(lambda: answers(stub))
            await stub.GetDocument(GET)
