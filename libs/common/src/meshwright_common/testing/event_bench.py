"""A place to try an event log: a database, producers, consumers of one name, and their effects.

Used by the contract suite, which runs the same tests on every event log there is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from meshwright_common.events import dead_letter, outbox
from meshwright_common.events.consumer import BatchHandler, Consumer, Handler, Policy
from meshwright_common.events.envelope import Event
from meshwright_common.events.ports import EventLog
from meshwright_common.events.topics import Topic
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work

QUICK: Final = Policy(ladder_seconds=(0.01, 0.01, 0.01, 0.01), poll_seconds=0.05)
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


class EventBench:
    """Producers and consumers on one database with the table of `EFFECTS`."""

    def __init__(
        self, database: Database, settings: DatabaseSettings, log: Callable[[Database], EventLog]
    ) -> None:
        self.database = database
        self.settings = settings
        self.tenant = new_id()
        self._log = log

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
    async def consuming(
        self,
        handler: Handler = write_effect,
        *,
        batch_handler: BatchHandler | None = None,
        processes: int = 1,
        policy: Policy = QUICK,
    ) -> AsyncIterator[None]:
        """Run consumers of one name; leave when the block ends."""
        consumers = [
            Consumer(
                CONSUMER,
                [TOPIC],
                handler,
                self.database,
                batch_handler=batch_handler,
                log=self._log(self.database),
                policy=policy,
            )
            for _ in range(processes)
        ]
        async with asyncio.TaskGroup() as group:
            for consumer in consumers:
                group.create_task(consumer.run())
            try:
                yield
            finally:
                for consumer in consumers:
                    consumer.stop()

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

    async def has(self, count: int) -> bool:
        """Return whether there are at least `count` effects."""
        return len(await self.effects()) >= count

    async def dead_letters(self) -> Sequence[dead_letter.DeadLetter]:
        """Return what was given up of this bench's tenant."""
        async with unit_of_work(self.database, self.tenant) as connection:
            return await dead_letter.dead_letters(
                connection, tenant_id=self.tenant, consumer=CONSUMER
            )

    async def rewind(self) -> None:
        """Deliver everything again, as after a lost or reset position."""
        async with unit_of_work(self.database, self.tenant) as connection:
            await connection.execute(
                "UPDATE events.offsets SET transaction_id = '0', position = 0 WHERE consumer = $1",
                CONSUMER,
            )
