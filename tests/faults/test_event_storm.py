"""20 000 events, while everything between the writers and the ledger dies again and again.

Invariants of reliability.md B0: the ledger is what was produced, order per key is kept, the outbox
is empty when all is well again, and to replay everything changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from bench.event_process import usage_event
from meshwright_common.errors import Unavailable
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.inspection_kafka import KafkaInspection
from meshwright_common.events.kafka_positions import rewind
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, EventSettings
from meshwright_common.storage.embedded.process import EngineThread
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import EFFECTS
from meshwright_common.testing.servers.kafka import KafkaServer
from meshwright_common.testing.waiting import eventually
from meshwright_session.consumers import CONSUMER

pytestmark = pytest.mark.asyncio

EVENTS: Final = 20_000
TOGETHER: Final = 50
"""Events that a writer commits together."""
WRITERS: Final = 4
TENANTS: Final = 3
USERS: Final = 10
"""Keys of each writer, in every tenant."""
STORM_SECONDS: Final = 45.0
"""The writers take this long, so that all that happens, happens to something."""
REBALANCE_SECONDS: Final = 25.0
REBALANCE_EVERY_SECONDS: Final = 2.0
KILLS: Final = 6
"""Of relays, and as many of consumers."""
BROKER_AWAY_SECONDS: Final = 1.0
OUTBOX_SECONDS: Final = 5.0
"""R-08, after the last thing was mended."""
SETTLE_SECONDS: Final = 60.0
"""For what Kafka holds to be handled: a group waits 15 s for a member that was killed."""
SCRIPT: Final = Path(__file__).with_name("event_process.py")


@dataclass(slots=True)
class Member:
    """A process that is started again whenever it ends."""

    role: str
    settings: str
    process: asyncio.subprocess.Process | None = None
    wanted: bool = True

    async def keep(self) -> None:
        """Start it, and again, until `end`."""
        while self.wanted:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(SCRIPT), self.role, self.settings
            )
            await self.process.wait()

    def kill(self) -> bool:
        """Kill it; False when it does not run just now."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.process.send_signal(signal.SIGKILL)
        return True

    def end(self) -> None:
        """Kill it for good."""
        self.wanted = False
        self.kill()


@dataclass(slots=True)
class Storm:
    """The parts between writer and ledger, and what befalls them."""

    kafka: KafkaServer
    thread: EngineThread
    events: EventSettings
    settings: DatabaseSettings
    database: Database
    tenants: list[str]
    dice: random.Random
    produced: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events by (tenant, user)."""
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def running(self, role: str, count: int) -> AsyncIterator[list[Member]]:
        """Keep so many processes of a role running."""
        given = {"database": self.settings.url, "events": self.events.model_dump(mode="json")}
        members = [Member(role, json.dumps(given)) for _ in range(count)]
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.keep())
            try:
                yield members
            finally:
                for member in members:
                    member.end()

    async def write(self, writer: int) -> None:
        """Commit a writer's share of the events, of users that are its alone."""
        users = [f"user-{writer}-{number}" for number in range(USERS)]
        rounds = EVENTS // WRITERS // TOGETHER
        began = time.monotonic()
        for turn in range(rounds):
            tenant = self.tenants[turn % TENANTS]
            batch = [self._next(tenant, self.dice.choice(users)) for _ in range(TOGETHER)]
            async with unit_of_work(self.database, tenant) as connection:
                await outbox.append_all(connection, Topic.USAGE_STATS, batch)
            due = began + (turn + 1) * STORM_SECONDS / rounds
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _next(self, tenant: str, user: str) -> Event:
        tokens = self.dice.randrange(1, 5000)
        self.produced[tenant, user] += 1
        self.tokens[tenant, user] += tokens
        number = self.produced[tenant, user]
        return usage_event(tenant, number, user=user, tokens=tokens)

    async def rebalance(self) -> None:
        """Have another member join the group and leave it, one of them every two seconds."""
        until = time.monotonic() + REBALANCE_SECONDS
        while time.monotonic() < until:
            bystander = AIOKafkaConsumer(
                self.events.topic_prefix + Topic.USAGE_STATS,
                bootstrap_servers=self.kafka.bootstrap,
                group_id=self.events.topic_prefix + CONSUMER,
                enable_auto_commit=False,
                partition_assignment_strategy=(StickyPartitionAssignor,),
            )
            await bystander.start()
            await asyncio.sleep(REBALANCE_EVERY_SECONDS)
            await bystander.stop()
            await asyncio.sleep(REBALANCE_EVERY_SECONDS)

    async def kill(self, members: list[Member], *, seconds: float) -> None:
        """Kill one of the members so often, spread over the time."""
        killed = 0
        while killed < KILLS:
            await asyncio.sleep(seconds / KILLS * self.dice.uniform(0.5, 1.5))
            killed += self.dice.choice(members).kill()

    async def break_broker(self) -> None:
        """Kill the broker and start it again."""
        self.kafka.kill()
        await asyncio.sleep(BROKER_AWAY_SECONDS)
        await self.thread.run(self.kafka.start)

    async def outbox_is_empty(self) -> bool:
        """Return whether all is relayed."""
        async with unscoped(self.database) as connection:
            waiting: int = await connection.fetchval("SELECT waiting FROM events.relay_backlog()")
        return waiting == 0

    async def all_is_handled(self) -> bool:
        """Return whether every event had its effect."""
        return await self.handled() >= EVENTS

    async def all_is_read(self) -> bool:
        """Return whether the ledger's positions are at the end of the log."""
        positions = await KafkaInspection(self.events).positions()
        return [one.behind for one in positions if one.consumer == CONSUMER] == [0]

    async def is_rewound(self) -> bool:
        """Set the ledger's positions to the beginning; False while the group has members."""
        try:
            await rewind(self.events, CONSUMER, [Topic.USAGE_STATS])
        except Unavailable:
            return False
        return True

    async def ledger(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """Return calls and tokens of the ledger by (tenant, user)."""
        calls: Counter[tuple[str, str]] = Counter()
        tokens: Counter[tuple[str, str]] = Counter()
        for tenant in self.tenants:
            async with unit_of_work(self.database, tenant) as connection:
                for table in ("usage_ledger", "usage_daily"):
                    count = "count(*)" if table == "usage_ledger" else "sum(call_count)"
                    rows = await connection.fetch(
                        f"SELECT user_id, {count}::bigint AS calls, sum(prompt_tokens)::bigint AS t"  # noqa: S608
                        f" FROM {table} WHERE tenant_id = $1 GROUP BY user_id",
                        tenant,
                    )
                    found = {(tenant, row["user_id"]): (row["calls"], row["t"]) for row in rows}
                    if table == "usage_ledger":
                        calls.update({key: value[0] for key, value in found.items()})
                        tokens.update({key: value[1] for key, value in found.items()})
                    else:
                        assert found == {
                            key: (calls[key], tokens[key]) for key in calls if key[0] == tenant
                        }
        return calls, tokens

    async def handled(self) -> int:
        """Return how many events were handled."""
        total = 0
        for tenant in self.tenants:
            async with unit_of_work(self.database, tenant) as connection:
                total += await connection.fetchval(
                    "SELECT count(*) FROM session.effects WHERE tenant_id = $1", tenant
                )
        return total

    async def out_of_order(self) -> int:
        """Return how many events were handled before an earlier one of their key."""
        total = 0
        for tenant in self.tenants:
            async with unit_of_work(self.database, tenant) as connection:
                total += await connection.fetchval(_OUT_OF_ORDER, tenant)
        return total


_OUT_OF_ORDER: Final = """
SELECT count(*)
  FROM (SELECT number, row_number() OVER (PARTITION BY partition_key ORDER BY row_number) AS turn
          FROM session.effects WHERE tenant_id = $1) AS handled
 WHERE number <> turn
"""


@pytest_asyncio.fixture
async def storm(database_settings: DatabaseSettingsFor, tmp_path: Path) -> AsyncIterator[Storm]:
    """A broker of its own and the session service's database, with tenants."""
    settings = await database_settings("meshwright_session")
    await execute_as_owner(settings, EFFECTS)
    tenants = [new_id() for _ in range(TENANTS)]
    for tenant in tenants:
        await execute_as_owner(
            settings,
            "INSERT INTO session.tenants (tenant_id, slug, display_name, plan, first_owner_id)"  # noqa: S608
            f" VALUES ('{tenant}', '{tenant}', 'T', 'starter', '{new_id()}')",
        )
    await execute_as_owner(settings, "SELECT session.make_partitions(1)")
    kafka, thread = KafkaServer(tmp_path / "kafka"), EngineThread()
    await thread.run(kafka.start)
    events = EventSettings(url=f"kafka://{kafka.bootstrap}", partitions=6)
    try:
        async with open_database(settings, "session", max_size=WRITERS + 2) as database:
            dice = random.Random(7)  # noqa: S311 - no secret
            yield Storm(kafka, thread, events, settings, database, tenants, dice)
    finally:
        kafka.stop()
        thread.close()


@pytest.mark.promise("STORM-01")
@pytest.mark.timeout(400)
async def test_ledger_is_what_was_produced_whatever_died_on_the_way(storm: Storm) -> None:
    """Every batch is delivered twice as well, see event_process.py."""
    async with storm.running("relay", 2) as relays, storm.running("consumer", 2) as consumers:
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(storm.write(writer))
            async with asyncio.TaskGroup() as first:
                first.create_task(storm.rebalance())
                first.create_task(storm.kill(relays, seconds=REBALANCE_SECONDS))
            await storm.break_broker()
            await storm.kill(consumers, seconds=STORM_SECONDS - REBALANCE_SECONDS)
            await storm.break_broker()
        await eventually(storm.outbox_is_empty, timeout_seconds=OUTBOX_SECONDS)
        await eventually(storm.all_is_handled, timeout_seconds=SETTLE_SECONDS)
    assert await storm.ledger() == (storm.produced, storm.tokens)
    assert await storm.out_of_order() == 0

    await eventually(storm.is_rewound, timeout_seconds=SETTLE_SECONDS)
    assert not await storm.all_is_read()
    async with storm.running("consumer", 2):
        await eventually(storm.all_is_read, timeout_seconds=SETTLE_SECONDS)
    assert await storm.ledger() == (storm.produced, storm.tokens)
    assert await storm.handled() == EVENTS
