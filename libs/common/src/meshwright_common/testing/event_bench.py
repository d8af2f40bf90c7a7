"""A place to try an event log: a database, producers, consumers of one name, and their effects.

Used by the contract suite, which runs the same tests on every event log there is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.events import dead_letter, outbox
from meshwright_common.events.backbone import is_relayed
from meshwright_common.events.consumer import BatchHandler, Consumer, Handler, Policy
from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.envelope import Event
from meshwright_common.events.kafka_log import KafkaLog
from meshwright_common.events.kafka_member import Membership
from meshwright_common.events.kafka_positions import rewind
from meshwright_common.events.kafka_publisher import open_publisher
from meshwright_common.events.ports import EventLog
from meshwright_common.events.relay import Relay
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, EventSettings
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.waiting import eventually

QUICK: Final = Policy(ladder_seconds=(0.01, 0.01, 0.01, 0.01), poll_seconds=0.05)
QUICK_MEMBERSHIP: Final = Membership(
    session_seconds=6, heartbeat_seconds=0.2, rebalance_seconds=8, let_go_seconds=5
)
"""Of tests: rebalances take a moment, and who was killed is out of the group after 6 s, the least
that a broker allows."""
TOPIC: Final = Topic.USAGE_STATS
CONSUMER: Final = "ledger"
EFFECTS: Final = """
    CREATE TABLE session.effects (
        tenant_id uuid NOT NULL,
        row_number bigint GENERATED ALWAYS AS IDENTITY,
        event_id uuid NOT NULL,
        partition_key text NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (tenant_id, row_number)
    );
    ALTER TABLE session.effects ENABLE ROW LEVEL SECURITY;
    ALTER TABLE session.effects FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON session.effects
        USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
    CREATE POLICY owner_access ON session.effects TO meshwright_owner
        USING (true) WITH CHECK (true);
"""


async def write_effect(connection: Connection, event: Event) -> None:
    """Write the one row that this event is worth."""
    await connection.execute(
        "INSERT INTO session.effects (tenant_id, event_id, partition_key, number)"
        " VALUES ($1, $2, $3, $4)",
        event.tenant_id,
        event.event_id,
        event.partition_key,
        event.data["number"],
    )


async def write_effects(connection: Connection, events: Sequence[Event]) -> None:
    """Write the rows that these events of one tenant are worth, at once."""
    await connection.execute(
        "INSERT INTO session.effects (tenant_id, event_id, partition_key, number)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::bigint[])",
        events[0].tenant_id,
        [event.event_id for event in events],
        [event.partition_key for event in events],
        [event.data["number"] for event in events],
    )


def open_log(events: EventSettings, database: Database) -> EventLog:
    """Return the log of `events`, as `backbone.event_log`, with the group timing of tests."""
    if is_relayed(events):
        return KafkaLog(events, database, membership=QUICK_MEMBERSHIP)
    return EmbeddedLog(database)


@dataclass(slots=True)
class _Running:
    """The consumers that a block runs, and how to start them once more."""

    group: asyncio.TaskGroup
    handler: Handler
    batch_handler: BatchHandler | None
    processes: int
    policy: Policy
    consumers: Sequence[Consumer] = ()
    tasks: Sequence[asyncio.Task[None]] = ()


class EventBench:
    """Producers and consumers on one database with the table of `EFFECTS`."""

    def __init__(
        self,
        database: Database,
        settings: DatabaseSettings,
        events: EventSettings = EventSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.database = database
        self.settings = settings
        self.events = events
        self.tenant = new_id()
        self._running: _Running | None = None

    @property
    def patience_seconds(self) -> float:
        """How long to wait for effects: members of a group that was left by a kill wait for it."""
        return 25.0 if is_relayed(self.events) else 5.0

    def event(self, number: int, *, key: str = "user", tenant: str | None = None) -> Event:
        """Return a new event of this bench's tenant, unless another one is given."""
        return Event.new(
            event_type="model.usage.recorded",
            source="model-router",
            tenant_id=tenant or self.tenant,
            partition_key=key,
            data={"number": number},
        )

    async def publish(self, *events: Event) -> None:
        """Append each event in a transaction of its own."""
        for event in events:
            async with unit_of_work(self.database, event.tenant_id) as connection:
                await outbox.append(connection, TOPIC, event)

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Run a relay while the block lasts, if the log needs one."""
        if not is_relayed(self.events):
            yield
            return
        async with open_publisher(self.events) as publisher, asyncio.TaskGroup() as group:
            relay = Relay(self.database, publisher)
            group.create_task(relay.run())
            try:
                yield
            finally:
                relay.stop()

    @contextlib.asynccontextmanager
    async def consuming(
        self,
        handler: Handler = write_effect,
        *,
        batch_handler: BatchHandler | None = None,
        processes: int = 1,
        policy: Policy = QUICK,
    ) -> AsyncIterator[None]:
        """Run consumers of one name; leave when the block ends."""
        async with asyncio.TaskGroup() as group:
            self._running = _Running(group, handler, batch_handler, processes, policy)
            self._start(self._running)
            try:
                yield
            finally:
                for consumer in self._running.consumers:
                    consumer.stop()
                self._running = None

    def _start(self, running: _Running) -> None:
        running.consumers = [
            Consumer(
                CONSUMER,
                [TOPIC],
                running.handler,
                self.database,
                batch_handler=running.batch_handler,
                log=open_log(self.events, self.database),
                policy=running.policy,
            )
            for _ in range(running.processes)
        ]
        running.tasks = [running.group.create_task(one.run()) for one in running.consumers]

    async def effects(self, *, tenant: str | None = None) -> list[tuple[str, int]]:
        """Return (partition key, number) of each effect, in the order they were written."""
        async with unit_of_work(self.database, tenant or self.tenant) as connection:
            rows = await connection.fetch(
                "SELECT partition_key, number FROM session.effects"
                " WHERE tenant_id = $1 ORDER BY row_number",
                tenant or self.tenant,
            )
        return [(row["partition_key"], row["number"]) for row in rows]

    async def effect_numbers(self) -> list[int]:
        """Return the numbers of the effects, in the order they were written."""
        return [number for _, number in await self.effects()]

    async def until_effects(self, count: int) -> None:
        """Return when there are at least `count` effects. Raises: AssertionError."""

        async def are_there() -> bool:
            return len(await self.effects()) >= count

        await eventually(are_there, timeout_seconds=self.patience_seconds)

    async def has(self, count: int) -> bool:
        """Return whether there are at least `count` effects."""
        return len(await self.effects()) >= count

    async def dead_letters(self, *, tenant: str | None = None) -> list[dead_letter.DeadLetter]:
        """Return what was given up of this bench's tenant, or of another."""
        owner = tenant or self.tenant
        async with unit_of_work(self.database, owner) as connection:
            return await dead_letter.dead_letters(connection, tenant_id=owner, consumer=CONSUMER)

    async def rewind(self) -> None:
        """Deliver everything again, as after a lost or reset position.

        Running consumers of a group are stopped for it and started again, as operators would.
        """
        if not is_relayed(self.events):
            async with unit_of_work(self.database, self.tenant) as connection:
                await connection.execute(_REWIND, CONSUMER)
            return
        running = self._running
        if running is not None:
            for consumer in running.consumers:
                consumer.stop()
            if running.tasks:
                await asyncio.wait(running.tasks)
        await rewind(self.events, CONSUMER, [TOPIC.value])
        if running is not None:
            self._start(running)


_REWIND: Final = """
UPDATE events.offsets SET transaction_id = '0', position = 0, day = '-infinity' WHERE consumer = $1
"""
