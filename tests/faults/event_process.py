"""A relay or a consumer as a process of its own, to be killed: python … ROLE, settings as JSON.

The consumer is the session service's own ledger; beside it, it notes the order in which events were
handled. It is given every batch twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from meshwright_common.events.backbone import event_log, open_relay
from meshwright_common.events.consumer import Consumer
from meshwright_common.events.envelope import Event
from meshwright_common.events.ports import Batch, EventLog, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import Connection, Database, open_database
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.testing.patience import patient_database
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger
from meshwright_session.consumers import CONSUMER, Ledgers

CONNECTIONS: Final = 4


class TwiceSubscription:
    """Any subscription; what it delivered comes once more in a transaction of its own."""

    def __init__(self, inner: Subscription, database: Database) -> None:
        self._inner = inner
        self._database = database
        self._again: Batch | None = None

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        if self._again is not None:
            again, self._again = self._again, None
            async with unscoped(self._database) as connection:
                yield Batch(connection, again.deliveries, more=True)
            return
        async with self._inner.batch(most) as batch:
            yield batch
        if batch is not None and batch.deliveries:
            self._again = batch

    async def wait(self, seconds: float) -> None:
        if self._again is None:
            await self._inner.wait(seconds)

    async def lag(self) -> int:
        return await self._inner.lag()


class TwiceLog:
    """Any log, each batch delivered twice."""

    def __init__(self, inner: EventLog, database: Database) -> None:
        self._inner = inner
        self._database = database

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        async with self._inner.subscribe(consumer, topics) as inner:
            yield {topic: TwiceSubscription(one, self._database) for topic, one in inner.items()}


class WatchedLedger:
    """The ledger, and a note of each event in the order of handling."""

    def __init__(self) -> None:
        self._ledgers = Ledgers(PostgresUsageLedger, PostgresAuditChain)

    async def record(self, connection: Connection, event: Event) -> None:
        await self._ledgers.record(connection, event)
        await _note(connection, [event])

    async def record_all(self, connection: Connection, events: Sequence[Event]) -> None:
        await self._ledgers.record_all(connection, events)
        await _note(connection, events)


async def _note(connection: Connection, events: Sequence[Event]) -> None:
    await connection.execute(
        "INSERT INTO session.effects (tenant_id, event_id, partition_key, number)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::bigint[])",
        events[0].tenant_id,
        [event.event_id for event in events],
        [event.partition_key for event in events],
        [event.data["step"] for event in events],
    )


async def main(role: str, settings: str) -> None:
    given = json.loads(settings)
    events = EventSettings(**given["events"])
    async with open_database(
        patient_database(given["database"]), "session", max_size=CONNECTIONS
    ) as database:
        if role == "relay":
            async with open_relay(events, database) as relay:
                assert relay is not None
                await relay.run()
            return
        ledger = WatchedLedger()
        log = TwiceLog(event_log(events, database), database)
        topics = [Topic.USAGE_STATS]
        await Consumer(
            CONSUMER, topics, ledger.record, database, batch_handler=ledger.record_all, log=log
        ).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
