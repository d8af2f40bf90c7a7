"""Versions of contexts over the stub: kept, listed, restored, compared, copied outside."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import jsonpatch
import pytest
from google.protobuf import json_format

from meshwright.session.v1 import context_snapshot_pb2 as snapshots_pb
from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import AlreadyExists, InvalidArgument, NotFound
from meshwright_common.ids import new_id
from meshwright_common.storage.objects import object_key
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.context_exports import ContextExports, ExportBroken
from meshwright_session.context_settings import ContextSection
from meshwright_session.context_worker import ContextKeeper
from meshwright_session.wire import values
from services.session.tests.world import Member, World, answered

pytestmark = pytest.mark.asyncio

KEPT: Final = 20
"""Newest versions that are all kept, by default."""


async def write(world: World, owner: Member, session_id: str, version: int, **data: object) -> None:
    with calling_as(owner.principal):
        await world.sessions.CompareAndSetContext(
            pb.CompareAndSetContextRequest(
                session_id=session_id, expected_version=version - 1, data=values.struct(data)
            )
        )


async def turn(world: World, owner: Member, session_id: str, **changes: object) -> int:
    with calling_as(owner.principal):
        committed = await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id,
                turn_id=new_id(),
                messages=[answered("x")],
                context_changes=values.struct(changes) if changes else None,
            )
        )
    return committed.context_version


async def kept(world: World, owner: Member, session_id: str, size: int = 200) -> list[int]:
    versions: list[int] = []
    token = ""
    with calling_as(owner.principal):
        while True:
            page = await world.sessions.ListSnapshots(
                snapshots_pb.ListSnapshotsRequest(
                    session_id=session_id,
                    page=page_pb2.PageRequest(page_size=size, page_token=token),
                )
            )
            versions += [snapshot.version for snapshot in page.snapshots]
            token = page.page.next_page_token
            if not token:
                return versions


async def restore(
    world: World, owner: Member, session_id: str, version: int, request_id: str = ""
) -> session_pb2.Context:
    with calling_as(owner.principal, timeout_seconds=20):
        restored = await world.sessions.RestoreSnapshot(
            snapshots_pb.RestoreSnapshotRequest(
                session_id=session_id, version=version, request_id=request_id
            )
        )
    return restored.context


async def diff(
    world: World, owner: Member, session_id: str, from_version: int, to_version: int
) -> jsonpatch.JsonPatch:
    with calling_as(owner.principal):
        answer = await world.sessions.DiffContext(
            snapshots_pb.DiffContextRequest(
                session_id=session_id, from_version=from_version, to_version=to_version
            )
        )
    return jsonpatch.JsonPatch(json.loads(answer.json_patch))


async def read(world: World, owner: Member, session_id: str) -> session_pb2.Context:
    with calling_as(owner.principal):
        found = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
    return found.context


async def test_every_one_of_the_newest_versions_is_restored_as_it_was(world: World) -> None:
    """Turns that change nothing move the version on; what they had is what is restored."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    was: dict[int, object] = {0: {}}
    was[await turn(world, owner, session_id)] = {}
    for number in range(3):
        was[await turn(world, owner, session_id, a=number)] = {"a": number}
        was[await turn(world, owner, session_id)] = {"a": number}
    version = max(was)
    for old, data in was.items():
        context = await restore(world, owner, session_id, old)
        version += 1
        assert (version, data) == (context.version, json_format.MessageToDict(context.data))
        assert context == await read(world, owner, session_id)


async def test_restoring_with_a_known_request_writes_nothing_new(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await write(world, owner, session_id, 1, a=1)
    await write(world, owner, session_id, 2, a=2)
    restored = await asyncio.gather(
        *(restore(world, owner, session_id, 1, "again") for _ in range(5))
    )
    await write(world, owner, session_id, 4, a=4)
    restored.append(await restore(world, owner, session_id, 1, "again"))
    assert [(3, values.struct({"a": 1}))] * 6 == [(one.version, one.data) for one in restored]
    assert 4 == (await read(world, owner, session_id)).version
    with pytest.raises(AlreadyExists) as caught:
        await restore(world, owner, session_id, 2, "again")
    assert "IDEMPOTENCY_KEY_REUSED" == caught.value.reason


async def test_diff_leads_from_one_version_to_the_other(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    one = {"a": 1, "list": [1, 2, 3], "deep": {"x/y": "é", "gone": True}}
    two = {"a": 2, "list": [1, 3, 4], "deep": {"x/y": None}, "new": {"~": []}}
    await write(world, owner, session_id, 1, **one)
    await write(world, owner, session_id, 2, **two)
    assert two == (await diff(world, owner, session_id, 1, 2)).apply(one)
    assert one == (await diff(world, owner, session_id, 2, 1)).apply(two)
    assert one == (await diff(world, owner, session_id, 0, 1)).apply({})
    assert [] == (await diff(world, owner, session_id, 2, 2)).patch


@pytest.mark.parametrize("version", [3, 10**15])
async def test_version_that_never_was_is_not_found(world: World, version: int) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await write(world, owner, session_id, 1, a=1)
    await write(world, owner, session_id, 2, a=2)
    with pytest.raises(NotFound) as caught:
        await restore(world, owner, session_id, version)
    assert ("NOT_FOUND", str(version)) == (caught.value.reason, caught.value.metadata["version"])
    with pytest.raises(NotFound):
        await diff(world, owner, session_id, 1, version)


async def test_negative_version_names_the_field(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with pytest.raises(InvalidArgument) as caught:
        await restore(world, owner, session_id, -1)
    assert ["version"] == [violation.field for violation in caught.value.field_violations]
    with pytest.raises(InvalidArgument) as caught:
        await diff(world, owner, session_id, 0, -1)
    assert ["to_version"] == [violation.field for violation in caught.value.field_violations]


async def test_older_versions_are_thinned_out_to_one_a_window(world: World) -> None:
    """All of the newest are kept; of those before, the first that was replaced in ten minutes."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    for version in range(1, 31):
        await write(world, owner, session_id, version, v=version)
    async with world.as_superuser() as connection:
        # Half of what follows is in another window.
        await connection.execute(
            "UPDATE contexts SET replace_time = replace_time - $2::interval"
            " WHERE session_id = $1 AND last_version IS NOT NULL",
            session_id,
            timedelta(minutes=11),
        )
    for version in range(31, 61):
        await write(world, owner, session_id, version, v=version)
    newest = list(range(60, 60 - KEPT, -1))
    assert [*newest, 30, 1] == await kept(world, owner, session_id, size=7)
    for version in (newest[-1], 30, 1):
        context = await restore(world, owner, session_id, version)
        assert values.struct({"v": version}) == context.data
    with pytest.raises(NotFound):
        await restore(world, owner, session_id, 29)


async def test_versions_replaced_too_long_ago_are_dropped_and_the_current_one_stays(
    world: World,
) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    for version in range(1, 4):
        await write(world, owner, session_id, version, v=version)
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE contexts SET update_time = update_time - $1::interval,"
            " replace_time = replace_time - $1::interval",
            timedelta(days=31),
        )
    keeper = ContextKeeper(exports(world), ContextSection(), interval_seconds=3600)
    await keeper.prune()
    assert [3] == await kept(world, owner, session_id)
    assert values.struct({"v": 3}) == (await read(world, owner, session_id)).data


def exports(world: World) -> ContextExports:
    return ContextExports(world.database, world.objects)


async def test_copy_outside_is_restored_when_the_table_has_it_no_longer(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await write(world, owner, session_id, 1, a="first")
    assert 2 == await turn(world, owner, session_id)
    assert 1 == await exports(world).export_changed()
    await write(world, owner, session_id, 3, a="second")
    async with world.as_superuser() as connection:
        await connection.execute("DELETE FROM contexts WHERE last_version IS NOT NULL")
    assert [3, 1] == await kept(world, owner, session_id)
    for version in (1, 2):
        context = await restore(world, owner, session_id, version)
        assert values.struct({"a": "first"}) == context.data


async def test_only_what_changed_is_copied_and_it_is_sealed(world: World) -> None:
    owner = await world.tenant()
    session_id, other = await world.session(owner), await world.session(owner)
    await write(world, owner, session_id, 1, a="a secret word")
    await write(world, owner, other, 1, b=1)
    copied = [await exports(world).export_changed()]
    copied.append(await exports(world).export_changed())
    await turn(world, owner, session_id)
    copied.append(await exports(world).export_changed())
    await write(world, owner, session_id, 3, a="another")
    copied.append(await exports(world).export_changed())
    assert [2, 0, 0, 1] == copied
    key = object_key(owner.tenant_id, "contexts", session_id, "1")
    content = b"".join([chunk async for chunk in world.objects.open(key)])
    assert b"secret" not in content


async def test_damaged_copy_is_told_and_not_restored(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await write(world, owner, session_id, 1, a=1)
    await exports(world).export_changed()
    key = object_key(owner.tenant_id, "contexts", session_id, "1")
    content = b"".join([chunk async for chunk in world.objects.open(key)])

    async def damaged() -> AsyncIterator[bytes]:
        yield content[:-1] + bytes([content[-1] ^ 1])

    await world.objects.put(key, damaged())
    with pytest.raises(ExportBroken):
        await exports(world).find(owner.tenant_id, session_id, 1)


async def test_copies_of_a_session_that_is_gone_are_removed(world: World) -> None:
    owner = await world.tenant()
    session_id, stays = await world.session(owner), await world.session(owner)
    for one in (session_id, stays):
        await write(world, owner, one, 1, a=1)
    await exports(world).export_changed()
    with calling_as(owner.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    assert 1 == await exports(world).drop_old(90)
    there = [
        await world.objects.exists(object_key(owner.tenant_id, "contexts", one, "1"))
        for one in (session_id, stays)
    ]
    assert [False, True] == there


async def test_somebody_elses_versions_are_not_there(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    session_id = await world.session(owner)
    await write(world, owner, session_id, 1, a=1)
    await exports(world).export_changed()
    for stranger in (member, await world.tenant()):
        for ask in (
            kept(world, stranger, session_id),
            restore(world, stranger, session_id, 1),
            diff(world, stranger, session_id, 0, 1),
        ):
            with pytest.raises(NotFound) as caught:
                await ask
            assert "SESSION_NOT_FOUND" == caught.value.reason
    assert 1 == (await read(world, owner, session_id)).version
