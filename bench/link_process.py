"""A service that answers at once and streams as told: python -m bench.link_process KEYS-FOLDER.

Prints `listening 127.0.0.1:PORT` when it takes calls, plainly and over links, behind the
interceptors of every service. A stream's request names how many messages it brings, and how many a
second (0: all that goes).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from meshwright.rag.v1 import document_pb2
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright_common.health import Health
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.tokens import TokenVerifier
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.server import create_server
from meshwright_common.settings import RpcSettings

Context = grpc.aio.ServicerContext[Any, Any]
MESSAGE = pb.WatchIndexingResponse(progress=document_pb2.IndexingProgress(document_id="." * 100))
"""About as long as an event of one token."""


class Source(KnowledgeServiceServicer):
    """Does nothing but answer."""

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        return pb.GetDocumentResponse()

    async def WatchIndexing(
        self, request: pb.WatchIndexingRequest, context: Context
    ) -> AsyncIterator[pb.WatchIndexingResponse]:
        count, per_second = map(int, request.document_ids)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(count):
            if per_second:
                await asyncio.sleep(max(began + number / per_second - loop.time(), 0))
            yield MESSAGE


async def serve(keys_folder: Path) -> None:
    """Serve until the process ends."""
    keys = load_keys(keys_folder, ["rag"])
    interceptors = server_interceptors("rag", TokenVerifier(keys.trusted))
    local = LocalServer(interceptors)
    add_KnowledgeServiceServicer_to_server(Source(), local)
    server, port = await create_server(
        local,
        RpcSettings(listen="127.0.0.1:0", reflection=False),
        interceptors=interceptors,
        health=Health(local.services),
    )
    await server.start()
    sys.stdout.write(f"listening 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(Path(sys.argv[1])))
