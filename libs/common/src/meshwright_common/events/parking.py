"""Where a failed event waits for its next try, and later events of its key wait behind it.

All other keys go on. Rows are written under the event's own tenant and read through the doors of
`sql/0005_doors.sql`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.events.ports import Delivery, Key
from meshwright_common.storage.postgres import Connection, Record
from meshwright_common.storage.tenancy import enter_tenant

MAX_ERROR_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Parked:
    """A waiting event: failed `attempts` times, put off `deferrals` times as a dependency was away.

    `waited_seconds` counts from its first failure.
    """

    delivery: Delivery
    attempts: int
    deferrals: int
    waited_seconds: float


def describe(error: BaseException) -> str:
    """Return an error as the text that is kept with an event."""
    text = f"{type(error).__name__}: {error}".replace("\x00", "")
    return text[:MAX_ERROR_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of a topic: the keys, and the first event of each whose next try is due."""

    keys: frozenset[Key]
    due: Sequence[Parked]


async def waiting(connection: Connection, *, consumer: str, topic: str, most: int) -> Waiting:
    """Return what waits, with up to `most` due events, oldest first.

    They are claimed until the transaction ends: to others of the same consumer none is due.
    """
    rows = await connection.fetch(_WAITING, consumer, topic, most)
    return Waiting(
        keys=frozenset(Key(row["tenant_id"], row["partition_key"]) for row in rows),
        due=[_parked(row) for row in rows if row["event_id"] is not None],
    )


def _parked(row: Record) -> Parked:
    return Parked(
        Delivery(
            event_id=row["event_id"],
            tenant_id=row["tenant_id"],
            partition_key=row["partition_key"],
            headers=row["headers"],
            body=row["body"],
            origin=row["origin"],
        ),
        attempts=row["attempts"],
        deferrals=row["deferrals"],
        waited_seconds=row["waited_seconds"],
    )


async def put(
    connection: Connection,
    *,
    consumer: str,
    topic: str,
    parked: Parked,
    due_in_seconds: float,
    error: str,
) -> None:
    """Park an event, or change when a parked one is due and what is known about its failures."""
    delivery = parked.delivery
    await enter_tenant(connection, delivery.tenant_id)
    await connection.execute(
        _PUT,
        delivery.tenant_id,
        consumer,
        delivery.event_id,
        topic,
        delivery.partition_key,
        delivery.headers,
        delivery.body,
        delivery.origin,
        parked.attempts,
        parked.deferrals,
        due_in_seconds,
        error,
    )


async def remove(connection: Connection, *, consumer: str, delivery: Delivery) -> None:
    """Forget a parked event; a no-op when it is not parked. Its tenant must be entered."""
    await connection.execute(
        "DELETE FROM events.parked WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3",
        delivery.tenant_id,
        consumer,
        delivery.event_id,
    )


_WAITING: Final = """
SELECT tenant_id, partition_key, event_id, headers, body, origin, attempts, deferrals,
       waited_seconds
  FROM events.waiting($1, $2, $3)
"""

_PUT: Final = """
INSERT INTO events.parked (tenant_id, consumer, event_id, topic, partition_key, headers, body,
                           origin, attempts, deferrals, due_at, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11), $12)
ON CONFLICT (tenant_id, consumer, event_id) DO UPDATE
   SET attempts = excluded.attempts, deferrals = excluded.deferrals,
       due_at = excluded.due_at, error = excluded.error
"""
