"""Indexing that is interrupted, repeated, overtaken or refused ends in one whole index."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common.errors import Unavailable
from meshwright_common.events.envelope import Event
from meshwright_common.events.handling import EventRejected
from meshwright_common.ids import new_id
from meshwright_common.quotas import Quotas
from meshwright_common.settings import QuotaSettings
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.waiting import eventually
from meshwright_rag.adapters.postgres_documents import PostgresDocuments
from meshwright_rag.consumers import REQUESTED, IndexRequests
from services.rag.tests.world import FAILED, READY, SECTION, World, open_world, tenant

LONG = "\n\n".join(f"# Part {number}\n\n{'Some words here. ' * 40}" for number in range(6)).encode()


async def arrived(world: World) -> None:
    async with asyncio.timeout(20):
        await world.model.arrived.wait()
    world.model.arrived.clear()


async def whole(world: World, owner: str, passages: int) -> bool:
    counts = await world.counts(owner)
    return counts["work"] == 0 and all(
        counts[table] == passages for table in ("passages", "passage_terms", "passage_vectors")
    )


async def events(world: World, owner: str) -> list[str]:
    async with unit_of_work(world.database, owner) as connection:
        rows = await connection.fetch(
            "SELECT headers->>'ce_type' AS type FROM events.outbox"
            " WHERE tenant_id = $1 ORDER BY transaction_id, position",
            owner,
        )
    return [row["type"] for row in rows]


@pytest.mark.asyncio
async def test_a_stopped_process_gives_its_work_back_and_it_is_resumed(
    database_settings: DatabaseSettingsFor, tmp_path: Path
) -> None:
    """CP-27: what was stored is not embedded again."""
    settings = await database_settings("meshwright_rag")
    section = SECTION.model_copy(update={"embed_batch": 1})
    owner = tenant()
    async with open_world(settings, tmp_path, section=section) as first:
        first.model.gate = asyncio.Event()
        first.model.free_calls = 2
        with first.caller(owner):
            document_id = (await first.upload("m.md", LONG)).document.document_id
            await eventually(lambda: len(first.model.calls) == 3)
    async with open_world(settings, tmp_path, section=section, working=False) as second:
        assert (await second.counts(owner))["passage_vectors"] == 2
        second.start_work()
        with second.caller(owner):
            last = (await second.indexed(document_id))[-1]
        assert last.state == READY
        assert len(second.model.calls) == last.chunks_total - 2
        await eventually(lambda: whole(second, owner, last.chunks_total))


@pytest.mark.asyncio
async def test_who_lost_the_lease_writes_nothing(world: World) -> None:
    """A worker that was paused past its lease wakes up beside the one that took over."""
    owner = tenant()
    world.model.gate = asyncio.Event()
    with world.caller(owner):
        document_id = (await world.upload("m.md", LONG)).document.document_id
        await arrived(world)
        async with unit_of_work(world.database, owner) as connection:
            await connection.execute(
                "UPDATE work SET leased_until = now() - interval '1 second' WHERE tenant_id = $1",
                owner,
            )
        await arrived(world)  # the second worker has taken the work and asks for vectors too
        async with unit_of_work(world.database, owner) as connection:
            epoch = await connection.fetchval("SELECT epoch FROM work WHERE tenant_id = $1", owner)
        assert epoch >= 2
        world.model.gate.set()
        last = (await world.indexed(document_id))[-1]
    assert last.state == READY
    await eventually(lambda: whole(world, owner, last.chunks_total))
    assert (await events(world, owner)).count("document.index.completed") == 1


@pytest.mark.asyncio
async def test_an_outage_is_waited_out(world: World) -> None:
    world.model.error = Unavailable("away")
    with world.caller(tenant()):
        document_id = (await world.upload("m.md", LONG)).document.document_id
        await arrived(world)
        world.model.error = None
        assert (await world.indexed(document_id))[-1].state == READY


@pytest.mark.asyncio
async def test_after_the_last_attempt_the_document_fails_with_the_reason(
    database_settings: DatabaseSettingsFor, tmp_path: Path
) -> None:
    settings = await database_settings("meshwright_rag")
    section = SECTION.model_copy(update={"indexing_attempts": 2})
    owner = tenant()
    async with open_world(settings, tmp_path, section=section) as world:
        world.model.error = Unavailable("away")
        with world.caller(owner):
            document_id = (await world.upload("m.md", LONG)).document.document_id
            last = (await world.indexed(document_id))[-1]
            assert (last.state, last.failure_reason) == (FAILED, "UNAVAILABLE")
            assert len(world.model.calls) == 2
            assert await whole(world, owner, 0)
            world.model.error = None
            again = await world.upload("m.md", LONG)
            assert again.duplicate
            assert (await world.indexed(document_id))[-1].state == READY


@pytest.mark.asyncio
async def test_work_that_ends_every_process_is_given_up(idle_world: World) -> None:
    owner = tenant()
    with idle_world.caller(owner):
        document_id = (await idle_world.upload("m.md", LONG)).document.document_id
        idle_world.start_work("rag-consumer")

        async def queued() -> bool:
            return (await idle_world.counts(owner))["work"] == 1

        await eventually(queued)
        async with unit_of_work(idle_world.database, owner) as connection:
            await connection.execute("UPDATE work SET attempts = 99 WHERE tenant_id = $1", owner)
        idle_world.start_work("rag-workers")
        last = (await idle_world.indexed(document_id))[-1]
    assert (last.state, last.failure_reason) == (FAILED, "INTERNAL")


@pytest.mark.asyncio
async def test_a_newer_version_overtakes_the_one_being_indexed(world: World) -> None:
    owner = tenant()
    world.model.gate = asyncio.Event()
    with world.caller(owner):
        document_id = (await world.upload("m.md", b"the color is red")).document.document_id
        await arrived(world)
        await world.upload("m.md", b"the color is blue")
        await arrived(world)
        world.model.gate.set()
        assert (await world.indexed(document_id))[-1].state == READY
        found = await world.search("color")
    assert [one.text for one in found.passages] == ["the color is blue"]
    await eventually(lambda: whole(world, owner, 1))
    assert (await events(world, owner)).count("document.index.completed") == 1


@pytest.mark.asyncio
async def test_every_step_is_told_as_an_event(world: World) -> None:
    owner = tenant()
    with world.caller(owner):
        document_id = await world.add("m.md", LONG)
        bad = (await world.upload("bad.txt", "好".encode() * 9 + b"\xff")).document.document_id
        await world.indexed(bad)
        await world.knowledge.DeleteDocument(
            knowledge_service_pb2.DeleteDocumentRequest(document_id=document_id)
        )
    assert await events(world, owner) == [
        "document.index.requested", "audit.recorded", "document.index.completed",
        "notification.created",
        "document.index.requested", "audit.recorded", "document.index.failed",
        "notification.created",
        "document.deleted", "audit.recorded",
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_bytes_that_no_document_came_to_own_are_removed(idle_world: World) -> None:
    """CP-26: the process died between storing the file and admitting it."""
    owner = tenant()
    key = f"tenants/{owner}/documents/{new_id()}"
    path = idle_world.objects.parent / key
    with idle_world.caller(owner):
        stub = DirectoryServiceStub(idle_world.served.channels().open("session"))
        quotas = Quotas(stub, "rag", QuotaSettings())
        documents = PostgresDocuments(idle_world.database, quotas, orphan_seconds=0)
        await documents.reserve(owner, key)
        await asyncio.to_thread(path.parent.mkdir, parents=True)
        await asyncio.to_thread(path.write_bytes, b"orphan")
        idle_world.start_work()
        await eventually(lambda: not idle_world.files())


@pytest.mark.asyncio
async def test_a_file_that_is_not_what_was_uploaded_is_not_indexed(idle_world: World) -> None:
    """F-35: the object store returns other bytes, or fewer."""
    with idle_world.caller(tenant()):
        document_id = (await idle_world.upload("m.md", LONG)).document.document_id
        (stored,) = idle_world.files()
        await asyncio.to_thread(stored.write_bytes, LONG[:-1])
        idle_world.start_work()
        last = (await idle_world.indexed(document_id))[-1]
    assert (last.state, last.failure_reason) == (FAILED, "DATA_LOSS")


@pytest.mark.asyncio
async def test_an_upload_that_breaks_off_stores_nothing(idle_world: World) -> None:
    owner = tenant()

    async def broken() -> AsyncIterator[knowledge_service_pb2.UploadDocumentRequest]:
        header = document_pb2.DocumentHeader(name="m.md")
        yield knowledge_service_pb2.UploadDocumentRequest(header=header)
        yield knowledge_service_pb2.UploadDocumentRequest(data=b"x" * 10_000)
        yield knowledge_service_pb2.UploadDocumentRequest(header=header)

    with idle_world.caller(owner), pytest.raises(Exception, match="data"):
        await idle_world.knowledge.UploadDocument(broken())
    assert idle_world.files() == []
    assert (await idle_world.counts(owner))["documents"] == 0


@pytest.mark.asyncio
async def test_a_repeated_request_event_changes_nothing(idle_world: World) -> None:
    owner = tenant()
    with idle_world.caller(owner):
        document_id = (await idle_world.upload("m.md", LONG)).document.document_id
    event = Event.new(
        event_type=REQUESTED,
        source="rag",
        tenant_id=owner,
        partition_key=document_id,
        data={"document_id": document_id},
    )
    nudges: list[None] = []
    requests = IndexRequests(lambda: nudges.append(None))
    for _ in range(2):
        async with unit_of_work(idle_world.database, owner) as connection:
            await requests.handle(connection, event)
            row = await connection.fetchrow(
                "SELECT count(*) AS rows, max(epoch) AS epoch FROM work"
                " WHERE tenant_id = $1 AND kind = 'index'",
                owner,
            )
        assert row is not None
        assert (row["rows"], row["epoch"]) == (1, 0)


@pytest.mark.asyncio
async def test_a_request_without_a_document_is_rejected_for_good(idle_world: World) -> None:
    owner = tenant()
    event = Event.new(
        event_type=REQUESTED, source="rag", tenant_id=owner, partition_key="x", data={}
    )
    async with unit_of_work(idle_world.database, owner) as connection:
        with pytest.raises(EventRejected):
            await IndexRequests(lambda: None).handle(connection, event)


@pytest.mark.asyncio
async def test_without_a_tenant_every_table_looks_empty(world: World) -> None:
    with world.caller(tenant()):
        await world.add("m.md", LONG)
    async with unscoped(world.database) as connection:
        for table in ("documents", "passages", "passage_terms", "passage_vectors"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
