"""Small transactions that share one: the same results and rights as each alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from meshwright_common import context
from meshwright_common.context import CallContext
from meshwright_common.errors import Aborted
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.gathering import MOST_TOGETHER, Gathering
from meshwright_common.storage.postgres import Connection, Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import EFFECTS

pytestmark = pytest.mark.asyncio

TENANT = new_id()


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    return settings


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session") as opened:
        yield opened


class Piece:
    """Writes one row and returns the transaction it was written in."""

    def __init__(self, number: int, *, tenant: str = TENANT) -> None:
        self.number = number
        self.tenant = tenant
        self.request_ids: list[str] = []

    async def write(self, connection: Connection) -> int:
        self.request_ids.append(context.current().request_id)
        transaction = await connection.fetchval(
            "INSERT INTO session.effects (tenant_id, event_id, partition_key, number)"
            " VALUES ($1, $1, '', $2) RETURNING pg_current_xact_id()::text::bigint",
            self.tenant,
            self.number,
        )
        return int(transaction)

    async def write_and_fail(self, connection: Connection) -> int:
        await self.write(connection)
        raise Aborted("this one had second thoughts")


async def numbers(database: Database, tenant: str = TENANT) -> list[int]:
    async with unit_of_work(database, tenant) as connection:
        rows = await connection.fetch(
            "SELECT number FROM session.effects WHERE tenant_id = $1 ORDER BY number", tenant
        )
    return [row["number"] for row in rows]


async def test_work_that_comes_together_shares_transactions(database: Database) -> None:
    gathering = Gathering(database)
    pieces = [Piece(number) for number in range(2 * MOST_TOGETHER)]
    transactions = await asyncio.gather(*[gathering.run(TENANT, piece.write) for piece in pieces])
    assert len(set(transactions)) == 2
    assert await numbers(database) == list(range(2 * MOST_TOGETHER))


async def test_tenants_never_share_a_transaction(database: Database) -> None:
    gathering, other = Gathering(database), new_id()
    mine, theirs, wrong = Piece(1), Piece(2, tenant=other), Piece(3, tenant=other)
    outcomes = await asyncio.gather(
        gathering.run(TENANT, mine.write),
        gathering.run(other, theirs.write),
        gathering.run(TENANT, wrong.write),
        return_exceptions=True,
    )
    assert outcomes[0] != outcomes[1]
    assert isinstance(outcomes[2], Exception)
    assert (await numbers(database), await numbers(database, other)) == ([1], [2])


async def test_a_piece_that_fails_takes_back_what_it_wrote_and_nothing_else(
    database: Database,
) -> None:
    gathering = Gathering(database)
    outcomes = await asyncio.gather(
        gathering.run(TENANT, Piece(1).write),
        gathering.run(TENANT, Piece(2).write_and_fail),
        gathering.run(TENANT, Piece(3).write),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Aborted)
    assert await numbers(database) == [1, 3]


async def test_each_piece_is_done_for_its_own_caller(database: Database) -> None:
    gathering = Gathering(database)
    pieces = [Piece(number) for number in range(3)]

    async def ask(piece: Piece) -> None:
        with context.bind(CallContext(request_id=f"r{piece.number}")):
            await gathering.run(TENANT, piece.write)

    await asyncio.gather(*[ask(piece) for piece in pieces])
    assert [piece.request_ids for piece in pieces] == [["r0"], ["r1"], ["r2"]]


async def test_a_caller_that_leaves_before_its_turn_writes_nothing(database: Database) -> None:
    gathering = Gathering(database)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(connection: Connection) -> None:
        begun.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(gathering.run(TENANT, wait))
        await begun.wait()
        leaving = group.create_task(gathering.run(TENANT, Piece(1).write))
        staying = group.create_task(gathering.run(TENANT, Piece(2).write))
        await asyncio.sleep(0)
        leaving.cancel()
        go_on.set()
        await asyncio.wait({leaving, staying})
    assert await numbers(database) == [2]


async def test_pieces_of_a_transaction_are_done_by_their_order_and_then_as_they_came(
    database: Database,
) -> None:
    """So two processes that lock the same rows never wait for each other in a circle."""
    gathering = Gathering(database)
    done: list[tuple[str, int]] = []

    async def do(order: str, number: int, connection: Connection) -> int:
        done.append((order, number))
        return int(await connection.fetchval("SELECT pg_current_xact_id()::text::bigint"))

    came = [("c", 1), ("a", 2), ("b", 3), ("a", 4)]
    transactions = await asyncio.gather(
        *(gathering.run(TENANT, partial(do, order, number), order=order) for order, number in came)
    )
    assert done == [("a", 2), ("a", 4), ("b", 3), ("c", 1)]
    assert len(set(transactions)) == 1
