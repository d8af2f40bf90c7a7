"""What a call and a message cost between two processes: plain gRPC beside one shared stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from bench.measurement import Measurement
from bench.process_usage import cpu_seconds
from bench.processes import Child, Placement, ProcessError, child, module, pinned
from bench.targets import Target
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright_common.context import Principal
from meshwright_common.identity.keys import ensure_keys, load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.stream import open_stream
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.testing.mesh import calling_as

NAME: Final = "link"
ABOUT: Final = (
    "CPU µs of both processes of one hop: a unary call, alone and 32 at a time; a message of 100 "
    "streams at 50 messages/s, and of 32 streams without a pace; with our policy and interceptors"
)
CALLS: Final = 8_000
QUICK_CALLS: Final = 2_000
PACED: Final = (100, 200, 50)
"""Streams, messages each, messages a second."""
QUICK_PACED: Final = (100, 100, 50)
UNPACED: Final = (32, 2_000, 0)
LIMIT_SECONDS: Final = 60.0
_PERMISSIONS: Final = ("kb:read",)
_KINDS: Final = {Target.PLAIN: False, Target.LINK: True}


def measure(scratch: Path, place: Placement, *, repeats: int, quick: bool) -> list[Measurement]:
    """Run both ways in turns against one server. Raises: ProcessError when answers are missing."""
    keys = scratch / "keys"
    ensure_keys(keys, SERVICE_NAMES)
    measurements: list[Measurement] = []
    command = module("bench.link_process", str(keys))
    with (
        child(
            command, ready=r"^listening 127\.0\.0\.1:(?P<port>\d+)$", cores=place.system
        ) as served,
        pinned(place.system),
    ):
        # In one loop: gRPC's poller stays with the first one.
        for repeat, values in enumerate(uvloop.run(_repeat(served, keys, repeats, quick=quick))):
            plain, link = values[Target.PLAIN], values[Target.LINK]
            link |= {f"{name}_plain_vs_link": plain[name] / link[name] for name in plain}
            measurements += [
                Measurement(NAME, target, repeat, found) for target, found in values.items()
            ]
    return measurements


async def _repeat(
    served: Child, keys: Path, repeats: int, *, quick: bool
) -> list[dict[Target, dict[str, float]]]:
    return [
        {
            target: await _measure(served, keys, link=link, quick=quick)
            for target, link in _KINDS.items()
        }
        for _ in range(repeats)
    ]


async def _measure(served: Child, keys: Path, *, link: bool, quick: bool) -> dict[str, float]:
    tokens = TokenMinter("gateway", load_keys(keys, ["gateway"]).private_key("gateway"))
    target = f"ipv4:127.0.0.1:{served.ready['port']}"
    calls = QUICK_CALLS if quick else CALLS
    async with Channels(tokens, {"rag": target}, transport=Transport(link=link)) as channels:
        channel = channels.open("rag")
        await asyncio.wait_for(channel.channel_ready(), LIMIT_SECONDS)
        stub = KnowledgeServiceStub(channel)
        caller = Principal(new_id(), "bench", "user", frozenset(_PERMISSIONS))

        async def call(times: int) -> None:
            with calling_as(caller):
                for _ in range(times):
                    await stub.GetDocument(pb.GetDocumentRequest(document_id="x"))

        async def read(count: int, per_second: int) -> None:
            request = pb.WatchIndexingRequest(document_ids=[str(count), str(per_second)])
            read = 0
            with calling_as(caller):
                async with open_stream(stub.WatchIndexing(request)) as messages:
                    async for _ in messages:
                        read += 1
            if read != count:
                raise ProcessError(f"{NAME}: {read} of {count} messages")

        async def streams(number: int, count: int, per_second: int) -> None:
            await asyncio.gather(*(read(count, per_second) for _ in range(number)))

        async def at_once() -> None:
            await asyncio.gather(*(call(calls // 32) for _ in range(32)))

        await call(200)
        paced = QUICK_PACED if quick else PACED
        return {
            "unary_cpu_microseconds": await _each(served, calls, lambda: call(calls)),
            "unary_32_cpu_microseconds": await _each(served, calls, at_once),
            "paced_cpu_microseconds": await _each(
                served, paced[0] * paced[1], lambda: streams(*paced)
            ),
            "unpaced_cpu_microseconds": await _each(
                served, UNPACED[0] * UNPACED[1], lambda: streams(*UNPACED)
            ),
        }


async def _each(served: Child, times: int, work: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU time of both processes for each of `times`."""
    theirs, ours = cpu_seconds(served.pid), time.process_time()
    async with asyncio.timeout(LIMIT_SECONDS):
        await work()
    used = cpu_seconds(served.pid) - theirs + time.process_time() - ours
    return used / times * 1e6
