"""A batch handler: what lies there is applied at once, and a failure still stays with its event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from meshwright_common.events.envelope import Event
from meshwright_common.storage.postgres import Connection, open_database
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import EFFECTS, EventBench, write_effect
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

POISON = 3


@pytest_asyncio.fixture
async def bench(database_settings: DatabaseSettingsFor) -> AsyncIterator[EventBench]:
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    async with open_database(settings, "session") as database:
        yield EventBench(database, settings)


class Batches:
    """Writes the effects of batches, with the poison among them only to find out half-way."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.tenants: list[set[str]] = []

    async def write(self, connection: Connection, events: Sequence[Event]) -> None:
        self.sizes.append(len(events))
        self.tenants.append({event.tenant_id for event in events})
        for event in events:
            await refuse_poison(connection, event)


async def refuse_poison(connection: Connection, event: Event) -> None:
    if event.data["number"] == POISON:
        raise ValueError("poison")
    await write_effect(connection, event)


async def test_events_that_wait_are_handed_over_at_once_each_with_its_effect_once(
    bench: EventBench,
) -> None:
    batches = Batches()
    await bench.publish(*[bench.event(number) for number in (10, 11, 12, 13)])
    async with bench.consuming(write_effect, batch_handler=batches.write):
        await eventually(lambda: bench.has(4))
    await bench.rewind()
    await bench.publish(bench.event(14), bench.event(15))
    async with bench.consuming(write_effect, batch_handler=batches.write):
        await eventually(lambda: bench.has(6))
    assert await bench.effect_numbers() == [10, 11, 12, 13, 14, 15]
    assert batches.sizes == [4, 2]


async def test_a_batch_is_of_one_tenant(bench: EventBench) -> None:
    batches, other = Batches(), "0192aaaa-0000-7000-8000-000000000001"
    await bench.publish(
        bench.event(10),
        bench.event(20, tenant=other),
        bench.event(11),
        bench.event(21, tenant=other),
    )
    async with bench.consuming(write_effect, batch_handler=batches.write):
        await eventually(lambda: bench.has(2))
    assert await bench.effects(tenant=other) == [("user", 20), ("user", 21)]
    assert sorted(map(sorted, batches.tenants)) == sorted([[bench.tenant], [other]])


async def test_a_poisoned_event_of_a_batch_holds_up_its_own_key_only(bench: EventBench) -> None:
    await bench.publish(
        bench.event(1, key="a"),
        bench.event(POISON, key="b"),
        bench.event(4, key="b"),
        bench.event(5, key="a"),
    )
    batches = Batches()
    async with bench.consuming(refuse_poison, batch_handler=batches.write):
        await eventually(lambda: bench.has(3))
    assert sorted(await bench.effects()) == [("a", 1), ("a", 5), ("b", 4)]
    [buried] = await bench.dead_letters()
    assert "poison" in buried.error
