"""Events given up: kept with their error for 14 days, to be replayed or left to expire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.events.ports import Delivery
from meshwright_common.storage.postgres import Connection
from meshwright_common.storage.tenancy import enter_tenant


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
    topic: str,
    delivery: Delivery,
    attempts: int,
    error: str,
) -> None:
    """Keep an event as a dead letter, in the transaction that moves the consumer past it."""
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
