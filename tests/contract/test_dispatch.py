"""What every work queue and status board promises (features.md O5, O8; reliability.md D6, R-11)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence

import pytest
import pytest_asyncio

from meshwright_common.dispatch.backbone import Dispatch, open_dispatch
from meshwright_common.dispatch.embedded import EmbeddedWorkQueue
from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.ports import (
    DELIVERY_LIMIT,
    DeadLetter,
    Delivery,
    Taking,
    Unroutable,
    WorkItem,
    WorkQueue,
)
from meshwright_common.dispatch.status import AgentStatus, EmbeddedStatusBoard
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.settings import DispatchSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

KINDS = ("chat", "graph")
HIDDEN_SECONDS = 0.2
TENANT = new_id()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=a b,c@d=2"
"""With its state, as `kept_trace` has it."""


@pytest_asyncio.fixture(params=["embedded", "rabbitmq"])
async def dispatch(
    request: pytest.FixtureRequest, database_settings: DatabaseSettingsFor
) -> AsyncIterator[Dispatch]:
    """Queues and board of each engine, empty."""
    settings = await database_settings()
    async with open_database(settings, "orchestrator") as database:
        if request.param == "embedded":
            queue = EmbeddedWorkQueue(database, KINDS, hidden_seconds=HIDDEN_SECONDS)
            yield Dispatch(queue, EmbeddedStatusBoard(database), database.probe)
            return
        rabbit = DispatchSettings(
            url=request.getfixturevalue("rabbitmq_server"), prefix=f"t{new_id()[-12:]}-"
        )
        async with open_dispatch(rabbit, database, KINDS) as opened:
            yield opened


def item(
    name: str = "task",
    *,
    lane: Lane = Lane.NORMAL,
    kind: str = "chat",
    expires_in_seconds: float | None = None,
) -> WorkItem:
    return WorkItem(TENANT, name, kind, lane, expires_in_seconds=expires_in_seconds)


def items(count: int, *, lane: Lane = Lane.NORMAL) -> list[WorkItem]:
    return [item(f"{lane.value}-{number}", lane=lane) for number in range(count)]


def names(deliveries: Collection[Delivery]) -> list[str]:
    return [delivery.item.item_id for delivery in deliveries]


async def work_off(taking: Taking, count: int) -> list[Delivery]:
    """Take and settle exactly so many."""
    done: list[Delivery] = []
    while len(done) < count:
        taken = await taking.take(count - len(done))
        await taking.ack(taken)
        done += taken
    return done


async def dead_letters(queue: WorkQueue, count: int) -> Sequence[DeadLetter]:
    """Return so many dead letters as soon as they are there."""
    found: list[DeadLetter] = []

    async def are_there() -> bool:
        found.extend(await queue.dead_letters(count - len(found)))
        return len(found) >= count

    await eventually(are_there)
    return found


@pytest.mark.promise("DQ-01")
async def test_what_is_put_is_taken_by_somebody_as_it_was(dispatch: Dispatch) -> None:
    put = WorkItem(TENANT, "task-1", "graph", Lane.HIGH, trace=TRACE)
    await dispatch.queue.put([put])
    async with dispatch.queue.taking() as taking:
        delivery = (await taking.take(10))[0]
        await taking.ack([delivery])
    assert (delivery.item, delivery.redelivered) == (put, False)


@pytest.mark.promise("DQ-01")
async def test_many_items_each_come_once_when_nothing_fails(dispatch: Dispatch) -> None:
    await dispatch.queue.put(items(600))
    async with dispatch.queue.taking() as one, dispatch.queue.taking() as other:
        seen: Counter[str] = Counter()

        async def work(taking: Taking) -> None:
            while len(seen) < 600:
                deliveries = await taking.take(50)
                seen.update(names(deliveries))
                await taking.ack(deliveries)

        works = [asyncio.create_task(work(taking)) for taking in (one, other)]
        await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for task in works:
            task.cancel()
    assert set(seen.values()) == {1}


@pytest.mark.promise("DQ-02")
async def test_an_item_that_no_queue_takes_is_an_error(dispatch: Dispatch) -> None:
    with pytest.raises(Unroutable, match="kind nobody"):
        await dispatch.queue.put([item(), item(kind="nobody")])


@pytest.mark.promise("DQ-03")
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (WorkItem("no-id", "a", "chat", Lane.LOW), "tenant_id"),
        (WorkItem(TENANT, "", "chat", Lane.LOW), "item_id"),
        (WorkItem(TENANT, "x" * 201, "chat", Lane.LOW), "item_id"),
        (WorkItem(TENANT, "a", "Chat!", Lane.LOW), "kind"),
        (WorkItem(TENANT, "a", "chat", Lane.LOW, expires_in_seconds=-1), "expires_in_seconds"),
    ],
)
async def test_a_wrong_item_is_refused_by_the_name_of_its_field(
    dispatch: Dispatch, wrong: WorkItem, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await dispatch.queue.put([wrong])
    assert refused.value.field_violations[0].field == field


@pytest.mark.promise("DQ-04")
async def test_what_a_lost_taker_held_comes_again_elsewhere(dispatch: Dispatch) -> None:
    await dispatch.queue.put([item()])
    async with dispatch.queue.taking() as lost:
        await lost.take(1)
    async with dispatch.queue.taking() as taking:
        delivery = (await taking.take(1))[0]
        await taking.ack([delivery])
    assert (delivery.item.item_id, delivery.redelivered) == ("task", True)


@pytest.mark.promise("DQ-05")
async def test_an_item_that_kills_its_takers_is_given_up(dispatch: Dispatch) -> None:
    await dispatch.queue.put([item()])
    for _ in range(DELIVERY_LIMIT + 1):
        async with dispatch.queue.taking() as lost:
            await lost.take(1)
    (dead,) = await dead_letters(dispatch.queue, 1)
    assert (dead.item, dead.reason) == (item(), "delivery_limit")


@pytest.mark.promise("DQ-06")
async def test_a_failed_item_comes_again_later_and_later_then_never(dispatch: Dispatch) -> None:
    await dispatch.queue.put([item()])
    pauses: list[float] = []
    async with dispatch.queue.taking() as taking:
        for attempt in range(4):
            began = time.monotonic()
            delivery = (await taking.take(1))[0]
            pauses.append(time.monotonic() - began)
            assert delivery.item.attempt == attempt
            await taking.retry(delivery, "the database is away")
        (dead,) = await dead_letters(dispatch.queue, 1)
    for pause, rung in zip(pauses[1:], (1, 2, 4), strict=True):
        assert rung * 0.95 <= pause <= rung * 1.25 + 1.5
    assert dead.reason == "failed 4 times: the database is away"


@pytest.mark.promise("DQ-07")
async def test_a_rejected_item_is_a_dead_letter_with_its_reason(dispatch: Dispatch) -> None:
    await dispatch.queue.put([item()])
    async with dispatch.queue.taking() as taking:
        await taking.reject((await taking.take(1))[0], "no such task")
        (dead,) = await dead_letters(dispatch.queue, 1)
    assert (dead.item, dead.reason) == (item(), "no such task")


@pytest.mark.promise("DQ-08")
async def test_an_item_that_waits_too_long_is_a_dead_letter(dispatch: Dispatch) -> None:
    await dispatch.queue.put([item("late", expires_in_seconds=0.1), item("patient")])
    (dead,) = await dead_letters(dispatch.queue, 1)
    async with dispatch.queue.taking() as taking:
        taken = await taking.take(10)
        await taking.ack(taken)
    assert (dead.item, dead.reason) == (item("late"), "expired")
    assert names(taken) == ["patient"]


@pytest.mark.promise("DQ-09")
async def test_urgent_lanes_get_more_and_none_starves(dispatch: Dispatch) -> None:
    for lane in Lane:
        await dispatch.queue.put(items(100, lane=lane))
    lanes: Counter[Lane] = Counter()
    async with dispatch.queue.taking() as taking:
        for _ in range(5):
            deliveries = await work_off(taking, 7)
            lanes.update(delivery.item.lane for delivery in deliveries)
            # As long as a worker takes to claim them.
            await dispatch.queue.put([item()])
    assert lanes[Lane.HIGH] > lanes[Lane.NORMAL] > lanes[Lane.LOW] >= 3


@pytest.mark.promise("DQ-10")
async def test_a_busy_taker_holds_nothing_back_from_a_free_one(dispatch: Dispatch) -> None:
    await dispatch.queue.put(items(40))
    async with dispatch.queue.taking() as busy:
        mine = await busy.take(1)
        async with dispatch.queue.taking() as free, asyncio.timeout(20):
            rest = await work_off(free, 39)
        await busy.ack(mine)
    assert sorted(names(mine) + names(rest)) == sorted(one.item_id for one in items(40))


@pytest.mark.promise("DQ-11")
async def test_a_status_is_heard_by_all_who_listen(dispatch: Dispatch) -> None:
    status = AgentStatus("instance", "worker", "online", 87, 0.9, 0.8, 3, 0.01)
    await dispatch.board.publish(status)
    async with dispatch.board.subscribe() as one, dispatch.board.subscribe() as other:
        await dispatch.board.publish(status)
        async with asyncio.timeout(20):
            assert [await anext(one), await anext(other)] == [status, status]


@pytest.mark.promise("DQ-12")
async def test_a_wrong_status_is_refused_by_the_name_of_its_field(dispatch: Dispatch) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await dispatch.board.publish(AgentStatus("i", "worker", "online", 101, 1, 1, 0, 0))
    assert refused.value.field_violations[0].field == "weight"
