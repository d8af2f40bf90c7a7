"""Events are written with the change they tell of: same connection, same transaction.

Trap for whoever reads the outbox: numbers of a sequence can commit out of order. Transaction A
takes position 7 and is slow, B takes 8 and commits; a reader that remembers "8" never sees 7.
Rows therefore carry their transaction's id, and readers take only rows of transactions older than
every one still running (`pg_snapshot_xmin`), in the order (transaction, position): nothing can
appear behind such a cursor later. The price: one long transaction holds back delivery, which is
why transactions are limited to 30 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from meshwright_common.events.envelope import Event, encode_body, encode_headers
from meshwright_common.events.ports import Delivery
from meshwright_common.events.topics import Topic
from meshwright_common.storage.announcements import Announcement, announce_after_commit
from meshwright_common.storage.postgres import Connection

CHANNEL: Final = "meshwright_events"
"""The NOTIFY channel that wakes readers, with the topic as payload. A hint: readers also poll."""


async def append(connection: Connection, topic: Topic, event: Event) -> None:
    """Add `event` to `topic` in the caller's open transaction: it exists if that commits.

    The transaction's tenant has to be the event's. Idempotent by `event_id` within a day (UTC): a
    second append of the same id changes nothing, and later ones are dropped by every consumer that
    has seen the first. Raises: EventTooLarge; EventInvalid.
    """
    await connection.execute(_APPEND, *values_of(topic, event))
    appended(connection, topic)


def values_of(topic: Topic, event: Event) -> tuple[object, ...]:
    """Return the values of `COLUMNS`, for a statement that appends beside other work; ids and
    headers as texts, which a statement casts: the driver writes an array of texts at once, and asks
    us about each uuid and each jsonb.

    Whoever runs it says so with `appended`, and leaves conflicts alone as `append` does.
    Raises: EventTooLarge; EventInvalid.
    """
    return (
        event.tenant_id,
        event.event_id,
        topic.value,
        event.partition_key,
        orjson.dumps(encode_headers(event)).decode(),
        encode_body(event),
    )


def appended(connection: Connection, topic: Topic) -> None:
    """Wake who reads `topic` when the open transaction is committed."""
    announce_after_commit(connection, Announcement(CHANNEL, topic.value))


async def append_all(connection: Connection, topic: Topic, events: Iterable[Event]) -> None:
    """Add many events to `topic`, in order and in one statement; as `append`."""
    columns = [*zip(*(values_of(topic, event) for event in events), strict=True)]
    if not columns:
        return
    await connection.execute(_APPEND_ALL, *columns)
    appended(connection, topic)


async def append_delivery(connection: Connection, topic: str, delivery: Delivery) -> None:
    """Add what came from a log to the topic named `topic`, as it is; otherwise as `append`."""
    await connection.execute(
        _APPEND,
        delivery.tenant_id,
        delivery.event_id,
        topic,
        delivery.partition_key,
        orjson.dumps(delivery.headers).decode(),
        delivery.body,
    )
    announce_after_commit(connection, Announcement(CHANNEL, topic))


COLUMNS: Final = "tenant_id, event_id, topic, partition_key, headers, body"
"""Of the table `events.outbox`, in the order of `values_of`."""

_APPEND: Final = """
INSERT INTO events.outbox (tenant_id, event_id, topic, partition_key, headers, body)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)
ON CONFLICT (tenant_id, event_id, day) DO NOTHING
"""

_APPEND_ALL: Final = """
INSERT INTO events.outbox (tenant_id, event_id, topic, partition_key, headers, body)
SELECT * FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[], $4::text[],
                     $5::text[]::jsonb[], $6::bytea[])
 LIMIT cardinality($1)
ON CONFLICT (tenant_id, event_id, day) DO NOTHING
"""
