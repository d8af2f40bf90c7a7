"""Whoever uploaded a document hears once what became of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from meshwright.rag.v1 import knowledge_service_pb2
from meshwright_common.storage.tenancy import unit_of_work
from services.rag.tests.world import FAILED, World, tenant

pytestmark = pytest.mark.asyncio

NAME = "Dismissal of J. Doe.txt"


async def told(world: World, owner: str) -> list[dict[str, Any]]:
    """Return the notifications of a tenant in the order in which they were appended."""
    async with unit_of_work(world.database, owner) as connection:
        rows = await connection.fetch(
            "SELECT partition_key, body FROM events.outbox"
            " WHERE tenant_id = $1 AND topic = 'notification' ORDER BY transaction_id, position",
            owner,
        )
    envelopes = [orjson.loads(row["body"]) for row in rows]
    assert [row["partition_key"] for row in rows] == [one["data"]["user_id"] for one in envelopes]
    assert {one["event_type"] for one in envelopes} <= {"notification.created"}
    return [one["data"] for one in envelopes]


async def test_uploader_hears_once_that_the_document_is_ready(world: World) -> None:
    """E1: a notification without the name or the text of the document."""
    owner = tenant()
    with world.caller(owner) as uploader:
        document_id = await world.add(NAME, "The pier is closed on Sundays.")
    [notice] = await told(world, owner)
    assert notice["user_id"] == uploader.subject
    assert (notice["kind"], notice["resource"]) == ("document.ready", f"document/{document_id}")
    assert notice["details"]["document_id"] == document_id
    assert "Doe" not in str(notice)
    assert "pier" not in str(notice)


async def test_uploader_hears_once_that_the_document_failed_and_why(world: World) -> None:
    owner = tenant()
    with world.caller(owner) as uploader:
        document_id = (
            await world.upload("broken.pdf", b"%PDF-1.7 not really")
        ).document.document_id
        [*_, last] = await world.indexed(document_id)
    assert last.state == FAILED
    [notice] = await told(world, owner)
    assert (notice["user_id"], notice["kind"]) == (uploader.subject, "document.failed")
    assert notice["details"]["failure_reason"] == last.failure_reason
    assert last.failure_reason in notice["title"]


async def test_uploader_hears_of_another_index_and_not_of_a_duplicate(world: World) -> None:
    """Somebody else asked for the new index: the document is still its uploader's."""
    owner = tenant()
    with world.caller(owner) as uploader:
        document_id = await world.add(NAME, "The pier is closed on Sundays.")
        again = await world.upload(NAME, b"The pier is closed on Sundays.")
    assert again.duplicate
    with world.caller(owner):
        request = knowledge_service_pb2.ReindexRequest(document_id=document_id)
        await world.knowledge.Reindex(request)
        await world.indexed(document_id)
    notices = await told(world, owner)
    assert [(one["user_id"], one["kind"]) for one in notices] == [
        (uploader.subject, "document.ready")
    ] * 2
