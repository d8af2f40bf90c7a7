"""Tenants take turns at the workers, whoever submitted first and most (O5)."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import pytest_asyncio

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_orchestrator.adapters.postgres_backlog import PostgresBacklog
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.decider import ENGINE_VERSION, KNOWN_VERSIONS
from meshwright_orchestrator.domain.models import Limits, Priority, TaskSpec
from meshwright_orchestrator.domain.ports import NewTask, Queueing, Waiting

pytestmark = pytest.mark.asyncio

SPEC = TaskSpec("noop", (Message(Role.USER, (Text("Go"),)),))


@pytest_asyncio.fixture
async def database(service_database: ServiceDatabase) -> Database:
    """The orchestrator's database."""
    return await service_database("meshwright_orchestrator")


@pytest.fixture
def tasks(database: Database) -> PostgresTasks:
    """The tasks in it."""
    return PostgresTasks(database, key_ring(database), lease_seconds=60, default_seconds=300)


@pytest.fixture
def backlog(database: Database) -> PostgresBacklog:
    """Those that wait."""
    return PostgresBacklog(database, key_ring(database))


async def submit(
    tasks: PostgresTasks, tenant: str, count: int, priority: Priority = Priority.NORMAL
) -> None:
    """Submit so many tasks of a tenant."""
    owner = Principal(tenant, new_id(), "user", frozenset())
    with bind(CallContext(principal=owner)):
        await asyncio.gather(
            *(
                tasks.enqueue(
                    NewTask(new_id(), owner, new_id(), SPEC, Limits(), ENGINE_VERSION, ""),
                    Queueing("chat", priority, ""),
                )
                for _ in range(count)
            )
        )


async def picked(backlog: PostgresBacklog, most: int, window: int = 100) -> Sequence[Waiting]:
    """Pick, and say that the queues have what was picked."""
    found = await backlog.pick(most, hold_seconds=15, most_offers=4, most_of_lane=window)
    await backlog.dispatched([(task, 30.0) for task in found])
    return found


def by(found: Sequence[Waiting], name: Callable[[Waiting], str]) -> Counter[str]:
    return Counter(name(task) for task in found)


def of_tenants(found: Sequence[Waiting]) -> Counter[str]:
    return by(found, lambda task: task.tenant_id)


async def test_a_tenant_with_few_tasks_passes_one_with_many(
    tasks: PostgresTasks, backlog: PostgresBacklog
) -> None:
    many, few = new_id(), new_id()
    await submit(tasks, many, 40)
    await submit(tasks, few, 5)
    assert of_tenants(await picked(backlog, 10)) == {many: 5, few: 5}
    assert of_tenants(await picked(backlog, 10)) == {many: 10}


async def test_what_a_tenant_has_in_the_queues_and_at_work_counts(
    tasks: PostgresTasks, backlog: PostgresBacklog
) -> None:
    first, second = new_id(), new_id()
    await submit(tasks, first, 30)
    begun = await picked(backlog, 10)
    await tasks.claim(first, [task.task_id for task in begun[:4]], KNOWN_VERSIONS)
    await submit(tasks, second, 30)
    assert of_tenants(await picked(backlog, 10)) == {second: 10}
    assert of_tenants(await picked(backlog, 10)) == {first: 5, second: 5}


async def test_the_queues_never_hold_more_of_a_lane_than_the_window(
    tasks: PostgresTasks, backlog: PostgresBacklog
) -> None:
    tenants = [new_id(), new_id(), new_id()]
    for tenant in tenants:
        await submit(tasks, tenant, 10)
    await submit(tasks, tenants[0], 3, Priority.HIGH)
    first = await picked(backlog, 100, window=6)
    assert by(first, lambda task: task.priority) == {Priority.NORMAL: 6, Priority.HIGH: 3}
    assert set(of_tenants([one for one in first if one.priority is Priority.NORMAL]).values()) == {
        2
    }
    assert not await picked(backlog, 100, window=6)
    taken = [one for one in first if one.priority is Priority.NORMAL][:2]
    for task in taken:
        await tasks.claim(task.tenant_id, [task.task_id], KNOWN_VERSIONS)
    assert len(await picked(backlog, 100, window=6)) == 2


async def test_two_dispatchers_pick_nothing_twice(
    tasks: PostgresTasks, backlog: PostgresBacklog
) -> None:
    for _ in range(4):
        await submit(tasks, new_id(), 15)
    found = [
        task.task_id
        for batch in await asyncio.gather(*(picked(backlog, 20) for _ in range(6)))
        for task in batch
    ]
    while rest := await picked(backlog, 20):
        found += [task.task_id for task in rest]
    assert len(found) == len(set(found)) == 60


async def test_what_waits_is_counted_by_lane(
    tasks: PostgresTasks, backlog: PostgresBacklog
) -> None:
    tenant = new_id()
    await submit(tasks, tenant, 4)
    await submit(tasks, new_id(), 3, Priority.LOW)
    assert await backlog.count(100) == {Priority.NORMAL: 4, Priority.LOW: 3}
    (task, *_) = await picked(backlog, 1)
    await tasks.claim(task.tenant_id, [task.task_id], KNOWN_VERSIONS)
    counted = await backlog.count(100)
    assert sum(counted.values()) == 6
