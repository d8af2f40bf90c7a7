"""What others write to a topic: kept with the reason when it is no event, and nobody is harmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from meshwright_common.events.envelope import Event, encode_body, encode_headers
from meshwright_common.events.kafka_records import MAX_RECORD_BYTES, NO_TENANT
from meshwright_common.events.kafka_topics import make_missing
from meshwright_common.events.topics import dead_letter_topic
from meshwright_common.ids import new_id
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import (
    EFFECTS,
    TOPIC,
    EventBench,
    write_effects,
)

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench(
    kafka_events: EventSettings, database_settings: DatabaseSettingsFor
) -> AsyncIterator[EventBench]:
    await make_missing(kafka_events)
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    async with open_database(settings, "session", max_size=20) as database:
        yield EventBench(database, settings, kafka_events)


@dataclass(slots=True)
class Written:
    """A record as a stranger writes it, from an event of ours."""

    event: Event
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = field(default=())

    def __post_init__(self) -> None:
        self.key = self.event.partition_key.encode()
        self.value = encode_body(self.event)
        self.headers = [(name, text.encode()) for name, text in encode_headers(self.event).items()]

    def without(self, name: str) -> Written:
        self.headers = [one for one in self.headers if one[0] != name]
        return self

    def having(self, name: str, value: bytes) -> Written:
        self.headers = [*self.headers, (name, value)]
        return self

    def saying(self, **fields: object) -> Written:
        self.value = orjson.dumps(orjson.loads(self.value or b"") | fields)
        return self


async def write(bench: EventBench, records: Sequence[Written]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bench.events.url.removeprefix("kafka://"),
        max_request_size=3 * 1024 * 1024,
    )
    async with producer:
        for one in records:
            await producer.send_and_wait(
                bench.events.topic_prefix + TOPIC.value, one.value, one.key, 0, None, one.headers
            )


def strange(bench: EventBench) -> dict[str, Written]:
    """Return records that are no events of ours, by what is said about them."""

    def one() -> Written:
        return Written(bench.event(666))

    empty, keyless, latin, large = one(), one(), one(), one()
    empty.value, keyless.key, latin.key = b"\xff\xfe{", None, b"\xe4"
    large.value = b" " * (MAX_RECORD_BYTES + 1)
    deep, other_key = one(), one()
    deep.value = b"[" * 100_000
    other_key.key = b"somebody else"
    metadata = {"schema_version": "2.0", "partition_key": "user", "retry_count": 0}
    return {
        "str is not valid UTF-8": empty,
        "it has no key": keyless,
        "its key is not UTF-8": latin,
        "TOO_LARGE": large,
        "depth limit exceeded": deep,
        "its key and the header ce_subject differ": other_key,
        "the event is not the one the log names": one().saying(
            metadata=metadata | {"schema_version": "1.0", "partition_key": "other"}
        ),
        "envelope 2.0 is not known": one().saying(metadata=metadata),
        "the header tenant_id is missing": one().without("tenant_id"),
        "the header tenant_id is there twice": one().having("tenant_id", new_id().encode()),
        "a header is wrong: tenant_id": one().without("tenant_id").having("tenant_id", b"acme"),
        "tenant_id names no tenant": one()
        .without("tenant_id")
        .having("tenant_id", NO_TENANT.encode()),
        "the header ce_id is missing": one().without("ce_id"),
        "header and body name different events": one().saying(event_id=new_id()),
        "the header 'note' is not UTF-8": one().having("note", b"\xff"),
        "the header 'note' holds a zero byte": one().having("note", b"a\x00b"),
        "NaN": one().saying(data={"number": 1}),
    }


@pytest.mark.promise("EK-05")
@pytest.mark.timeout(170)
async def test_what_is_no_event_is_kept_with_reason_and_place_and_harms_nobody(
    bench: EventBench,
) -> None:
    records = strange(bench)
    nan = records.pop("NaN")
    nan.value = (nan.value or b"").replace(b'"number":1', b'"number":NaN')
    ours = [Written(bench.event(number)) for number in range(len(records) + 2)]
    mixed = [one for pair in zip(ours, [*records.values(), nan], strict=False) for one in pair]
    await write(bench, [*mixed, ours[-1]])
    async with bench.consuming(batch_handler=write_effects):
        await bench.until_effects(len(ours))
    assert await bench.effect_numbers() == [*range(len(ours))]
    letters = [*await bench.dead_letters(), *await bench.dead_letters(tenant=NO_TENANT)]
    assert len(letters) == len(records) + 1
    place = f"{bench.events.topic_prefix}{TOPIC.value}/0@"
    by_place = {letter.delivery.origin: letter for letter in letters}
    for index, (reason, written) in enumerate(records.items()):
        letter = by_place[f"{place}{2 * index + 1}"]
        assert reason in letter.error
        assert letter.delivery.body == written.value
        assert letter.attempts == 1


@pytest.mark.promise("EK-05")
@pytest.mark.timeout(170)
async def test_a_flood_of_what_is_no_event_stops_no_consumer(bench: EventBench) -> None:
    """Whoever can write to the topic could end the process otherwise."""
    junk = [Written(bench.event(1)).without("tenant_id") for _ in range(150)]
    await write(bench, [*junk, Written(bench.event(7))])
    async with bench.consuming(batch_handler=write_effects):
        await bench.until_effects(1)
    assert await bench.effect_numbers() == [7]


@pytest.mark.promise("EK-07")
@pytest.mark.timeout(170)
async def test_a_dead_letter_is_told_on_the_dead_letter_topic(bench: EventBench) -> None:
    odd = Written(bench.event(1)).without("ce_id")
    await write(bench, [odd])
    reader = AIOKafkaConsumer(
        bench.events.topic_prefix + dead_letter_topic(TOPIC),
        bootstrap_servers=bench.events.url.removeprefix("kafka://"),
        auto_offset_reset="earliest",
    )
    async with bench.relaying(), bench.consuming(), reader, asyncio.timeout(30):
        record = await reader.getone()
    headers = {name: (value or b"").decode() for name, value in record.headers}
    assert record.value == odd.value
    assert record.key == odd.key
    assert headers["dlq_consumer"] == "ledger"
    assert headers["dlq_attempts"] == "1"
    assert headers["dlq_origin"] == f"{bench.events.topic_prefix}{TOPIC.value}/0@0"
    assert headers["dlq_reason"] == "EventMalformed: the header ce_id is missing"
    assert headers["ce_type"] == "model.usage.recorded"
