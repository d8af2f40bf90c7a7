"""A document that is gone from every store has a signed receipt that says so."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright_common.erasure.receipt import verifies
from meshwright_common.identity.signing import PUBLIC_FILE, load_record_keys
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.waiting import eventually
from services.rag.tests.world import World, tenant


async def receipts(world: World, tenant_id: str) -> list[dict[str, object]]:
    async with unit_of_work(world.database, tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT body FROM events.outbox"
            " WHERE tenant_id = $1 AND headers ->> 'ce_type' = 'erasure.completed'",
            tenant_id,
        )
    return [orjson.loads(row["body"])["data"] for row in rows]


@pytest.mark.promise("ERASE-04")
@pytest.mark.asyncio
async def test_a_deleted_document_gets_one_receipt_when_it_is_gone(
    world: World, tmp_path: Path
) -> None:
    owner = tenant()
    with world.caller(owner) as caller:
        kept = await world.add("kept.txt", "The heron waits.")
        document_id = await world.add("gone.txt", "The bittern booms.")
        await world.knowledge.DeleteDocument(pb.DeleteDocumentRequest(document_id=document_id))
        await eventually(lambda: told(world, owner))
    [receipt] = await receipts(world, owner)
    assert (receipt["kind"], receipt["subject_id"]) == ("document", document_id)
    assert (receipt["tenant_id"], receipt["requested_by"]) == (owner, caller.subject)
    removed = {one["store"]: one["removed_count"] for one in receipt["stores"]}  # type: ignore[attr-defined]
    assert removed == {
        "objects:documents": "1",
        "rag.passages": "1",
        "rag.passage_terms": "1",
        "rag.passage_vectors": "1",
        "rag.document_versions": "1",
        "rag.documents": "1",
    }
    keys = load_record_keys(tmp_path / "keys" / PUBLIC_FILE)
    assert verifies(receipt, keys)
    assert not verifies(receipt | {"subject_id": kept}, keys)
    assert (await world.counts(owner))["documents"] == 1


async def told(world: World, tenant_id: str) -> bool:
    return bool(await receipts(world, tenant_id))
