"""Sessions in the archive: nothing is lost on the way there and back, whatever dies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import pytest

from meshwright.session.v1 import session_history_pb2 as history
from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.errors import DataLoss, NotFound
from meshwright_common.ids import new_id
from meshwright_common.storage.objects import ObjectStore
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.archive_objects import ObjectArchive
from meshwright_session.adapters.postgres_archive import PostgresArchive
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.models import Owner
from meshwright_session.settings import SessionSection
from meshwright_session.workers import Housekeeper
from services.session.tests.world import Member, World, all_messages, answered, said, texts

pytestmark = pytest.mark.asyncio

MESSAGES: Final = 230
"""More than two parts of an object."""


class Died(BaseException):
    """The process is gone: nobody handles it."""


@dataclass
class FragileObjects:
    """The store in front of which a process dies, once, as often as `deaths` has steps."""

    store: ObjectStore
    deaths: list[str] = field(default_factory=list)

    def _pass(self, step: str) -> None:
        if step in self.deaths:
            raise Died(step)

    async def put(self, key: str, chunks: AsyncIterator[bytes], **_: object) -> object:
        self._pass("before put")
        stored = await self.store.put(key, chunks)
        self._pass("after put")
        return stored

    async def open(self, key: str) -> AsyncIterator[bytes]:
        self._pass("before open")
        async for block in self.store.open(key):
            yield block
        self._pass("after open")

    async def delete(self, key: str) -> None:
        self._pass("before delete")
        await self.store.delete(key)
        self._pass("after delete")


def archive_of(world: World, objects: object = None, *, keep_months: int = 24) -> Archive:
    store = objects or world.objects
    return Archive(
        PostgresArchive(world.database, world.keys, keep_months=keep_months),
        ObjectArchive(store, world.keys),  # type: ignore[arg-type]  # what the archive uses of it
    )


def housekeeper(world: World) -> Housekeeper:
    return Housekeeper(
        PostgresHousekeeping(world.database),
        PostgresSessions(world.database, world.keys),
        archive_of(world),
        SessionSection(archive_after_days=90),
    )


async def long_talk(world: World, member: Member) -> str:
    """Make a session with messages; return its id."""
    session_id = await world.session(member)
    for start in range(0, MESSAGES, 46):
        with calling_as(member.principal):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(
                    session_id=session_id,
                    messages=[said(f"secret {number}") for number in range(start, start + 46)],
                    turn_id=new_id(),
                )
            )
    return session_id


async def put_away(world: World, member: Member, session_id: str) -> session_pb2.Session:
    with calling_as(member.principal, timeout_seconds=20):
        moved = await world.sessions.ArchiveSession(pb.ArchiveSessionRequest(session_id=session_id))
    return moved.session


async def count(world: World, table: str) -> int:
    async with world.as_superuser() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608


async def objects_of(world: World, member: Member) -> list[str]:
    return await world.objects.keys(f"tenants/{member.tenant_id}/archives", most=100)


async def read_session(world: World, member: Member, session_id: str) -> session_pb2.Session:
    with calling_as(member.principal):
        got = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    return got.session


async def use_by_listing(world: World, session_id: str) -> None:
    await world.sessions.ListMessages(pb.ListMessagesRequest(session_id=session_id))


async def use_by_listing_the_newest(world: World, session_id: str) -> None:
    newest = pb.ListMessagesRequest(session_id=session_id, newest_first=True)
    assert len((await world.sessions.ListMessages(newest)).messages) == 50


async def use_by_appending(world: World, session_id: str) -> None:
    await world.sessions.AppendMessages(
        pb.AppendMessagesRequest(session_id=session_id, messages=[said("more")])
    )


async def use_by_beginning_a_turn(world: World, session_id: str) -> None:
    await world.sessions.BeginTurn(
        pb.BeginTurnRequest(session_id=session_id, turn_id=new_id(), message=said("more"))
    )


async def use_by_committing_a_turn(world: World, session_id: str) -> None:
    await world.sessions.CommitTurn(
        pb.CommitTurnRequest(session_id=session_id, turn_id=new_id(), messages=[answered("more")])
    )


async def use_by_branching(world: World, session_id: str) -> None:
    await world.sessions.BranchSession(
        history.BranchSessionRequest(session_id=session_id, sequence=1)
    )


async def use_by_restoring(world: World, session_id: str) -> None:
    await world.sessions.RestoreSession(pb.RestoreSessionRequest(session_id=session_id))


USES: Final = (
    use_by_listing,
    use_by_listing_the_newest,
    use_by_appending,
    use_by_beginning_a_turn,
    use_by_committing_a_turn,
    use_by_branching,
    use_by_restoring,
)


async def test_any_use_brings_an_archived_session_back_exactly(world: World) -> None:
    """Ids, sequences, turns, times and contents are those of before; so is what finds them."""
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    before = await all_messages(world, owner, session_id)
    for use in USES:
        session = await read_session(world, owner, session_id)
        moved = await put_away(world, owner, session_id)
        assert moved.archived
        assert await count(world, f"messages WHERE session_id = '{session_id}'") == 0
        assert len(await objects_of(world, owner)) == 1
        moved.archived = False
        assert moved == session, "nothing else of the session changed"
        with calling_as(owner.principal, timeout_seconds=20):
            await use(world, session_id)
        assert not (await read_session(world, owner, session_id)).archived
        assert (await all_messages(world, owner, session_id))[:MESSAGES] == before
        assert await objects_of(world, owner) == []
        with calling_as(owner.principal):
            found = await world.sessions.SearchMessages(
                history.SearchMessagesRequest(query="secret 7", session_id=session_id)
            )
        assert texts(found.messages) == ["secret 7"]


async def test_many_who_use_an_archived_session_at_once_bring_it_back_once(world: World) -> None:
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    before = await all_messages(world, owner, session_id)
    await put_away(world, owner, session_id)

    async def read() -> list[session_pb2.StoredMessage]:
        with calling_as(owner.principal, timeout_seconds=20):
            return await all_messages(world, owner, session_id)

    read_by_all = await asyncio.gather(*(read() for _ in range(8)))
    assert all(read == before for read in read_by_all)
    assert await count(world, "messages") == MESSAGES


async def test_archiving_an_archived_session_does_nothing(world: World) -> None:
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    first = await put_away(world, owner, session_id)
    kept = await objects_of(world, owner)
    assert await put_away(world, owner, session_id) == first
    assert await objects_of(world, owner) == kept


async def test_a_process_that_dies_while_archiving_loses_nothing(world: World) -> None:
    """The messages stay in their table, and the object that nobody needs is swept."""
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    before = await all_messages(world, owner, session_id)
    for step in ("before put", "after put", "before open", "after open"):
        dying = archive_of(world, FragileObjects(world.objects, [step]))
        with pytest.raises(Died):
            await dying.put_away(Owner(owner.tenant_id, owner.user_id), session_id)
        assert await all_messages(world, owner, session_id) == before
        assert await archive_of(world).sweep(most=10) == 0, "it may still be written"
        await pass_hours(world)
        assert await archive_of(world).sweep(most=10) == 1
        assert await objects_of(world, owner) == []
        assert await count(world, "session_archives") == 0
    assert (await put_away(world, owner, session_id)).archived
    assert await all_messages(world, owner, session_id) == before


async def test_a_process_that_dies_while_restoring_loses_nothing(world: World) -> None:
    """The messages come back at the next attempt, once, and the object goes."""
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    before = await all_messages(world, owner, session_id)
    for step in ("before open", "after open", "before delete", "after delete"):
        await put_away(world, owner, session_id)
        dying = archive_of(world, FragileObjects(world.objects, [step]))
        with pytest.raises(Died):
            await dying.bring_back(Owner(owner.tenant_id, owner.user_id), session_id)
        assert await all_messages(world, owner, session_id) == before
        await archive_of(world).sweep(most=10)
        assert await objects_of(world, owner) == []
        assert await count(world, "session_archives") == 0


async def test_a_session_written_to_on_its_way_to_the_archive_loses_nothing(world: World) -> None:
    """What was written out is thrown away, and all of it written again."""
    owner = await world.tenant()
    session_id = await long_talk(world, owner)

    class BusyObjects(FragileObjects):
        said_more = False

        async def put(self, key: str, chunks: AsyncIterator[bytes], **_: object) -> object:
            stored = await super().put(key, chunks)
            if not self.said_more:
                self.said_more = True
                with calling_as(owner.principal):
                    await use_by_appending(world, session_id)
            return stored

    busy = archive_of(world, BusyObjects(world.objects))
    await busy.put_away(Owner(owner.tenant_id, owner.user_id), session_id)
    assert len(await objects_of(world, owner)) == 1
    listed = texts(await all_messages(world, owner, session_id))
    assert listed == [*(f"secret {number}" for number in range(MESSAGES)), "more"]


async def test_a_store_that_gives_back_something_else_gets_no_messages(world: World) -> None:
    owner = await world.tenant()
    session_id = await long_talk(world, owner)

    class LyingObjects(FragileObjects):
        async def open(self, key: str) -> AsyncIterator[bytes]:
            async for block in super().open(key):
                yield block[:-1] + bytes([block[-1] ^ 1])

    lying = archive_of(world, LyingObjects(world.objects))
    with pytest.raises(DataLoss):
        await lying.put_away(Owner(owner.tenant_id, owner.user_id), session_id)
    assert await count(world, "messages") == MESSAGES
    assert await objects_of(world, owner) == []


async def test_a_damaged_object_is_told_and_nothing_is_restored_of_it(world: World) -> None:
    """Mended, the session comes back whole."""
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    await put_away(world, owner, session_id)
    path = world.object_folder / (await objects_of(world, owner))[0]
    whole = path.read_bytes()
    assert b"secret" not in whole
    for damaged in (whole[:-1], whole[:-100] + whole[-99:], whole + b"\0"):
        path.write_bytes(damaged)
        with calling_as(owner.principal), pytest.raises(DataLoss):
            await use_by_listing(world, session_id)
        assert await count(world, "messages") == 0
    path.write_bytes(whole)
    assert len(await all_messages(world, owner, session_id)) == MESSAGES


async def test_a_deleted_session_leaves_nothing_in_the_archive(world: World) -> None:
    owner = await world.tenant()
    session_id = await long_talk(world, owner)
    await put_away(world, owner, session_id)
    with calling_as(owner.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    assert await objects_of(world, owner) == []
    assert await count(world, "session_archives") == 0


async def test_sessions_that_nobody_touches_go_to_the_archive_by_themselves(world: World) -> None:
    """Those that were used, brought back or never written to lately stay."""
    owner = await world.tenant()
    idle, used = await long_talk(world, owner), await long_talk(world, owner)
    wanted, empty = await long_talk(world, owner), await world.session(owner)
    await age(world, 91)
    with calling_as(owner.principal):
        await use_by_appending(world, used)
    await put_away(world, owner, wanted)
    with calling_as(owner.principal):
        await use_by_listing(world, wanted)
    await housekeeper(world).put_away()
    archived = {
        session_id: (await read_session(world, owner, session_id)).archived
        for session_id in (idle, used, wanted, empty)
    }
    assert archived == {idle: True, used: False, wanted: False, empty: False}


async def test_sessions_of_others_cannot_be_moved(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    for session_id in (await world.session(owner), new_id()):
        with calling_as(member.principal), pytest.raises(NotFound) as caught:
            await world.sessions.ArchiveSession(pb.ArchiveSessionRequest(session_id=session_id))
        assert caught.value.reason == "SESSION_NOT_FOUND"
        with calling_as(member.principal), pytest.raises(NotFound) as caught:
            await use_by_restoring(world, session_id)
        assert caught.value.reason == "SESSION_NOT_FOUND"


async def pass_hours(world: World) -> None:
    """Let what was begun look as if it had been for hours."""
    async with world.as_superuser() as connection:
        await connection.execute(
            "UPDATE session_archives SET create_time = create_time - interval '2 hours'"
        )


async def age(world: World, days: int) -> None:
    """Let everything look as if it had been said so many days ago."""
    async with world.as_superuser() as connection:
        for change in (
            "sessions SET create_time = create_time - $1::interval, update_time = update_time - $1",
            "messages SET create_time = create_time - $1::interval",
        ):
            await connection.execute(f"UPDATE {change}", timedelta(days=days))
