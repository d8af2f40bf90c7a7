"""The journal on Valkey, Redis and a cluster, and the live end that writes it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from meshwright_chat.adapters.redis_journal import (
    FINISHED_RETENTION_SECONDS,
    RETENTION_SECONDS,
    RedisJournal,
)
from meshwright_chat.domain.errors import EntriesForgotten, LeaseLost
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import (
    Completed,
    Entry,
    Started,
    TextDelta,
    ToolCalled,
    Turn,
    TurnState,
    Usage,
)
from meshwright_common.context import Principal
from meshwright_common.encryption import KeyRing, SealBroken
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import CacheUnavailable, open_redis, tenant_key
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_common.testing.patience import patient_redis
from meshwright_common.testing.waiting import eventually


@pytest.fixture(params=["valkey_server", "debian_redis", "redis_cluster"])
def servers(request: pytest.FixtureRequest) -> RedisSettings:
    """Each kind of server; tests of others use the last two at the same time."""
    server = request.getfixturevalue(request.param)
    return server if isinstance(server, RedisSettings) else patient_redis(server)


@pytest_asyncio.fixture
async def ring(service_database: ServiceDatabase) -> KeyRing:
    return key_ring(await service_database("meshwright_chat"))


@pytest_asyncio.fixture
async def journal(servers: RedisSettings, ring: KeyRing) -> AsyncIterator[RedisJournal]:
    async with (
        open_redis(servers) as client,
        open_redis(servers, read_timeout_seconds=20) as reader,
    ):
        yield RedisJournal(client, reader, ring)


def a_turn() -> Turn:
    return Turn(
        turn_id=new_id(),
        session_id=new_id(),
        owner=Principal(new_id(), new_id(), "user", frozenset()),
        agent="rag",
        model="",
        knowledge_base_ids=(),
        question="why?",
        state=TurnState.RUNNING,
        attempt=1,
        lease_epoch=1,
        created_at=datetime.now(UTC),
    )


def entries(turn: Turn, first: int, *texts: str) -> list[Entry]:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return [
        Entry(turn.turn_id, sequence, turn.attempt, moment, TextDelta(text))
        for sequence, text in enumerate(texts, start=first)
    ]


@pytest.mark.asyncio
async def test_entries_read_back_in_order_after_any_position(journal: RedisJournal) -> None:
    turn = a_turn()
    written = entries(turn, 1, "a", "b", "c")
    await journal.append(turn, written)
    for position in range(4):
        found = await journal.read(
            turn.tenant_id, turn.turn_id, after_sequence=position, wait_seconds=0
        )
        assert written[position:] == list(found)
    assert 3 == await journal.last_sequence(turn.tenant_id, turn.turn_id)


@pytest.mark.asyncio
@pytest.mark.promise("STORE-10")
async def test_an_append_repeated_after_a_lost_answer_writes_nothing_twice(
    journal: RedisJournal,
) -> None:
    turn = a_turn()
    written = entries(turn, 1, "a", "b")
    await journal.append(turn, written[:1])
    await journal.append(turn, written)
    await journal.append(turn, written)
    found = await journal.read(turn.tenant_id, turn.turn_id, after_sequence=0, wait_seconds=0)
    assert written == list(found)


@pytest.mark.asyncio
async def test_an_entry_opens_only_where_it_was_written(
    journal: RedisJournal, servers: RedisSettings
) -> None:
    turn = a_turn()
    await journal.append(turn, entries(turn, 1, "for nobody else", "b"))
    key = tenant_key(turn.tenant_id, "turn", turn.turn_id, "events")
    async with open_redis(servers) as client:
        stored: Any = await client.xrange(key)
        assert b"for nobody else" not in b"".join(fields[b"e"] for _, fields in stored)
        await client.xadd(key, {"e": stored[0][1][b"e"]}, id="3-0")
    with pytest.raises(SealBroken):
        await journal.read(turn.tenant_id, turn.turn_id, after_sequence=0, wait_seconds=0)


@pytest.mark.asyncio
async def test_a_fenced_journal_keeps_what_it_has_and_takes_no_more_of_an_older_lease(
    journal: RedisJournal,
) -> None:
    old = a_turn()
    await journal.append(old, entries(old, 1, "a"))
    new = replace(old, lease_epoch=2)
    await journal.fence(new)
    with pytest.raises(LeaseLost):
        await journal.append(old, entries(old, 2, "b"))
    assert 1 == await journal.last_sequence(old.tenant_id, old.turn_id)
    await journal.append(new, entries(new, 2, "c"))


@pytest.mark.asyncio
@pytest.mark.promise("STORE-10")
async def test_a_process_that_lost_its_lease_cannot_append(journal: RedisJournal) -> None:
    old = a_turn()
    await journal.append(old, entries(old, 1, "a"))
    new = replace(old, attempt=2, lease_epoch=2)
    await journal.append(new, entries(new, 2, "b"))
    with pytest.raises(LeaseLost):
        await journal.append(old, entries(old, 3, "zombie"))
    assert 2 == await journal.last_sequence(old.tenant_id, old.turn_id)


@pytest.mark.asyncio
async def test_a_journal_is_kept_for_a_day_and_ten_minutes_after_its_last_event(
    journal: RedisJournal, servers: RedisSettings
) -> None:
    turn = a_turn()
    key = tenant_key(turn.tenant_id, "turn", turn.turn_id, "events")
    async with open_redis(servers) as client:
        await journal.append(turn, entries(turn, 1, "a"))
        running = await client.ttl(key)
        ending = Completed("a", new_id(), 1, Usage())
        await journal.append(turn, [replace(entries(turn, 2, "")[0], event=ending)])
        finished = await client.ttl(key)
    assert FINISHED_RETENTION_SECONDS < running <= RETENTION_SECONDS
    assert 0 < finished <= FINISHED_RETENTION_SECONDS


@pytest.mark.asyncio
async def test_a_waiting_reader_gets_the_next_entry(journal: RedisJournal) -> None:
    turn = a_turn()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        reading = group.create_task(
            journal.read(turn.tenant_id, turn.turn_id, after_sequence=0, wait_seconds=15)
        )
        await journal.append(turn, entries(turn, 1, "a"))
    assert entries(turn, 1, "a") == list(reading.result())


@pytest.mark.asyncio
@pytest.mark.promise("STORE-10")
async def test_a_live_turn_is_told_without_gaps_and_equals_its_journal(
    journal: RedisJournal,
) -> None:
    """R-13: what a reader saw and what the journal keeps are the same, whole, ending once."""
    turn = a_turn()
    live = LiveTurn(turn, journal, lambda: datetime.now(UTC), first_sequence=1)
    seen: list[Entry] = []

    async def read() -> None:
        seen.extend([entry async for entry in live.follow(0)])

    words = [f"word{number} " for number in range(300)]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(live.write())
        group.create_task(read())
        live.emit(Started(turn.session_id, "rag"))
        for word in words:
            live.emit(TextDelta(word))
            await asyncio.sleep(0)
        live.emit(ToolCalled("1", "calculator", "{}"))
        live.emit(Completed("".join(words), new_id(), 1, Usage()))
        live.close()
    kept = await journal.read(turn.tenant_id, turn.turn_id, after_sequence=0, wait_seconds=0)
    assert list(range(1, len(seen) + 1)) == [entry.sequence for entry in seen]
    assert [entry.event for entry in seen] == [entry.event for entry in kept]
    told = "".join(e.event.text for e in seen if isinstance(e.event, TextDelta))
    assert "".join(words) == told
    assert [False] * (len(seen) - 1) + [True] == [entry.is_last for entry in seen]


@pytest.mark.asyncio
@pytest.mark.parametrize("servers", ["valkey_server"], indirect=True)
async def test_a_full_server_counts_as_away(
    journal: RedisJournal, redis_settings: RedisSettings
) -> None:
    """The turn goes on without its journal: F-16."""
    turn = a_turn()
    await journal.append(turn, entries(turn, 1, "a"))
    async with open_redis(redis_settings) as operator:
        before = str((await operator.config_get("maxmemory"))["maxmemory"])
        await operator.config_set("maxmemory", "1")
        try:
            with pytest.raises(CacheUnavailable):
                await journal.append(turn, entries(turn, 2, "b"))
        finally:
            await operator.config_set("maxmemory", before)
    await journal.append(turn, entries(turn, 2, "b"))
    assert await journal.last_sequence(turn.tenant_id, turn.turn_id) == 2


@pytest.mark.asyncio
async def test_a_server_that_forgot_the_script_is_taught_again(
    journal: RedisJournal, servers: RedisSettings
) -> None:
    """A server that was started anew, or one that a cluster was given."""
    turns = [a_turn() for _ in range(12)]
    for first in (1, 2):
        async with open_redis(servers) as operator:
            await operator.script_flush()
        # All of them at once: in a cluster, a batch is for several servers.
        async with asyncio.TaskGroup() as group:
            for turn in turns:
                group.create_task(journal.append(turn, entries(turn, first, "a")))
    assert {await journal.last_sequence(one.tenant_id, one.turn_id) for one in turns} == {2}


@pytest.mark.asyncio
@pytest.mark.promise("CACHE-01")
async def test_a_journal_that_was_emptied_amid_a_turn_is_whole_again_with_the_next_event(
    journal: RedisJournal, servers: RedisSettings
) -> None:
    turn = a_turn()
    live = LiveTurn(turn, journal, lambda: datetime.now(UTC), first_sequence=1)
    # house: naked-task: awaited below
    writing = asyncio.create_task(live.write())
    for number in range(1, 4):
        live.emit(ToolCalled(str(number), "calculator", "{}"))
        await eventually(partial(_has, journal, turn, number))
    await empty(servers, turn)
    assert not await _has(journal, turn, 1)
    live.emit(ToolCalled("4", "calculator", "{}"))
    live.close()
    await writing
    kept = await journal.read(turn.tenant_id, turn.turn_id, after_sequence=0, wait_seconds=0)
    assert [entry.sequence for entry in kept] == [1, 2, 3, 4]


@pytest.mark.asyncio
async def test_what_a_process_never_held_is_no_gap_to_it(
    journal: RedisJournal, servers: RedisSettings
) -> None:
    """Of a turn that was taken over, the journal alone had the beginning."""
    turn = a_turn()
    await journal.append(turn, entries(turn, 1, "a", "b"))
    await empty(servers, turn)
    await journal.append(turn, entries(turn, 3, "c"), held_from=3)
    with pytest.raises(EntriesForgotten):
        await journal.append(turn, entries(turn, 5, "e"), held_from=3)


async def empty(servers: RedisSettings, turn: Turn) -> None:
    """Delete what the journal has of a turn, as a server does that lost its data."""
    keys = [tenant_key(turn.tenant_id, "turn", turn.turn_id, one) for one in ("events", "epoch")]
    async with open_redis(servers) as operator:
        assert await operator.delete(*keys) == len(keys)


async def _has(journal: RedisJournal, turn: Turn, sequence: int) -> bool:
    return await journal.last_sequence(turn.tenant_id, turn.turn_id) >= sequence
