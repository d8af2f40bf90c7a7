"""The credentials of the stubs wheel, against a gateway's token endpoint and a real server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import grpc.aio
import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright_credentials import (
    TokenRefused,
    TokenSource,
    TokenUnavailable,
    loopback_channel_credentials,
)

KEY = "mw_an-api-key"


@dataclass
class Gateway:
    """A token endpoint that counts, and answers as told."""

    url: str = ""
    status: int = 200
    answer: bytes | None = None
    life_seconds: float = 60
    requests: list[tuple[str, str | None, object]] = field(default_factory=list)

    def next_answer(self) -> bytes:
        if self.answer is not None:
            return self.answer
        token = f"token-{len(self.requests)}"
        return json.dumps(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.life_seconds}
        ).encode()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    state = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.requests.append((self.path, self.headers["authorization"], json.loads(body)))
            answer = state.next_answer()
            self.send_response(state.status)
            if 300 <= state.status < 400:
                self.send_header("location", state.url + "/elsewhere")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_key_is_exchanged_once_and_renewed_before_the_end(gateway: Gateway) -> None:
    clock = Clock()
    source = TokenSource(gateway.url + "/", KEY, clock=clock)
    assert "token-1" == source.token() == source.token()
    clock.now += 44.9
    assert "token-1" == source.token()
    clock.now += 0.2
    assert "token-2" == source.token()
    expected = ("/api/v1/auth/token", f"Bearer {KEY}", {"grant_type": "api_key"})
    assert [expected, expected] == gateway.requests


def test_many_threads_make_one_exchange(gateway: Gateway) -> None:
    source = TokenSource(gateway.url, KEY)
    with ThreadPoolExecutor(16) as pool:
        tokens = {*pool.map(lambda _: source.token(), range(64))}
    assert {"token-1"} == tokens
    assert 1 == len(gateway.requests)


def test_old_token_serves_while_the_gateway_is_away(gateway: Gateway) -> None:
    clock = Clock()
    source = TokenSource(gateway.url, KEY, clock=clock)
    source.token()
    gateway.status = 503
    clock.now += 50
    assert "token-1" == source.token()
    clock.now += 10
    with pytest.raises(TokenUnavailable, match="503"):
        source.token()
    gateway.status = 200
    assert source.token().startswith("token-")


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_key_is_told_apart(gateway: Gateway, status: int) -> None:
    gateway.status = status
    with pytest.raises(TokenRefused, match=str(status)) as refused:
        TokenSource(gateway.url, KEY).token()
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_key_is_not_carried_to_another_address(gateway: Gateway, status: int) -> None:
    gateway.status = status
    with pytest.raises(TokenUnavailable):
        TokenSource(gateway.url, KEY).token()
    assert ["/api/v1/auth/token"] == [path for path, _, _ in gateway.requests]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"access_token": 7, "expires_in": 60}',
        b'{"access_token": "x", "expires_in": "soon"}',
        b'{"access_token": "x", "expires_in": 0}',
        b'{"access_token": "x", "expires_in": NaN}',
        '{"access_token": "é", "expires_in": 60}'.encode(),
        b"\xff",
    ],
)
def test_answer_that_is_no_token_is_refused(gateway: Gateway, answer: bytes) -> None:
    gateway.answer = answer
    with pytest.raises(TokenUnavailable, match="not a token"):
        TokenSource(gateway.url, KEY).token()


def test_gateway_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(TokenUnavailable, match="reached"):
        TokenSource("http://127.0.0.1:9", KEY).token()
    with pytest.raises(ValueError, match="http"):
        TokenSource("file:///etc/passwd", KEY)


class Library(KnowledgeServiceServicer):
    """Answers with the credential that it got."""

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> Any:
        answer = pb.GetDocumentResponse()
        answer.document.name = dict(context.invocation_metadata()).get("authorization", "")
        return answer

    async def WatchIndexing(self, request: pb.WatchIndexingRequest, context: Any) -> Any:
        answer = pb.WatchIndexingResponse()
        answer.progress.document_id = dict(context.invocation_metadata())["authorization"]
        yield answer

    async def UploadDocument(self, request_iterator: Any, context: Any) -> Any:
        parts = [part async for part in request_iterator]
        answer = pb.UploadDocumentResponse()
        answer.document.name = dict(context.invocation_metadata())["authorization"]
        answer.document.size_bytes = len(parts)
        return answer


@pytest.mark.asyncio
async def test_credentials_work_on_a_loopback_channel_for_all_kinds(gateway: Gateway) -> None:
    server = grpc.aio.server()
    add_KnowledgeServiceServicer_to_server(Library(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    credentials = loopback_channel_credentials(gateway.url, KEY)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        stub = KnowledgeServiceStub(channel)
        got = await stub.GetDocument(pb.GetDocumentRequest(), timeout=5)
        watched = [
            event async for event in stub.WatchIndexing(pb.WatchIndexingRequest(), timeout=5)
        ]
        uploaded = await stub.UploadDocument(iter([pb.UploadDocumentRequest()]), timeout=5)

    def from_a_thread() -> str:
        with grpc.secure_channel(address, credentials) as blocking:
            answer = KnowledgeServiceStub(blocking).GetDocument(pb.GetDocumentRequest(), timeout=5)
        name: str = answer.document.name
        return name

    blocking_name = await asyncio.to_thread(from_a_thread)
    await server.stop(0)
    names = {got.document.name, watched[0].progress.document_id, uploaded.document.name}
    assert {"Bearer token-1"} == names | {blocking_name}
    assert 1 == len(gateway.requests)


@pytest.mark.asyncio
async def test_call_without_a_token_fails_with_the_reason(gateway: Gateway) -> None:
    server = grpc.aio.server()
    add_KnowledgeServiceServicer_to_server(Library(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    gateway.status = 401
    credentials = loopback_channel_credentials(gateway.url, KEY)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await KnowledgeServiceStub(channel).GetDocument(pb.GetDocumentRequest(), timeout=5)
    await server.stop(0)
    assert grpc.StatusCode.UNAVAILABLE is failed.value.code()
    assert "refused the API key" in (failed.value.details() or "")
