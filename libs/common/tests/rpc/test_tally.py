"""A process counts its calls, and which of them speak against it (feature O8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1 import knowledge_service_pb2_grpc
from meshwright_common.errors import Internal, NotFound, ServiceError
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.registry.load import CallTally
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.testing.mesh import calling_as

pytestmark = pytest.mark.asyncio


class Rag(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    """Does what the document id says."""

    def __init__(self, tally: CallTally) -> None:
        self._tally = tally
        self.running: list[int] = []

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> Any:
        self.running.append(self._tally.running)
        await asyncio.sleep(0)
        match request.document_id:
            case "absent":
                raise NotFound("no such document")
            case "defect":
                raise LookupError("a defect")
        return pb.GetDocumentResponse()


async def test_calls_that_run_and_errors_of_ours_are_counted() -> None:
    """O8: pending is what runs; what a caller did wrong is no error of the process."""
    tally = CallTally(least_calls=1)
    keys = ephemeral_keys(["gateway"])
    server = LocalServer(server_interceptors("test", TokenVerifier(keys.trusted), tally=tally))
    rag = Rag(tally)
    knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(rag, server)
    tokens = TokenMinter("gateway", keys.private_key("gateway"))
    async with Channels(tokens, {"rag": "local:"}, local_server=server) as channels:
        stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channels.open("rag"))

        async def get(document_id: str) -> type[ServiceError] | None:
            try:
                await stub.GetDocument(pb.GetDocumentRequest(document_id=document_id))
            except ServiceError as error:
                return type(error)
            return None

        with calling_as(new_id(), "kb:read"):
            assert [None, None, None] == await asyncio.gather(*(get("there") for _ in range(3)))
            assert (3, 0) == (max(rag.running), tally.running)
            assert NotFound is await get("absent")
            assert 0.0 == tally.error_rate()
            assert Internal is await get("defect")
            assert 0.2 == tally.error_rate()
