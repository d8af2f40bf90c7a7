"""The audit log: one record an act, a chain that shows every tampering."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from google.protobuf import json_format

from meshwright.session.v1 import audit_service_pb2 as pb
from meshwright.session.v1 import session_service_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import PermissionDenied
from meshwright_common.events import audit, outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import Member, World, consume_all

pytestmark = pytest.mark.asyncio


async def act(world: World, member: Member, action: str, **details: object) -> None:
    """Report an act as any service does."""
    with calling_as(member.principal):
        async with unit_of_work(world.database, member.tenant_id) as connection:
            await audit.record(
                connection, source="rag", action=action, resource="document/1", details=details
            )


async def records(world: World, member: Member, **wanted: object) -> list[pb.AuditRecord]:
    with calling_as(member.principal):
        return list((await world.audit.QueryAudit(pb.QueryAuditRequest(**wanted))).records)  # type: ignore[arg-type]


async def verify(world: World, member: Member) -> pb.VerifyAuditResponse:
    with calling_as(member.principal):
        return await world.audit.VerifyAudit(pb.VerifyAuditRequest())


def whole(count: int) -> pb.VerifyAuditResponse:
    """The verdict on so many records, none of them covered by a checkpoint."""
    return pb.VerifyAuditResponse(valid=True, record_count=count, first_sequence=1)


async def test_own_acts_are_in_the_log_with_who_and_what(world: World) -> None:
    """R-24: committed with the act, told once."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal) as call:
        await world.sessions.DeleteSession(
            session_service_pb2.DeleteSessionRequest(session_id=session_id)
        )
    await consume_all(world)
    deleted, created = await records(world, owner)
    assert (created.action, created.sequence) == ("tenant.created", 1)
    assert (created.actor, created.resource) == ("gateway", f"tenant/{owner.tenant_id}")
    assert (deleted.action, deleted.sequence) == ("session.deleted", 2)
    assert (deleted.actor, deleted.resource) == (owner.user_id, f"session/{session_id}")
    assert (deleted.outcome, deleted.source) == ("allowed", "session")
    assert deleted.request_id == call.request_id


async def test_anybody_can_recompute_the_chain_from_the_records(world: World) -> None:
    """The hash is SHA-256(previous hash ‖ canonical JSON), with nothing of ours needed."""
    owner = await world.tenant()
    await act(
        world, owner, "document.uploaded", size=10, name="été 中文", nested={"b": [1.5], "a": None}
    )
    await consume_all(world)
    previous = bytes(32)
    for record in reversed(await records(world, owner)):
        document = {
            "tenant_id": owner.tenant_id,
            "sequence": record.sequence,
            "event_id": record.event_id,
            "time": record.time.ToDatetime(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": record.actor,
            "action": record.action,
            "resource": record.resource,
            "outcome": record.outcome,
            "source": record.source,
            "request_id": record.request_id,
            "details": _integers(json_format.MessageToDict(record.details)),
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert record.previous_hash == previous
        previous = hashlib.sha256(previous + text.encode()).digest()
        assert record.hash == previous


async def test_redelivered_acts_are_recorded_once(world: World) -> None:
    owner = await world.tenant()
    for number in range(5):
        await act(world, owner, f"thing.{number}")
    await consume_all(world)
    before = await records(world, owner)
    async with world.as_superuser() as connection:
        await connection.execute("UPDATE events.offsets SET transaction_id = '0', position = 0")
        await connection.execute("DELETE FROM events.inbox")
    await consume_all(world)
    assert await records(world, owner) == before
    assert [record.sequence for record in before] == [6, 5, 4, 3, 2, 1]
    assert await verify(world, owner) == whole(6)


async def test_untouched_chain_of_several_batches_verifies(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal):
        async with unit_of_work(world.database, owner.tenant_id) as connection:
            for number in range(450):
                await audit.record(connection, source="rag", action="a", resource=str(number))
    await consume_all(world)
    assert await verify(world, owner) == whole(451)


TAMPERED = {
    "content": ("UPDATE audit_records SET actor = 'nobody' WHERE sequence = 3", 3),
    "time": ("UPDATE audit_records SET time = time + interval '1 ms' WHERE sequence = 3", 3),
    "filed": (
        "UPDATE audit_records SET filed_at = filed_at + interval '1 us' WHERE sequence = 3",
        3,
    ),
    "details": ("""UPDATE audit_records SET details = '{"n":9}' WHERE sequence = 3""", 3),
    "blank in details": ("UPDATE audit_records SET details = details || ' ' WHERE sequence = 3", 3),
    "details no JSON": ("UPDATE audit_records SET details = '{' WHERE sequence = 3", 3),
    "event id": ("UPDATE audit_records SET event_id = gen_random_uuid() WHERE sequence = 4", 4),
    "hash": ("UPDATE audit_records SET hash = previous_hash WHERE sequence = 2", 2),
    "previous hash": ("UPDATE audit_records SET previous_hash = hash WHERE sequence = 2", 2),
    "removed": ("DELETE FROM audit_records WHERE sequence = 2", 2),
    "first removed": ("DELETE FROM audit_records WHERE sequence = 1", 1),
    "last removed": ("DELETE FROM audit_records WHERE sequence = 6", 6),
    "all removed": ("DELETE FROM audit_records", 1),
    "swapped": (
        "UPDATE audit_records SET sequence = 20 WHERE sequence = 2;"
        "UPDATE audit_records SET sequence = 2 WHERE sequence = 3;"
        "UPDATE audit_records SET sequence = 3 WHERE sequence = 20",
        2,
    ),
    "added": (
        "INSERT INTO audit_records SELECT tenant_id, 7, gen_random_uuid(), time, filed_at, actor,"
        " action, resource, outcome, source, request_id, details, hash, hash"
        " FROM audit_records WHERE sequence = 6",
        7,
    ),
    "head moved back": (
        "UPDATE audit_heads SET sequence = 5, hash ="
        " (SELECT hash FROM audit_records WHERE sequence = 5)",
        6,
    ),
    "head removed": ("DELETE FROM audit_heads", 1),
    "other hash in the head": ("UPDATE audit_heads SET hash = sha256('x')", 6),
}


@pytest.mark.parametrize("tampering", TAMPERED)
async def test_tampering_by_a_superuser_is_named_by_its_first_bad_sequence(
    world: World, tampering: str
) -> None:
    owner = await world.tenant()
    for number in range(5):
        await act(world, owner, "thing", n=number)
    await consume_all(world)
    statement, expected = TAMPERED[tampering]
    async with world.as_superuser() as connection:
        # Past the triggers too.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement)
    verdict = await verify(world, owner)
    assert (verdict.valid, verdict.first_bad_sequence) == (False, expected)
    assert verdict.problem


async def test_chain_moved_to_another_tenant_does_not_verify(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    await consume_all(world)
    async with world.as_superuser() as connection:
        await connection.execute("SET session_replication_role = replica")
        for table in ("audit_records", "audit_heads"):
            await connection.execute(
                f"DELETE FROM {table} WHERE tenant_id = $1",  # noqa: S608 - two names
                stranger.tenant_id,
            )
            await connection.execute(
                f"UPDATE {table} SET tenant_id = $1",  # noqa: S608 - two names
                stranger.tenant_id,
            )
    assert (await verify(world, stranger)).first_bad_sequence == 1
    assert (await verify(world, owner)).record_count == 0


async def test_service_can_neither_change_nor_remove_a_record(world: World) -> None:
    owner = await world.tenant()
    await consume_all(world)
    for statement in (
        "UPDATE audit_records SET actor = 'x' WHERE tenant_id = $1",
        "DELETE FROM audit_records WHERE tenant_id = $1",
        "DELETE FROM audit_heads WHERE tenant_id = $1",
        "DELETE FROM audit_events WHERE tenant_id = $1",
        "DELETE FROM audit_checkpoints WHERE tenant_id = $1",
        "UPDATE audit_checkpoints SET document = '' WHERE tenant_id = $1",
        "DELETE FROM audit_anchors WHERE tenant_id = $1",
        "UPDATE audit_anchors SET document = '' WHERE tenant_id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unit_of_work(world.database, owner.tenant_id) as connection:
                await connection.execute(statement, owner.tenant_id)


async def test_not_even_the_service_moves_the_end_of_a_chain_back(world: World) -> None:
    owner = await world.tenant()
    await act(world, owner, "thing")
    await consume_all(world)
    for change in ("sequence = 1", "hash = sha256('x')", "filed_at = 'epoch'"):
        with pytest.raises(asyncpg.CheckViolationError, match="only moves forward"):
            async with unit_of_work(world.database, owner.tenant_id) as connection:
                await connection.execute(
                    f"UPDATE audit_heads SET {change} WHERE tenant_id = $1",  # noqa: S608
                    owner.tenant_id,
                )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unit_of_work(world.database, owner.tenant_id) as connection:
            await connection.execute("TRUNCATE audit_records")


async def test_records_are_filtered_and_paged_newest_first(world: World) -> None:
    owner = await world.tenant()
    for action in ("tool.executed", "tool.refused", "toolbox.opened", "document.uploaded"):
        await act(world, owner, action)
    await consume_all(world)
    found, token = [], ""
    with calling_as(owner.principal):
        for _ in range(2):
            page = await world.audit.QueryAudit(
                pb.QueryAuditRequest(
                    action_prefix="tool.",
                    page=page_pb2.PageRequest(page_size=1, page_token=token),
                )
            )
            found += [record.action for record in page.records]
            token = page.page.next_page_token
    assert found == ["tool.refused", "tool.executed"]
    assert token == ""
    assert len(await records(world, owner, actor="gateway")) == 1
    assert await records(world, owner, action_prefix="tool%") == []
    later = pb.QueryAuditRequest()
    later.start_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    assert await records(world, owner, start_time=later.start_time) == []


async def test_each_tenant_has_a_chain_of_its_own_that_others_cannot_read(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    await consume_all(world)
    assert [record.sequence for record in await records(world, stranger)] == [1]
    assert [record.sequence for record in await records(world, owner)] == [2, 1]
    with calling_as(member.principal), pytest.raises(PermissionDenied):
        await world.audit.VerifyAudit(pb.VerifyAuditRequest())


async def test_odd_texts_are_recorded_all_the_same(world: World) -> None:
    """A record is never lost for its looks: it is cut, or a character is replaced."""
    owner = await world.tenant()
    event = Event.new(
        event_type="audit.recorded",
        source="rag",
        tenant_id=owner.tenant_id,
        partition_key=owner.tenant_id,
        data={
            "actor": "a\0b",
            "action": "x" * 5000,
            "details": {"nul": "\0", "big": 1e300, "later": None},
            "field_of_a_later_version": 1,
        },
    )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        await outbox.append(connection, Topic.AUDIT_LOG, event)
        other = replace(event, event_id=new_id(), event_type="audit.of_a_later_version")
        await outbox.append(connection, Topic.AUDIT_LOG, other)
    await consume_all(world)
    newest, _ = await records(world, owner)
    assert (newest.actor, newest.action) == ("a\N{REPLACEMENT CHARACTER}b", "x" * 1000)
    assert newest.details.fields["nul"].string_value == "\0"
    assert (await verify(world, owner)).valid


async def test_a_record_that_is_not_keyed_by_its_tenant_is_refused(world: World) -> None:
    """Its place in the chain would depend on who writes to the topic, not on the tenant's order."""
    owner = await world.tenant()
    event = Event.new(
        event_type="audit.recorded",
        source="rag",
        tenant_id=owner.tenant_id,
        partition_key=owner.user_id,
        data={"actor": owner.user_id, "action": "document.uploaded"},
    )
    async with unit_of_work(world.database, owner.tenant_id) as connection:
        await outbox.append(connection, Topic.AUDIT_LOG, event)
    await consume_all(world)
    assert [record.sequence for record in await records(world, owner)] == [1]
    async with world.as_superuser() as connection:
        [buried] = await connection.fetch("SELECT error FROM events.dead_letters")
    assert buried["error"] == "EventRejected: the key of an audit record is not its tenant"
    assert (await verify(world, owner)).valid


def _integers(value: object) -> object:
    """Write whole numbers without a fraction, as RFC 8785 does: a Struct has only doubles."""
    if isinstance(value, Mapping):
        return {key: _integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
