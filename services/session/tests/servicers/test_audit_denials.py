"""Denials that processes report, and checkpoints as they are listed."""

from __future__ import annotations

import pytest

from meshwright.session.v1 import audit_service_pb2 as pb
from meshwright.session.v1 import directory_service_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import InvalidArgument, PermissionDenied, Unauthenticated
from meshwright_common.identity.api_keys import digest
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_session.domain.audit_denials import PLATFORM
from meshwright_session.record_parts import record_parts
from services.session.tests.world import MESH, SMALL_SECTION, World, consume_all

pytestmark = pytest.mark.asyncio


def denial(tenant_id: str, *, count: int = 3) -> pb.Denial:
    made = pb.Denial(
        tenant_id=tenant_id,
        actor="u",
        action="permission.denied",
        resource="rpc/x",
        reason="a:b",
        address="10.0.0.1",
        count=count,
    )
    made.first_time.FromJsonString("2026-01-02T03:04:05.000006Z")
    made.last_time.FromJsonString("2026-01-02T03:05:05Z")
    return made


async def report(world: World, request: pb.RecordDenialsRequest) -> None:
    with calling_as(MESH):
        await world.audit.RecordDenials(request)


async def records(world: World, tenant_id: str) -> list[tuple[str, str]]:
    async with world.as_superuser() as connection:
        rows = await connection.fetch(
            "SELECT action, details FROM audit_records WHERE tenant_id = $1"
            " AND action = 'permission.denied' ORDER BY sequence",
            tenant_id,
        )
    return [(row["action"], row["details"]) for row in rows]


async def test_reported_denials_are_recorded_once_however_often_they_are_told(
    world: World,
) -> None:
    """R-10: a report whose answer was lost is told again under its id."""
    owner = await world.tenant()
    request = pb.RecordDenialsRequest(
        request_id=new_id(), denials=[denial(owner.tenant_id), denial(owner.tenant_id, count=4)]
    )
    await report(world, request)
    await report(world, request)
    await consume_all(world)
    found = await records(world, owner.tenant_id)
    assert found == [
        (
            "permission.denied",
            f'{{"address":"10.0.0.1","count":{count},"first_time":"2026-01-02T03:04:05.000006Z",'
            '"last_time":"2026-01-02T03:05:05.000000Z","reason":"a:b"}',
        )
        for count in (3, 4)
    ]


async def test_what_belongs_to_no_tenant_is_in_the_log_of_the_platform(world: World) -> None:
    await report(
        world,
        pb.RecordDenialsRequest(request_id=new_id(), denials=[denial(""), denial(new_id())]),
    )
    await consume_all(world)
    assert len(await records(world, PLATFORM)) == 2
    async with world.as_superuser() as connection:
        assert await connection.fetchval("SELECT count(*) FROM events.dead_letters") == 0


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("request_id", pb.RecordDenialsRequest(request_id="x")),
        ("denials", pb.RecordDenialsRequest(request_id=new_id(), denials=[denial("")] * 1001)),
        (
            "denials[0].count",
            pb.RecordDenialsRequest(request_id=new_id(), denials=[denial("", count=0)]),
        ),
        (
            "denials[0].tenant_id",
            pb.RecordDenialsRequest(request_id=new_id(), denials=[denial("nobody")]),
        ),
        (
            "denials[0].first_time",
            pb.RecordDenialsRequest(
                request_id=new_id(), denials=[pb.Denial(action="login.refused", count=1)]
            ),
        ),
    ],
)
async def test_a_report_of_another_shape_is_refused_by_field(
    world: World, field: str, request_: pb.RecordDenialsRequest
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await report(world, request_)
    assert [one.field for one in refused.value.field_violations] == [field]


async def test_nobody_but_services_reports_denials(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(PermissionDenied):
        await world.audit.RecordDenials(pb.RecordDenialsRequest(request_id=new_id()))


async def test_logins_with_a_revoked_key_are_counted_for_its_tenant(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal):
        made = await world.directory.CreateApiKey(directory_service_pb2.CreateApiKeyRequest())
        await world.directory.RevokeApiKey(
            directory_service_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.api_key_id)
        )
    for key in (made.secret, made.secret, "mw_nobody-has-this"):
        with calling_as(MESH), pytest.raises(Unauthenticated):
            await world.directory.AuthenticateApiKey(
                directory_service_pb2.AuthenticateApiKeyRequest(api_key_sha256=digest(key))
            )
    [counted] = world.denials.take()
    assert (counted.kind.tenant_id, counted.count) == (owner.tenant_id, 2)
    assert counted.kind.resource == f"api_key/{made.api_key.api_key_id}"


async def test_checkpoints_are_listed_newest_first_with_what_was_signed(world: World) -> None:
    owner = await world.tenant()
    parts = record_parts(SMALL_SECTION, world.database, world.objects, world.signer)
    for _ in range(3):
        await world.member(owner)
        await consume_all(world)
        await parts.checkpointer.round(seconds=0, records=1)
    listed: list[pb.AuditCheckpoint] = []
    token = ""
    with calling_as(owner.principal):
        for _ in range(2):
            page = await world.audit.ListCheckpoints(
                pb.ListCheckpointsRequest(page=page_pb2.PageRequest(page_size=2, page_token=token))
            )
            listed += page.checkpoints
            token = page.page.next_page_token
        keys = (await world.audit.ListSigningKeys(pb.ListSigningKeysRequest())).keys
    assert token == ""
    assert [one.number for one in listed] == [3, 2, 1]
    assert {one.key_id for one in listed} == {world.signer.key_id} == {one.key_id for one in keys}
    for one in listed:
        signed = b"meshwright audit checkpoint v1\n" + one.document.encode()
        assert world.signer.keys.verifies(one.key_id, one.signature, signed)
    stranger = await world.tenant()
    with calling_as(stranger.principal):
        theirs = await world.audit.ListCheckpoints(pb.ListCheckpointsRequest())
    assert list(theirs.checkpoints) == []
