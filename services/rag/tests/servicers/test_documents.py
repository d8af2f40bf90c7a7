"""Documents from upload to erasure, through the public surface."""

import asyncio
import io

import docx
import pytest

from meshwright.rag.v1 import document_pb2
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.types.v1.page_pb2 import PageRequest
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.rag.tests.pdfs import Text, make_encrypted_pdf, make_pdf
from services.rag.tests.world import FAILED, READY, World, tenant

MANUAL = (
    "# Reset\n\nTo reset the router, hold the button for ten seconds.\n\n# Wifi\n\nOpen the app."
)


def word_bytes(text: str) -> bytes:
    document = docx.Document()
    document.add_paragraph(text)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.md", MANUAL.encode()),
        ("m.txt", b"hold the button for ten seconds"),
        ("m.html", b"<h1>Reset</h1><p>hold the button for ten seconds</p>"),
        ("m.csv", b"what,how\nreset,hold the button for ten seconds\n"),
        ("m.docx", word_bytes("hold the button for ten seconds")),
        ("m.pdf", make_pdf([[Text("cover")], [Text("hold the button for ten seconds")]])),
    ],
)
async def test_every_format_becomes_searchable(world: World, name: str, content: bytes) -> None:
    with world.caller(tenant()):
        document_id = await world.add(name, content)
        found = await world.search("how long to hold the button")
    assert found.passages[0].document_id == document_id
    assert found.passages[0].document_name == name
    assert "ten seconds" in found.passages[0].text
    assert found.passages[0].page == (2 if name == "m.pdf" else 0)


@pytest.mark.asyncio
async def test_an_upload_is_answered_before_it_is_indexed(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        answer = await idle_world.upload("m.md", MANUAL.encode())
        assert answer.document.state == document_pb2.DOCUMENT_STATE_PENDING
        assert not (await idle_world.search("reset")).passages


@pytest.mark.asyncio
async def test_progress_ends_with_every_passage_done(world: World) -> None:
    with world.caller(tenant()):
        answer = await world.upload("long.md", ("A sentence about routers. " * 4000).encode())
        told = await world.indexed(answer.document.document_id)
    assert told[-1].state == READY
    assert told[-1].stage == "done"
    assert told[-1].chunks_done == told[-1].chunks_total > 50


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("locked.pdf", make_encrypted_pdf("secret"), "DOCUMENT_ENCRYPTED"),
        ("cut.pdf", make_pdf([[Text("x")]])[:150], "DOCUMENT_BROKEN"),
        ("scan.pdf", make_pdf([[]]), "DOCUMENT_EMPTY"),
        ("bad.txt", "好".encode() * 20 + b"\xff\xfe", "DOCUMENT_ENCODING"),
        ("cut.docx", word_bytes("x")[:500], "DOCUMENT_BROKEN"),
    ],
)
async def test_a_file_that_cannot_be_read_fails_at_once_with_its_reason(
    world: World, name: str, content: bytes, reason: str
) -> None:
    with world.caller(tenant()):
        document_id = (await world.upload(name, content)).document.document_id
        last = (await world.indexed(document_id))[-1]
        assert (last.state, last.failure_reason) == (FAILED, reason)
        assert last.failure_message
        read = await world.knowledge.GetDocument(pb.GetDocumentRequest(document_id=document_id))
    assert read.document.failure_reason == reason
    assert world.model.calls == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"", "DOCUMENT_EMPTY"),
        ("blank.txt", b" \n ", "DOCUMENT_EMPTY"),
        ("big.txt", b"x" * (2 * 1024 * 1024 + 1), "DOCUMENT_TOO_LARGE"),
        ("image.png", b"\x89PNG\r\n\x1a\n", "DOCUMENT_TYPE_UNSUPPORTED"),
        ("fake.pdf", b"no pdf at all", "DOCUMENT_BROKEN"),
        ("a\x01b.txt", b"text", "INVALID_ARGUMENT"),
    ],
)
async def test_a_refused_upload_leaves_nothing_behind(
    world: World, name: str, content: bytes, reason: str
) -> None:
    owner = tenant()
    with world.caller(owner), pytest.raises(ServiceError) as error:
        await world.upload(name, content)
    assert error.value.reason == reason
    assert (await world.counts(owner))["documents"] == 0
    assert world.files() == []


@pytest.mark.asyncio
async def test_a_file_of_exactly_the_limit_is_taken(world: World) -> None:
    with world.caller(tenant()):
        answer = await world.upload("big.txt", b"word " * (2 * 1024 * 1024 // 5) + b"ab")
    assert answer.document.size_bytes == 2 * 1024 * 1024


@pytest.mark.asyncio
async def test_the_same_file_again_is_the_same_document(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        document_id = await world.add("m.md", MANUAL)
        again = await world.upload("m.md", MANUAL.encode())
        renamed = await world.upload("copy.md", MANUAL.encode())
    assert (again.duplicate, again.document.document_id) == (True, document_id)
    assert (renamed.duplicate, renamed.document.name) == (True, "m.md")
    await eventually(lambda: len(world.files()) == 1)
    assert (await world.counts(owner))["documents"] == 1


@pytest.mark.asyncio
async def test_other_bytes_under_the_name_are_the_next_version(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        document_id = await world.add("m.md", "The color is red.")
        answer = await world.upload("m.md", b"The color is blue.")
        assert (answer.document.document_id, answer.document.version) == (document_id, 2)
        await world.indexed(document_id)
        found = await world.search("color")
        assert [one.text for one in found.passages] == ["The color is blue."]
    await eventually(lambda: len(world.files()) == 1)

    async def one_generation() -> bool:
        return (await world.counts(owner))["passages"] == 1

    await eventually(one_generation)


@pytest.mark.asyncio
async def test_a_version_that_cannot_be_read_leaves_the_one_before_searchable(
    world: World,
) -> None:
    with world.caller(tenant()):
        document_id = await world.add("m.pdf", make_pdf([[Text("The color is red.")]]))
        await world.upload("m.pdf", make_encrypted_pdf("secret"))
        assert (await world.indexed(document_id))[-1].failure_reason == "DOCUMENT_ENCRYPTED"
        found = await world.search("color")
        assert [one.text for one in found.passages] == ["The color is red."]


@pytest.mark.asyncio
async def test_a_repeated_request_answers_the_same_and_stores_once(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        first = await world.upload("m.md", MANUAL.encode(), request_id="r-1")
        await world.upload("m.md", b"newer", request_id="r-2")
        again = await world.upload("m.md", MANUAL.encode(), request_id="r-1")
        assert again.document.document_id == first.document.document_id
        assert again.document.version == 2
        with pytest.raises(ServiceError) as error:
            await world.upload("m.md", b"something else", request_id="r-1")
    assert error.value.reason == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.asyncio
async def test_uploads_at_once_under_one_name_make_one_document(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        answers = await asyncio.gather(
            *(world.upload("m.md", f"version {number}".encode()) for number in range(6))
        )
    assert len({one.document.document_id for one in answers}) == 1
    assert sorted(one.document.version for one in answers) == [1, 2, 3, 4, 5, 6]


@pytest.mark.asyncio
async def test_a_deleted_document_is_gone_at_once_and_from_every_store(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        document_id = await world.add("m.md", MANUAL)
        await world.knowledge.DeleteDocument(pb.DeleteDocumentRequest(document_id=document_id))
        assert not (await world.search("reset the router")).passages
        with pytest.raises(ServiceError) as error:
            await world.knowledge.GetDocument(pb.GetDocumentRequest(document_id=document_id))
        assert error.value.reason == "DOCUMENT_NOT_FOUND"
        await world.knowledge.DeleteDocument(pb.DeleteDocumentRequest(document_id=document_id))

    async def nothing_left() -> bool:
        return not any((await world.counts(owner)).values())

    await eventually(nothing_left)
    assert world.files() == []


@pytest.mark.asyncio
async def test_a_document_deleted_while_it_is_indexed_stays_deleted(world: World) -> None:
    owner = tenant()
    world.model.gate = asyncio.Event()
    with world.caller(owner):
        document_id = (await world.upload("m.md", MANUAL.encode())).document.document_id
        async with asyncio.timeout(20):
            await world.model.arrived.wait()
        await world.knowledge.DeleteDocument(pb.DeleteDocumentRequest(document_id=document_id))
    world.model.gate.set()

    async def nothing_left() -> bool:
        return not any((await world.counts(owner)).values())

    await eventually(nothing_left)
    assert world.files() == []


@pytest.mark.asyncio
async def test_watching_a_document_ends_when_it_is_deleted(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        document_id = (await idle_world.upload("m.md", MANUAL.encode())).document.document_id
        request = pb.WatchIndexingRequest(document_ids=[document_id])
        states: list[document_pb2.DocumentState.ValueType] = []
        async with (
            asyncio.timeout(20),
            open_stream(idle_world.knowledge.WatchIndexing(request)) as told,
        ):
            async for one in told:
                if not states:
                    await idle_world.knowledge.DeleteDocument(
                        pb.DeleteDocumentRequest(document_id=document_id)
                    )
                states.append(one.progress.state)
    assert states == [
        document_pb2.DOCUMENT_STATE_PENDING,
        document_pb2.DOCUMENT_STATE_DELETED,
    ]


@pytest.mark.asyncio
async def test_the_old_index_answers_until_the_new_one_is_whole(world: World) -> None:
    with world.caller(tenant()):
        document_id = await world.add("m.md", MANUAL)
        world.model.gate = asyncio.Event()
        world.model.arrived.clear()
        await world.knowledge.Reindex(pb.ReindexRequest(document_id=document_id))
        async with asyncio.timeout(20):
            await world.model.arrived.wait()
        found = await world.search("reset the router", vectorWeight=0.0)
        assert found.passages
        world.model.gate.set()
        assert (await world.indexed(document_id))[-1].state == READY
        assert len((await world.search("reset the router")).passages) == len(found.passages)


@pytest.mark.asyncio
async def test_documents_are_listed_newest_first_in_pages(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        for number in range(5):
            await idle_world.upload(f"{number}.md", f"text {number}".encode())
        names, token = [], ""
        while True:
            page = await idle_world.knowledge.ListDocuments(
                pb.ListDocumentsRequest(page=PageRequest(page_size=2, page_token=token))
            )
            names += [one.name for one in page.documents]
            token = page.page.next_page_token
            if not token:
                break
    assert names == ["4.md", "3.md", "2.md", "1.md", "0.md"]


@pytest.mark.asyncio
async def test_a_page_token_of_another_tenant_is_refused(idle_world: World) -> None:
    with idle_world.caller(tenant()):
        for number in range(2):
            await idle_world.upload(f"{number}.md", f"text {number}".encode())
        page = await idle_world.knowledge.ListDocuments(
            pb.ListDocumentsRequest(page=PageRequest(page_size=1))
        )
    request = pb.ListDocumentsRequest(page=PageRequest(page_token=page.page.next_page_token))
    with idle_world.caller(tenant()), pytest.raises(ServiceError) as error:
        await idle_world.knowledge.ListDocuments(request)
    assert error.value.field_violations[0].field == "page.page_token"


@pytest.mark.asyncio
async def test_another_tenants_document_is_as_absent_as_none(world: World) -> None:
    with world.caller(tenant()):
        document_id = await world.add("m.md", MANUAL)
    with world.caller(tenant()):
        for absent in (document_id, new_id()):
            for call in (
                world.knowledge.GetDocument(pb.GetDocumentRequest(document_id=absent)),
                world.knowledge.Reindex(pb.ReindexRequest(document_id=absent)),
                world.indexed(absent),
            ):
                with pytest.raises(ServiceError) as error:
                    await call
                assert error.value.reason == "DOCUMENT_NOT_FOUND"
            await world.knowledge.DeleteDocument(pb.DeleteDocumentRequest(document_id=absent))
        assert not (await world.search("reset the router")).passages


@pytest.mark.asyncio
async def test_writing_needs_its_permission(idle_world: World) -> None:
    with idle_world.caller(tenant(), "kb:read"), pytest.raises(ServiceError) as error:
        await idle_world.upload("m.md", b"text")
    assert error.value.reason == "PERMISSION_DENIED"


@pytest.mark.asyncio
@pytest.mark.parametrize("first", ["data", "nothing"])
async def test_an_upload_begins_with_its_header(idle_world: World, first: str) -> None:
    requests = [pb.UploadDocumentRequest(data=b"x")] if first == "data" else []
    with idle_world.caller(tenant()), pytest.raises(ServiceError) as error:
        await idle_world.knowledge.UploadDocument(iter(requests))
    assert error.value.field_violations[0].field == "header"
