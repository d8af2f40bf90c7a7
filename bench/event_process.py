"""The parts of the event backbone, each a process: python -m bench.event_process ROLE SETTINGS.

writer    commits events of model calls, as fast as it can or at a rate
relay     the relay; runs until it is ended
consumer  the session service's ledger, until it has had all events
raw       Kafka's client alone: the same bodies, produced and consumed in one process

SETTINGS is `Part` as JSON. Moments are of the machine's monotonic clock, which processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

from meshwright_common.events import outbox
from meshwright_common.events.backbone import event_log, open_relay
from meshwright_common.events.consumer import Consumer
from meshwright_common.events.envelope import Event, encode_body, encode_headers
from meshwright_common.events.kafka_publisher import make_producer
from meshwright_common.events.ports import Batch, EventLog, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.settings import DatabaseSettings, EventSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.telemetry import logging
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger
from meshwright_session.consumers import CONSUMER, Ledgers

TOPIC: Final = Topic.USAGE_STATS
RAW_TOPIC: Final = Topic.NOTIFICATION
"""Not the one that the ledger reads, and made by the relay as well."""
USERS: Final = 200
WRITERS: Final = 4
READY: Final = "ready"
_NUMBER: Final = re.compile(rb'"step":(\d+)')


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """What a part works on. `rate` is in events/s, 0 for all that goes; `moments` is a file."""

    database: str
    kafka: str
    prefix: str
    tenant: str
    events: int
    together: int = 1
    rate: float = 0.0
    moments: str = ""

    @property
    def event_settings(self) -> EventSettings:
        """The settings of the backbone."""
        return EventSettings(url=self.kafka, topic_prefix=self.prefix)


class Moments:
    """When each event passed, by its number; kept in a file for who compares."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._seconds = array("d", bytes(8 * (part.events + 1)))
        self._missing = part.events
        self.complete = asyncio.Event()

    def note(self, numbers: Sequence[int]) -> None:
        """Note that these events passed now, unless they did before."""
        now = time.monotonic()
        for number in numbers:
            if not self._seconds[number]:
                self._seconds[number] = now
                self._missing -= 1
        if not self._missing:
            self.complete.set()

    def write(self) -> None:
        """Write the file."""
        Path(self._part.moments).write_bytes(self._seconds.tobytes())


def read_moments(path: Path) -> array[float]:
    """Return what `Moments.write` wrote; index 0 is no event."""
    seconds = array("d")
    seconds.frombytes(path.read_bytes())
    return seconds


class WatchedLog:
    """A log; the events of each batch are noted when its effects are committed."""

    def __init__(self, inner: EventLog, moments: Moments) -> None:
        self._inner = inner
        self._moments = moments

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        async with self._inner.subscribe(consumer, topics) as inner:
            yield {topic: _Watched(one, self._moments) for topic, one in inner.items()}


class _Watched:
    def __init__(self, inner: Subscription, moments: Moments) -> None:
        self._inner = inner
        self._moments = moments
        self.wait = inner.wait
        self.lag = inner.lag

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        async with self._inner.batch(most) as batch:
            yield batch
        if batch is not None:
            found = (_NUMBER.search(one.body) for one in batch.deliveries)
            self._moments.note([int(match[1]) for match in found if match])


def usage_event(tenant: str, number: int, *, user: str, tokens: int = 100) -> Event:
    """Return the event of a model call, of the size that the model router's have."""
    counts = {
        "prompt_tokens": str(tokens),
        "completion_tokens": "0",
        "cached_tokens": "0",
        "reasoning_tokens": "0",
        "cost_micro_usd": str(tokens),
        "first_token_milliseconds": "120",
        "duration_milliseconds": "900",
    }
    return Event.new(
        event_type="model.usage.recorded",
        source="model-router",
        tenant_id=tenant,
        partition_key=user,
        data={
            "task_id": f"task of {user}",
            "step": number,
            "attempt": 1,
            "user_id": user,
            "session_id": "",
            "feature": "",
            "operation": "generate",
            "model": "offline",
            "deployment": "offline",
            "provider": "offline",
            "estimated": False,
            "outcome": "completed",
            **counts,
        },
    )


async def write(part: Part) -> None:
    """Commit all events, and note when each was committed."""
    moments = Moments(part)
    # Made before the clock runs: what is measured begins with the commit.
    batches = [
        [
            usage_event(part.tenant, number, user=f"user-{number % USERS}")
            for number in range(first, min(first + part.together, part.events + 1))
        ]
        for first in range(1, part.events + 1, part.together)
    ]
    settings = DatabaseSettings(url=part.database)
    async with open_database(settings, "session", max_size=WRITERS) as database:
        began = time.monotonic()

        async def work(share: int) -> None:
            for index in range(share, len(batches), WRITERS):
                if part.rate:
                    due = began + index * part.together / part.rate
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                batch = batches[index]
                async with unit_of_work(database, part.tenant) as connection:
                    await outbox.append_all(connection, TOPIC, batch)
                moments.note([int(str(event.data["step"])) for event in batch])

        await asyncio.gather(*(work(share) for share in range(WRITERS)))
    moments.write()
    say({"began": began, "ended": time.monotonic()})


async def relay(part: Part) -> None:
    """Relay until ended."""
    settings = DatabaseSettings(url=part.database)
    async with (
        open_database(settings, "session", max_size=3) as database,
        open_relay(part.event_settings, database) as running,
    ):
        assert running is not None  # noqa: S101 - the settings name a broker
        say(READY)
        await running.run()


async def consume(part: Part) -> None:
    """Keep the ledger until it has every event, and note when each was committed."""
    moments = Moments(part)
    ledgers = Ledgers(PostgresUsageLedger, PostgresAuditChain)
    settings = DatabaseSettings(url=part.database)
    async with open_database(settings, "session", max_size=3) as database:
        consumer = Consumer(
            CONSUMER,
            [TOPIC],
            ledgers.record,
            database,
            batch_handler=ledgers.record_all,
            log=WatchedLog(event_log(part.event_settings, database), moments),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.run())
            say(READY)
            await moments.complete.wait()
            ended = time.monotonic()
            consumer.stop()
    moments.write()
    say({"ended": ended})


async def raw(part: Part) -> None:
    """Send the same bodies and headers through Kafka by its client alone, and read them back."""
    topic = part.prefix + RAW_TOPIC
    events = [
        usage_event(part.tenant, number, user=f"user-{number % USERS}")
        for number in range(1, part.events + 1)
    ]
    records = [
        (
            event.partition_key.encode(),
            encode_body(event),
            [(name, value.encode()) for name, value in encode_headers(event).items()],
        )
        for event in events
    ]
    producer = make_producer(part.event_settings)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=part.kafka.removeprefix("kafka://"), auto_offset_reset="latest"
    )
    await producer.start()
    await consumer.start()
    await consumer.seek_to_end()

    async def read() -> None:
        missing = part.events
        while missing:
            found = await consumer.getmany(timeout_ms=100, max_records=1000)
            missing -= sum(len(records) for records in found.values())

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        sent = [
            await producer.send(topic, key=key, value=value, headers=headers)
            for key, value, headers in records
        ]
        await asyncio.gather(*sent)
    ended = time.monotonic()
    await consumer.stop()
    await producer.stop()
    say({"began": began, "ended": ended})


def say(message: object) -> None:
    """Tell the parent."""
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


ROLES: Final = {"writer": write, "relay": relay, "consumer": consume, "raw": raw}

if __name__ == "__main__":
    logging.configure("bench", level="warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ROLES[sys.argv[1]](msgspec.json.decode(sys.argv[2], type=Part)))
