"""Stored turns on a real PostgreSQL: one running turn a session, fenced writes, tenants apart."""

import asyncio
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from meshwright_chat.adapters.postgres_turns import PostgresTurns
from meshwright_chat.domain.errors import (
    LeaseLost,
    RequestIdReused,
    TurnInProgress,
    TurnNotFound,
)
from meshwright_chat.domain.models import (
    Citation,
    Completed,
    Turn,
    TurnRequest,
    TurnState,
    Usage,
)
from meshwright_common.context import Principal
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase

TENANT = new_id()
USER = new_id()
CITATION = Citation(1, new_id(), "guide.pdf", 7, 10, 20, "a quote", 0.5, new_id(), ("A", "B"))


@pytest_asyncio.fixture
async def database(service_database: ServiceDatabase) -> Database:
    return await service_database("meshwright_chat")


def a_turn(session_id: str, *, tenant_id: str = TENANT, subject: str = USER) -> Turn:
    return Turn(
        turn_id=new_id(),
        session_id=session_id,
        owner=Principal(tenant_id, subject, "user", frozenset({"agent:execute"}), ("member",)),
        agent="rag",
        model="",
        knowledge_base_ids=(),
        question="why?",
        state=TurnState.RUNNING,
        attempt=1,
        lease_epoch=1,
        created_at=datetime.now(UTC),
    )


def a_request(session_id: str, request_id: str = "", question: str = "why?") -> TurnRequest:
    return TurnRequest(session_id, question, "", "", (), request_id, {})


@pytest.mark.asyncio
async def test_a_stored_turn_reads_back_as_it_was_opened(database: Database) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    opened = await turns.open(a_turn(session_id), a_request(session_id))
    found = await turns.find(TENANT, opened.turn.turn_id)
    assert opened.turn.owner == found.owner
    assert (TurnState.RUNNING, 1, 1) == (found.state, found.attempt, found.lease_epoch)


@pytest.mark.asyncio
async def test_a_session_has_one_running_turn_whoever_races(database: Database) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    results = await asyncio.gather(
        *(turns.open(a_turn(session_id), a_request(session_id)) for _ in range(8)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, TurnInProgress)]
    assert 7 == len(refused)
    opened = next(result for result in results if not isinstance(result, BaseException))
    assert {opened.turn.turn_id} == {error.metadata["turn_id"] for error in refused}


@pytest.mark.asyncio
async def test_one_request_id_is_one_turn_and_another_body_is_refused(database: Database) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    request = a_request(session_id, "key-1")
    results = await asyncio.gather(*(turns.open(a_turn(session_id), request) for _ in range(6)))
    assert 1 == len({result.turn.turn_id for result in results})
    assert 1 == sum(not result.existed for result in results)
    with pytest.raises(RequestIdReused):
        await turns.open(a_turn(session_id), a_request(session_id, "key-1", "something else"))


@pytest.mark.asyncio
async def test_a_lost_turn_is_taken_over_once_and_its_old_owner_writes_nothing(
    database: Database,
) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=0.01)
    session_id = new_id()
    old = (await turns.open(a_turn(session_id), a_request(session_id))).turn
    await asyncio.to_thread(lambda: None)
    async with asyncio.timeout(20):
        while not (
            taken := await PostgresTurns(database, key_ring(database), lease_seconds=30).take_over(
                10
            )
        ):
            pass
    assert [(old.turn_id, 2, 2)] == [(t.turn_id, t.attempt, t.lease_epoch) for t in taken]
    assert [] == list(await turns.take_over(10))
    assert frozenset() == await turns.renew([old])
    ending = Completed("zombie", new_id(), 1, Usage())
    with pytest.raises(LeaseLost):
        await turns.end(old, ending, usage=Usage(), citations=(), last_sequence=3)
    with pytest.raises(LeaseLost):
        await turns.set_task(old, new_id())
    assert "" == (await turns.find(TENANT, old.turn_id)).answer


@pytest.mark.asyncio
async def test_an_ended_turn_keeps_its_answer_and_sources(database: Database) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    turn = (await turns.open(a_turn(session_id), a_request(session_id))).turn
    usage = Usage(prompt_tokens=3, completion_tokens=4, cost_micro_usd=5)
    message_id = new_id()
    await turns.end(
        turn,
        Completed("because", message_id, 9, usage),
        usage=usage,
        citations=(CITATION,),
        last_sequence=6,
    )
    found = await turns.find(TENANT, turn.turn_id)
    assert (TurnState.COMPLETED, "because", (CITATION,), usage, message_id, 9, 6) == (
        found.state,
        found.answer,
        found.citations,
        found.usage,
        found.message_id,
        found.context_version,
        found.last_sequence,
    )
    await turns.open(a_turn(session_id), a_request(session_id))


@pytest.mark.asyncio
async def test_cancel_fences_the_running_attempt_and_leaves_ended_turns_alone(
    database: Database,
) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    turn = (await turns.open(a_turn(session_id), a_request(session_id))).turn
    cancelled = await turns.cancel(TENANT, turn.turn_id, USER)
    assert (TurnState.CANCELLED, USER, 2) == (
        cancelled.state,
        cancelled.cancelled_by,
        cancelled.lease_epoch,
    )
    assert cancelled == await turns.cancel(TENANT, turn.turn_id, "somebody else")
    with pytest.raises(LeaseLost):
        await turns.set_task(turn, new_id())


@pytest.mark.asyncio
async def test_another_tenants_turn_looks_absent_even_to_a_forgetful_query(
    database: Database,
) -> None:
    turns = PostgresTurns(database, key_ring(database), lease_seconds=10)
    session_id = new_id()
    turn = (await turns.open(a_turn(session_id), a_request(session_id))).turn
    with pytest.raises(TurnNotFound):
        await turns.find(new_id(), turn.turn_id)
    with pytest.raises(TurnNotFound):
        await turns.cancel(new_id(), turn.turn_id, USER)
    async with database.transaction() as connection:
        # house: tenantless-sql: the forgetful query is what is tested
        assert 0 == await connection.fetchval("SELECT count(*) FROM chat.turns")
