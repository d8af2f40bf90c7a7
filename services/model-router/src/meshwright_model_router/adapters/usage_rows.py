"""Usage rows and their events in PostgreSQL: exactly one a reservation, whoever writes it.

A reservation is what tells requests apart: writing one again changes nothing. Another request with
the same (task, step, attempt, operation, number) - a caller that repeated a call of its own - gets
the next number, and is not charged when one of them was already. Nor is what a later attempt asks
for again because the earlier one died with the answer, or with a part of it: a step is charged once
(reliability.md R-04).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from meshwright_common.errors import Aborted
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_model_router.domain.budgets import NOTHING, Counted, Hold
from meshwright_model_router.domain.usage import Outcome, UsageRecord

SOURCE: Final = "model-router"
EVENT_TYPE: Final = "model.usage.recorded"
RENUMBERINGS: Final = 5
"""Times that a number is looked for which nobody else takes meanwhile."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A record, what was held for it, what budgets count for it, and the event about it."""

    record: UsageRecord
    hold: Hold
    counted: Counted
    event: Event


def usage_row(record: UsageRecord, hold: Hold) -> UsageRow:
    """Return the row of a record. One that was lost counts what was held, and costs nothing."""
    counted = hold.held if record.outcome is Outcome.LOST else hold.counted(record.usage)
    return UsageRow(record, hold, counted, _event(record, counted))


async def record_all(
    database: Database, tenant_id: str, rows: Sequence[UsageRow]
) -> Sequence[Counted]:
    """Commit rows of one tenant with their events; return what budgets count for each.

    That is of the row which is there: nothing for an attempt that a sweep found lost before.
    Raises: Unavailable, Aborted (both safe to repeat), DeadlineExceeded.
    """
    async with unit_of_work(database, tenant_id) as connection:
        return await _record_all(connection, tenant_id, rows)


async def _record_all(
    connection: Connection, tenant_id: str, rows: Sequence[UsageRow]
) -> Sequence[Counted]:
    rows = await _charged_once(connection, tenant_id, rows)
    new = await _insert(connection, rows)
    # A reservation that is there twice is one row, and one event.
    first = {row.hold.reservation_id: row for row in reversed(rows)}
    events = [row.event for reservation_id, row in first.items() if reservation_id in new]
    known: dict[str, Counted] = {}
    if others := [row for row in first.values() if row.hold.reservation_id not in new]:
        known = await _known(connection, tenant_id, others)
        clashing = [row for row in others if row.hold.reservation_id not in known]
        events += [(await _insert_next(connection, row)).event for row in clashing]
    if events:
        await outbox.append_all(connection, Topic.USAGE_STATS, events)
    return [known.get(row.hold.reservation_id, row.counted) for row in rows]


async def _charged_once(
    connection: Connection, tenant_id: str, rows: Sequence[UsageRow]
) -> Sequence[UsageRow]:
    """Return the rows, later attempts at steps that were charged already marked as repeated."""
    later = [row for row in rows if row.record.attribution.attempt > 1]
    if not later:
        return rows
    keys = [_key(row.record) for row in later]
    found = await connection.fetch(_CHARGED_BEFORE, tenant_id, *zip(*keys, strict=True))
    charged = {(one["task_id"], one["step"], one["attempt"], one["operation"]) for one in found}
    return [
        _renamed(row, replace(row.record, repeated_by_platform=True))
        if _key(row.record) in charged
        else row
        for row in rows
    ]


async def _insert(connection: Connection, rows: Sequence[UsageRow]) -> set[str]:
    """Insert the rows that are new; return the reservations of just those."""
    found = await connection.fetch(_INSERT, *zip(*map(_values, rows), strict=True))
    return {str(row["reservation_id"]) for row in found}


async def _known(
    connection: Connection, tenant_id: str, rows: Sequence[UsageRow]
) -> dict[str, Counted]:
    """Return what is counted for those of the reservations that have a row."""
    found = await connection.fetch(
        _KNOWN, tenant_id, [row.hold.reservation_id for row in rows], Outcome.LOST.value
    )
    lost = {str(one["reservation_id"]) for one in found if one["lost"]}
    counted = {
        str(one["reservation_id"]): Counted(one["counted_tokens"], one["counted_micro_usd"])
        for one in found
    }
    # A sweep settled what was held for it. A sweep that writes it again settles that.
    for row in rows:
        reservation_id = row.hold.reservation_id
        if reservation_id in lost and row.record.outcome is not Outcome.LOST:
            counted[reservation_id] = NOTHING
    return counted


async def _insert_next(connection: Connection, row: UsageRow) -> UsageRow:
    """Insert a row whose number another request has, under the next one."""
    for _ in range(RENUMBERINGS):
        numbers = await connection.fetchrow(_NUMBERS, row.record.tenant_id, *_key(row.record))
        if numbers is None:
            break
        record = replace(
            row.record,
            number=numbers["last"] + 1,
            repeated_by_platform=row.record.repeated_by_platform or numbers["charged"],
        )
        numbered = _renamed(row, record)
        if await _insert(connection, [numbered]):
            return numbered
    raise Aborted("Others record requests of this call at the same time.")


def _renamed(row: UsageRow, record: UsageRecord) -> UsageRow:
    event = replace(row.event, data={**row.event.data, **_identity(record)})
    return replace(row, record=record, event=event)


def _key(record: UsageRecord) -> tuple[str, int, int, str]:
    attribution = record.attribution
    return attribution.task_id, attribution.step, attribution.attempt, record.operation.value


def _values(row: UsageRow) -> tuple[object, ...]:
    record, hold = row.record, row.hold
    usage = record.usage
    return (
        record.tenant_id,
        *_key(record),
        record.user_id,
        record.attribution.session_id,
        record.attribution.feature,
        record.model,
        record.deployment,
        record.provider,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.cost_micro_usd,
        usage.estimated,
        record.outcome.value,
        record.first_token_milliseconds,
        record.duration_milliseconds,
        record.number,
        record.repeated_by_platform,
        record.reason,
        hold.reservation_id,
        hold.day,
        hold.reserved_at_milliseconds,
        row.counted.tokens,
        row.counted.micro_usd,
    )


_INSERT: Final = """
INSERT INTO model_router.model_usage (
    tenant_id, task_id, step, attempt, operation, user_id, session_id, feature, model, deployment,
    provider, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd,
    estimated, outcome, first_token_milliseconds, duration_milliseconds, number,
    repeated_by_platform, reason, reservation_id, budget_day, reserved_at_milliseconds,
    counted_tokens, counted_micro_usd)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::boolean[], $18::text[], $19::bigint[], $20::bigint[],
    $21::integer[], $22::boolean[], $23::text[], $24::uuid[], $25::date[], $26::bigint[],
    $27::bigint[], $28::bigint[])
ON CONFLICT DO NOTHING
RETURNING reservation_id
"""

_KNOWN: Final = """
SELECT reservation_id, outcome = $3 AS lost, counted_tokens, counted_micro_usd
  FROM model_router.model_usage WHERE tenant_id = $1 AND reservation_id = ANY ($2::uuid[])
"""

_NUMBERS: Final = """
SELECT max(number) AS last,
       bool_or(outcome = 'completed' AND NOT repeated_by_platform) AS charged
  FROM model_router.model_usage
 WHERE tenant_id = $1 AND task_id = $2 AND step = $3 AND attempt = $4 AND operation = $5
HAVING count(*) > 0
"""


# What consumed nothing was not charged: the attempt after it is.
_CHARGED_BEFORE: Final = """
SELECT again.task_id::text, again.step, again.attempt, again.operation
  FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::text[])
       AS again (task_id, step, attempt, operation)
 WHERE EXISTS (
    SELECT FROM model_router.model_usage AS u
     WHERE u.tenant_id = $1 AND u.task_id = again.task_id AND u.step = again.step
       AND u.attempt < again.attempt AND u.operation = again.operation
       AND u.outcome <> 'lost' AND NOT u.repeated_by_platform
       AND (u.outcome = 'completed' OR u.completion_tokens > 0))
"""


def _identity(record: UsageRecord) -> dict[str, object]:
    return {"number": record.number, "repeated_by_platform": record.repeated_by_platform}


def _event(record: UsageRecord, counted: Counted) -> Event:
    usage, attribution = record.usage, record.attribution
    return Event.new(
        event_type=EVENT_TYPE,
        source=SOURCE,
        tenant_id=record.tenant_id,
        # Work of a service has no user: it is ordered by tenant.
        partition_key=record.user_id or record.tenant_id,
        correlation_id=record.correlation_id,
        data={
            "task_id": attribution.task_id,
            "step": attribution.step,
            "attempt": attribution.attempt,
            "user_id": record.user_id,
            "session_id": attribution.session_id,
            "feature": attribution.feature,
            "operation": record.operation.value,
            "model": record.model,
            "deployment": record.deployment,
            "provider": record.provider,
            # proto3 JSON writes 64-bit integers as strings.
            "prompt_tokens": str(usage.prompt_tokens),
            "completion_tokens": str(usage.completion_tokens),
            "cached_tokens": str(usage.cached_tokens),
            "reasoning_tokens": str(usage.reasoning_tokens),
            "cost_micro_usd": str(usage.cost_micro_usd),
            "estimated": usage.estimated,
            "outcome": record.outcome.value,
            "first_token_milliseconds": str(record.first_token_milliseconds),
            "duration_milliseconds": str(record.duration_milliseconds),
            **_identity(record),
            "reason": record.reason,
            "counted_tokens": str(counted.tokens),
            "counted_micro_usd": str(counted.micro_usd),
        },
    )
