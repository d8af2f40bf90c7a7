"""Places of sessions on a real PostgreSQL, whoever races for them."""

import asyncio
from dataclasses import replace

import pytest

from meshwright_chat.adapters.postgres_places import PostgresPlaces
from meshwright_chat.adapters.postgres_turns import PostgresTurns
from meshwright_chat.domain.concurrency import ConcurrencyPolicy, Joined, Settled
from meshwright_chat.domain.errors import LeaseLost, TurnInProgress, TurnQueueFull
from meshwright_chat.domain.models import Cancelled, Completed, Turn, TurnState, Usage
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.waiting import eventually
from services.chat.tests.test_postgres_turns import TENANT, USER, a_request, a_turn, database

__all__ = ["database"]

pytestmark = pytest.mark.asyncio

QUEUE, INTERRUPT = ConcurrencyPolicy.QUEUE, ConcurrencyPolicy.INTERRUPT


class AnyNumber:
    """A quota without limits."""

    active = True
    concurrent_turns = 0

    def refuse_turns(self, running: int) -> None:
        raise AssertionError(f"nothing is refused beside {running}")


class Table:
    """Turns of one session, and what two processes do to them."""

    def __init__(self, database: Database, *, most_queued: int = 100) -> None:
        ring = key_ring(database)
        self.session_id = new_id()
        self.turns = PostgresTurns(database, ring, lease_seconds=30)
        self.places = PostgresPlaces(
            database, ring, lease_seconds=30, most_queued=most_queued, wait_seconds=60
        )

    async def open(self) -> Turn:
        turn = a_turn(self.session_id)
        return (await self.turns.open(turn, a_request(self.session_id))).turn

    async def join(self, policy: ConcurrencyPolicy) -> Joined | None:
        turn = replace(a_turn(self.session_id), state=TurnState.QUEUED, attempt=0)
        return await self.places.join(turn, a_request(self.session_id), policy, AnyNumber())

    async def ask(self, policy: ConcurrencyPolicy = QUEUE) -> Turn:
        """Get the place, or stand behind whoever has it, as the desk does."""
        while True:
            try:
                return await self.open()
            except TurnInProgress:
                if (joined := await self.join(policy)) is not None:
                    return joined.turn

    async def end(self, turn: Turn) -> None:
        ending = Completed("done", new_id(), 1, Usage())
        await self.turns.end(turn, ending, usage=Usage(), citations=(), last_sequence=1)

    async def take(self) -> Turn | None:
        """Return the turn of this session that may begin, owned."""
        mine = [one for one in await self.turns.take_over(50) if one.session_id == self.session_id]
        assert len(mine) <= 1
        return mine[0] if mine else None

    async def all(self) -> list[Turn]:
        found = await self.turns.list_of_session(
            TENANT, USER, self.session_id, before="", limit=200
        )
        return list(found)


async def test_everybody_in_a_queue_has_the_place_once_and_nobody_beside_another(
    database: Database,
) -> None:
    """Those who join, leave the queue and end race each other; no place is lost between them."""
    table = Table(database)
    first = await table.open()
    asked = await asyncio.gather(*(table.ask() for _ in range(8)))
    leaving = [turn.turn_id for turn in asked[:3]]
    had: list[str] = []

    async def work() -> None:
        await table.end(first)
        async with asyncio.timeout(20):
            while any(not turn.state.is_final for turn in await table.all()):
                if (turn := await table.take()) is not None:
                    had.append(turn.turn_id)
                    await table.end(turn)

    async def leave() -> None:
        for turn_id in leaving:
            await table.turns.cancel(TENANT, turn_id, USER)

    await asyncio.gather(work(), leave(), *(table.ask() for _ in range(4)))
    ended = {turn.turn_id: turn.state for turn in await table.all()}
    assert len(ended) == 13
    assert len(set(had)) == len(had)
    assert {turn.turn_id for turn in asked[3:]} <= set(had)
    assert all(ended[turn_id] is TurnState.COMPLETED for turn_id in had if turn_id not in leaving)


async def test_the_order_of_asking_is_the_order_of_the_queue(database: Database) -> None:
    table = Table(database)
    holder: Turn | None = await table.open()
    asked = [(await table.ask()).turn_id for _ in range(4)]
    begun = []
    for _ in asked:
        assert holder is not None
        await table.end(holder)
        holder = await table.take()
        assert holder is not None
        begun.append(holder.turn_id)
        assert (holder.attempt, holder.state) == (1, TurnState.RUNNING)
    assert asked == begun


async def test_who_takes_a_place_goes_before_those_who_wait_for_it(database: Database) -> None:
    table = Table(database)
    first = await table.open()
    await table.ask()
    joined = await table.join(INTERRUPT)
    assert joined is not None
    assert joined.stopping is not None
    assert (joined.stopping.turn_id, joined.stopping.lease_epoch) == (first.turn_id, 2)
    # It is fenced at once, and keeps the place until it is ended.
    with pytest.raises(LeaseLost):
        await table.end(first)
    assert await table.take() is None
    await table.places.settled(joined.stopping, Settled(Cancelled(USER), Usage()))
    taken = await table.take()
    assert taken is not None
    assert taken.turn_id == joined.turn.turn_id


async def test_interrupts_that_race_stop_one_turn_once(database: Database) -> None:
    table = Table(database)
    await table.open()
    joined = await asyncio.gather(*(table.join(INTERRUPT) for _ in range(5)))
    stopping = [one.stopping for one in joined if one is not None and one.stopping is not None]
    assert len(stopping) == 1
    await table.places.settled(stopping[0], Settled(Cancelled(USER), Usage()))
    ends: list[TurnState] = []
    while (turn := await table.take()) is not None:
        ends.append(turn.state)
        if turn.state is TurnState.STOPPING:
            await table.places.settled(turn, Settled(Cancelled(USER), Usage()))
        else:
            await table.end(turn)
    # All but the last were replaced before they began.
    assert ends == [TurnState.STOPPING] * 4 + [TurnState.RUNNING]


async def test_a_queue_has_an_end(database: Database) -> None:
    table = Table(database, most_queued=2)
    await table.open()
    for _ in range(2):
        await table.join(QUEUE)
    with pytest.raises(TurnQueueFull) as full:
        await table.join(QUEUE)
    assert full.value.metadata["limit"] == "2"


async def test_a_lost_stopping_turn_is_taken_over_without_a_new_attempt(
    database: Database,
) -> None:
    table = Table(database)
    table.places = PostgresPlaces(
        database, key_ring(database), lease_seconds=0.01, most_queued=8, wait_seconds=60
    )
    await table.open()
    await table.join(INTERRUPT)
    found: list[Turn] = []

    async def is_taken() -> bool:
        turn = await table.take()
        found.extend([] if turn is None else [turn])
        return bool(found)

    await eventually(is_taken)
    (turn,) = found
    assert (turn.state, turn.attempt, turn.lease_epoch) == (TurnState.STOPPING, 1, 3)
