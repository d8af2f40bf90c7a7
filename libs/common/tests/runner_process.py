"""A process for the tests of the runner: `run` with one app whose behaviour the arguments choose.

Prints what happens, one word a line, on standard output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from meshwright.rag.v1 import retrieval_service_pb2 as pb
from meshwright.rag.v1 import retrieval_service_pb2_grpc
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.errors import Unavailable
from meshwright_common.rpc.channels import Channels
from meshwright_common.runner import run
from meshwright_common.settings import CommonSettings, ServiceName

HOW = sys.argv[1]


class Settings(CommonSettings):
    service: ClassVar[ServiceName] = "rag"


class Retrieval(retrieval_service_pb2_grpc.RetrievalServiceServicer):
    async def Search(self, request: pb.SearchRequest, context: object) -> pb.SearchResponse:
        return pb.SearchResponse()

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, context: object
    ) -> pb.BatchSearchResponse:
        return pb.BatchSearchResponse()


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def leave() -> None:
    say("leaving")


def register(server: object) -> None:
    add: object = retrieval_service_pb2_grpc.add_RetrievalServiceServicer_to_server
    assert callable(add)
    add(Retrieval(), server)


async def probe() -> None:
    if HOW == "never-ready":
        raise Unavailable("not yet")


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    say("building")
    if HOW == "build-fails":
        raise Unavailable("the database is away")
    stopping = asyncio.Event()

    async def work() -> None:
        say("working")
        if HOW == "task-fails":
            raise LookupError("a defect")
        try:
            if HOW == "stubborn":
                await asyncio.Event().wait()
            await stopping.wait()
        finally:
            say("work-over")

    async def count() -> None:
        say("counting")

    async def drain() -> None:
        say("draining")
        if HOW == "hangs":
            await asyncio.Event().wait()

    yield App(
        "rag",
        register,
        ("meshwright.rag.v1.RetrievalService",),
        (
            BackgroundTask("work", work, stopping.set),
            *([BackgroundTask("count", count, apart=True)] if HOW == "apart" else []),
        ),
        (Check("database", probe),),
        drain,
        leave,
    )
    say("closing")


if __name__ == "__main__":
    run(build, Settings)
