"""Uploads: streamed through, bounded, and refused with a reason."""

import hashlib
import io
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest

from meshwright_common.testing.mesh import Substrate
from meshwright_common.testing.waiting import eventually
from meshwright_gateway.wire.values import object_from
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio

PATH = "/api/v1/knowledge-bases/default/documents"
MIB = 1024 * 1024
B = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={B}"}
HEAD = f'--{B}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'.encode()
TAIL = f"\r\n--{B}--\r\n".encode()


def part(disposition: str, content: bytes = b"x", *more: str) -> bytes:
    """Return one part."""
    headers = "\r\n".join([f"Content-Disposition: {disposition}", *more])
    return f"--{B}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"


async def document_of(size: int) -> AsyncIterator[bytes]:
    """Yield a form whose file has so many bytes."""
    yield HEAD
    for start in range(0, size, MIB):
        yield b"d" * min(MIB, size - start)
    yield TAIL


async def test_a_document_arrives_as_it_was_sent(platform: Platform) -> None:
    content = bytes(range(256)) * 5000 + b"\r\n--not the boundary\r\n"
    form = aiohttp.FormData()
    form.add_field("metadata", '{"year": 2026, "tags": ["a"]}')
    form.add_field(
        "file", io.BytesIO(content), filename="使用手册.pdf", content_type="application/pdf"
    )

    answer = await platform.send(PATH, form, idempotency_key="upload-1")

    stored = await answer.json()
    knowledge = platform.peers.knowledge
    assert answer.status == 202
    assert stored["document"]["name"] == "使用手册.pdf"
    assert stored["document"]["state"] == "pending"
    assert stored["document"]["metadata"] == {"year": 2026, "tags": ["a"]}
    assert stored["duplicate"] is False
    assert answer.headers["location"] == f"/api/v1/documents/{stored['document']['document_id']}"
    assert knowledge.digests == [hashlib.sha256(content).hexdigest()]
    (header,) = knowledge.headers
    assert (header.knowledge_base_id, header.request_id) == ("default", "upload-1")
    assert header.media_type == "application/pdf"
    assert object_from(header.metadata) == {"year": 2026, "tags": ["a"]}


async def test_a_large_document_is_never_whole_in_memory(platform: Platform) -> None:
    """50 MiB, exactly the limit, pass through in pieces."""
    await platform.get("/api/v1/models")
    tracemalloc.start()
    try:
        answer = await platform.send(PATH, document_of(50 * MIB), **FORM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.status == 202
    assert platform.peers.knowledge.sizes == [50 * MIB]
    assert platform.peers.knowledge.largest_piece <= MIB
    assert peak < 8 * MIB


@pytest.mark.parametrize("known_length", [True, False])
async def test_one_byte_more_is_refused_by_name(platform: Platform, known_length: bool) -> None:
    size = 50 * MIB + 1
    headers = dict(FORM)
    if known_length:
        headers["content-length"] = str(len(HEAD) + size + len(TAIL))

    answer = await platform.send(PATH, document_of(size), **headers)

    problem = await answer.json()
    assert answer.status == 413
    assert problem["code"] == "DOCUMENT_TOO_LARGE"
    assert problem["metadata"] == {"limit_bytes": str(50 * MIB)}
    assert platform.peers.knowledge.sizes == []


async def test_a_huge_length_is_refused_before_the_body(platform: Platform) -> None:
    reader, writer = await platform.raw()
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {platform.key}\r\n"
        f"content-type: {FORM['content-type']}\r\ncontent-length: {10**10}\r\n"
        "expect: 100-continue\r\n\r\n".encode()
    )

    assert b" 413 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, ""),
        (b"no form at all", 400, ""),
        (HEAD + b"cut", 400, ""),
        (b"p" * 10_000 + b"\r\n" + HEAD + b"x" + TAIL, 400, ""),
        (part("attachment") + TAIL[2:], 400, ""),
        (part('form-data; name="NAME"').replace(b"NAME", b"\xff") + TAIL[2:], 400, ""),
        (f"--{B}\r\n".encode() + b"A: b\r\n" * 50 + b"\r\nx" + TAIL, 400, ""),
        (f"--{B}\r\nA: ".encode() + b"b" * 100_000 + b"\r\n\r\nx" + TAIL, 400, ""),
        (part('form-data; name="metadata"', b"{}") + TAIL[2:], 422, "file"),
        (part('form-data; name="other"') + HEAD + b"x" + TAIL, 422, "other"),
        (part('form-data; name="image"; filename="a"') + TAIL[2:], 422, "image"),
        (part('form-data; name="metadata"', b"{") + HEAD + b"x" + TAIL, 422, "metadata"),
        (part('form-data; name="metadata"', b"[]") + HEAD + b"x" + TAIL, 422, "metadata"),
        (part('form-data; name="name"', b"\xff") + HEAD + b"x" + TAIL, 422, "name"),
        (part('form-data; name="name"', b"n" * 256) + HEAD + b"x" + TAIL, 422, "name"),
        (part('form-data; name="name"') * 2 + HEAD + b"x" + TAIL, 422, "name"),
        (part('form-data; name="metadata"', b" " * 30_000) + HEAD + b"x" + TAIL, 422, "metadata"),
        (HEAD + b"x\r\n" + part('form-data; name="name"') + TAIL[2:], 422, "name"),
        (HEAD + b"x\r\n" + HEAD + b"y" + TAIL, 422, "file"),
        (part('form-data; name="name"') * 21 + TAIL[2:], 413, ""),
        (HEAD + TAIL, 422, ""),
    ],
    ids=[
        *("empty", "no-form", "cut", "preamble", "disposition", "bad-name", "many-headers"),
        *("long-header", "no-file", "other-field", "other-file", "metadata-cut", "metadata-list"),
        *("name-bytes", "name-long", "name-twice", "metadata-long", "field-late", "two-files"),
        *("many-parts", "empty-file"),
    ],
)
async def test_a_form_that_is_wrong_is_refused_with_its_reason(
    platform: Platform, body: bytes, status: int, field: str
) -> None:
    """S-34. Nothing is stored."""
    answer = await platform.send(PATH, body, **FORM)

    problem = await answer.json()
    assert answer.status == status, problem
    if field:
        assert problem["errors"][0]["field"] == field
    assert platform.peers.knowledge.sizes == []


async def test_more_parts_than_allowed_are_refused() -> None:
    async with running(upload_part_limit=2) as platform:
        parts = b"".join(part(f'form-data; name="{name}"') for name in ("name", "media_type"))

        answer = await platform.send(PATH, parts + HEAD + b"x" + TAIL, **FORM)

        assert answer.status == 413
        assert "2 parts" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "multipart/form-data", f"multipart/form-data; boundary={'b' * 300}"],
)
async def test_other_forms_of_bodies_are_refused(platform: Platform, content_type: str) -> None:
    answer = await platform.send(PATH, HEAD + b"x" + TAIL, **{"content-type": content_type})

    assert answer.status == 415


async def test_an_absent_knowledge_base_is_told_while_the_file_still_comes(
    platform: Platform,
) -> None:
    """The service answers after the header; the client reads the answer all the same."""
    answer = await platform.send(
        "/api/v1/knowledge-bases/absent/documents", document_of(20 * MIB), **FORM
    )

    assert answer.status == 404
    assert (await answer.json())["code"] == "KNOWLEDGE_BASE_NOT_FOUND"


@pytest.mark.parametrize("substrate", ["local", "grpc"])
async def test_a_client_that_leaves_half_way_stores_nothing(substrate: Substrate) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield HEAD
        yield b"d" * MIB
        raise ConnectionResetError

    async with running(substrate=substrate) as platform:
        with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
            await platform.send(PATH, half(), **FORM)

        await eventually(lambda: platform.gateway.server.connection_count == 0)
        knowledge = platform.peers.knowledge
        await eventually(lambda: knowledge.open_uploads == 0)
        assert knowledge.sizes == []


async def test_a_form_that_breaks_half_way_stores_nothing_over_grpc_either() -> None:
    """There a call that is cut off can look like one that has ended."""
    async with running(substrate="grpc") as platform:
        answer = await platform.send(PATH, HEAD + b"d" * 3 * MIB, **FORM)

        assert answer.status == 400
        assert "ends before" in (await answer.json())["detail"]
        assert platform.peers.knowledge.sizes == []
