"""Events given up: kept with their error for 14 days, to be replayed or left to expire.

They are kept here, in the transaction that moves their consumer past them, and told on the topic's
dead-letter topic for others to see.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from meshwright_common.events import outbox
from meshwright_common.events.envelope import MAX_BODY_BYTES
from meshwright_common.events.ports import Delivery
from meshwright_common.events.topics import Topic, dead_letter_topic
from meshwright_common.storage.postgres import Connection
from meshwright_common.storage.tenancy import enter_tenant

LETTERS: Final = uuid.UUID("6f0c3f5e-5d0b-5c1e-9a57-1c4d5a1b7e90")
"""The namespace of the ids that dead letters have on their topic."""
MAX_REASON_CHARACTERS: Final = 500
"""Of an error in a header; the whole of it is kept with the letter."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that `consumer` gave up after `attempts` tries, with its last error."""

    consumer: str
    topic: str
    delivery: Delivery
    attempts: int
    error: str
    died_at: datetime


async def bury(
    connection: Connection,
    *,
    consumer: str,
    topic: Topic,
    delivery: Delivery,
    attempts: int,
    error: str,
) -> None:
    """Keep an event as a dead letter, in the transaction that moves the consumer past it.

    Also tells it on the topic's dead-letter topic, with `dlq_reason`, `dlq_consumer`,
    `dlq_attempts` and `dlq_origin` among the headers; a body over the limit of events is left out.
    """
    await enter_tenant(connection, delivery.tenant_id)
    await connection.execute(
        _BURY,
        delivery.tenant_id,
        consumer,
        delivery.event_id,
        topic,
        delivery.partition_key,
        delivery.headers,
        delivery.body,
        delivery.origin,
        attempts,
        error,
    )
    await outbox.append_delivery(
        connection, dead_letter_topic(topic), _told(consumer, delivery, attempts, error)
    )


def _told(consumer: str, delivery: Delivery, attempts: int, error: str) -> Delivery:
    facts = {
        "dlq_reason": error[:MAX_REASON_CHARACTERS],
        "dlq_consumer": consumer,
        "dlq_attempts": str(attempts),
        "dlq_origin": delivery.origin,
    }
    return replace(
        delivery,
        # An id of its own: the same event may be given up by several consumers.
        event_id=str(uuid.uuid5(LETTERS, f"{consumer}/{delivery.event_id}")),
        headers=dict(delivery.headers) | facts,
        body=delivery.body if len(delivery.body) <= MAX_BODY_BYTES else b"",
    )


async def dead_letters(
    connection: Connection, *, tenant_id: str, consumer: str, most: int = 100
) -> list[DeadLetter]:
    """Return up to `most` dead letters of a tenant, the oldest first."""
    rows = await connection.fetch(
        "SELECT tenant_id, consumer, event_id, topic, partition_key, headers, body, origin,"
        " attempts, error, died_at FROM events.dead_letters"
        " WHERE tenant_id = $1 AND consumer = $2 ORDER BY died_at, event_id LIMIT $3",
        tenant_id,
        consumer,
        most,
    )
    return [
        DeadLetter(
            consumer=row["consumer"],
            topic=row["topic"],
            delivery=Delivery(
                event_id=row["event_id"],
                tenant_id=row["tenant_id"],
                partition_key=row["partition_key"],
                headers=row["headers"],
                body=row["body"],
                origin=row["origin"],
            ),
            attempts=row["attempts"],
            error=row["error"],
            died_at=row["died_at"],
        )
        for row in rows
    ]


async def replay(
    connection: Connection, *, tenant_id: str, consumer: str, event_ids: Sequence[str]
) -> int:
    """Hand dead letters back to their consumer, which tries each again from its first attempt.

    They go behind what already waits of their key. Returns how many were found.
    """
    await enter_tenant(connection, tenant_id)
    replayed: int = await connection.fetchval(_REPLAY, tenant_id, consumer, list(event_ids))
    return replayed


_BURY: Final = """
INSERT INTO events.dead_letters (tenant_id, consumer, event_id, topic, partition_key, headers,
                                 body, origin, attempts, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, consumer, event_id) DO UPDATE
   SET attempts = excluded.attempts, error = excluded.error, died_at = now()
"""

_REPLAY: Final = """
WITH risen AS (
    DELETE FROM events.dead_letters
     WHERE tenant_id = $1 AND consumer = $2 AND event_id = ANY ($3::uuid[])
    RETURNING *
), parked AS (
    INSERT INTO events.parked (tenant_id, consumer, event_id, topic, partition_key, headers, body,
                               origin, attempts, due_at, error)
    SELECT tenant_id, consumer, event_id, topic, partition_key, headers, body, origin, 0, now(), ''
      FROM risen
     ORDER BY died_at, event_id
    ON CONFLICT (tenant_id, consumer, event_id) DO NOTHING
    RETURNING topic
)
SELECT count(*) FROM (SELECT pg_notify('meshwright_events', topic) FROM parked) AS woken
"""
