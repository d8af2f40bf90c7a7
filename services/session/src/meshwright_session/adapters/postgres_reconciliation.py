"""The usage ledger beside the events it is fed by, compared in PostgreSQL.

As the owner of the tables, which sees all tenants. The events go into a temporary table of the
connection: a month of them is compared without being in memory.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from meshwright_common.storage.postgres import Connection, Record
from meshwright_session.adapters.postgres_usage import CHARGED, usage_row, usage_values
from meshwright_session.domain.kept_copies import NOBODY
from meshwright_session.domain.usage_models import UsageRow
from meshwright_session.domain.usage_reconciliation import (
    MOST_SHOWN,
    Difference,
    DifferenceKind,
    Reconciled,
    ReconciledPeriod,
)


class ToldUsage:
    """Events in a temporary table beside the ledger. Made by `open`, removed by `close`."""

    def __init__(self, connection: Connection, period: ReconciledPeriod) -> None:
        self._connection = connection
        self._period = period

    async def open(self) -> None:
        """Make the table, empty."""
        await self._connection.execute(_TABLE)

    async def close(self) -> None:
        """Remove it."""
        await self._connection.execute("DROP TABLE IF EXISTS told")

    async def add(self, rows: Sequence[tuple[UsageRow, datetime]]) -> None:
        """Add what events tell, and when the log took them; one told already changes nothing."""
        if rows:
            values = [(row.tenant_id, logged_at, *usage_values(row)) for row, logged_at in rows]
            await self._connection.execute(_ADD, *zip(*values, strict=True))

    async def compare(self, consumer: str, events_since: datetime | None) -> Reconciled:
        """Compare all of it. The log goes back to `events_since`; None: it has no events."""
        # What an erased tenant consumed is in no ledger any more, and missing nowhere.
        await self._connection.execute(_LEAVE_OUT_ERASED)
        await self._connection.execute("ANALYZE told")
        done = Reconciled(events_since=events_since)
        kept_since = await self._connection.fetchval(_KEPT_SINCE)
        since = max(self._period.since, kept_since)
        scope = (self._period.tenant_id, since, self._period.until)
        [counted] = await self._connection.fetch(_COUNTED, *scope)
        done.events, done.rows, done.days = counted["events"], counted["rows"], counted["days"]
        await self._unmatched(done, consumer, scope)
        await self._find(done, "in the ledger twice", _TWICE, *scope)
        if events_since is not None:
            checked = (self._period.tenant_id, max(since, events_since), self._period.until)
            await self._find(done, "without event", _WITHOUT_EVENT, *checked, NOBODY)
        await self._find(done, "differs", _DIFFERS, *scope, NOBODY)
        await self._find(done, "sums", _SUMS, *scope)
        return done

    async def missing(self, consumer: str) -> Mapping[str, Sequence[str]]:
        """Return by tenant the events that the consumer has handled and the ledger lacks."""
        scope = (self._period.tenant_id, self._period.since, self._period.until)
        found: dict[str, list[str]] = {}
        for row in await self._unmatched_rows(consumer, scope):
            if row["state"] == "missing":
                found.setdefault(row["tenant_id"], []).append(row["event_id"])
        return found

    async def rows(self, tenant_id: str, event_ids: Sequence[str]) -> Sequence[UsageRow]:
        """Return what these events tell."""
        rows = await self._connection.fetch(_TOLD, tenant_id, list(event_ids))
        return [usage_row(row) for row in rows]

    async def _unmatched(self, done: Reconciled, consumer: str, scope: tuple[object, ...]) -> None:
        kinds: dict[str, list[Record]] = {}
        for row in await self._unmatched_rows(consumer, scope):
            kinds.setdefault(row["state"], []).append(row)
        done.repeated = len(kinds.get("repeated", ()))
        done.waiting = len(kinds.get("waiting", ()))
        wanted: tuple[DifferenceKind, ...] = ("missing", "given up")
        for kind in wanted:
            found = kinds.get(kind, [])
            done.add(kind, [_difference(kind, row) for row in found[:MOST_SHOWN]], len(found))

    async def _unmatched_rows(self, consumer: str, scope: tuple[object, ...]) -> Sequence[Record]:
        rows = await self._connection.fetch(_UNMATCHED, *scope, consumer)
        # Dated far in the future by their reporters, they are in the ledger at another time.
        noted = [row["event_id"] for row in rows if row["noted"]]
        elsewhere: set[str] = set()
        if noted:
            tenants = sorted({row["tenant_id"] for row in rows if row["noted"]})
            kept = await self._connection.fetch(_ELSEWHERE, tenants, noted)
            elsewhere = {row["event_id"] for row in kept}
        return [row for row in rows if row["event_id"] not in elsewhere]

    async def _find(
        self, done: Reconciled, kind: DifferenceKind, statement: str, *arguments: object
    ) -> None:
        rows = await self._connection.fetch(_FIRST.format(statement=statement), *arguments)
        count = rows[0]["found"] if rows else 0
        done.add(kind, [_difference(kind, row) for row in rows], count)


async def forget_calls(connection: Connection, tenant_id: str, event_ids: Sequence[str]) -> None:
    """Forget that the ledger has the calls of these events, where it does not."""
    await connection.execute(_FORGET, tenant_id, list(event_ids))


async def sum_up(connection: Connection, tenant_id: str, days: Sequence[date]) -> None:
    """Make the sums of days anew from the rows. Who adds rows waits until the transaction ends."""
    await connection.execute("LOCK TABLE usage_daily IN SHARE ROW EXCLUSIVE MODE")
    await connection.execute(_REMOVE_SUMS, tenant_id, list(days))
    await connection.execute(_ADD_SUMS, tenant_id, list(days))


def _difference(kind: DifferenceKind, row: Record) -> Difference:
    known = dict(row.items())
    call = ""
    if known.get("task_id"):
        call = f"{row['task_id']}/{row['step']}/{row['attempt']} {row['operation']}"
    return Difference(
        kind=kind,
        tenant_id=row["tenant_id"],
        day=row["day"],
        event_id=known.get("event_id") or "",
        call=call,
        what=known.get("what") or "",
    )


_TABLE: Final = """
CREATE TEMPORARY TABLE told (
    tenant_id uuid, logged_at timestamptz, task_id text, step integer, attempt integer,
    operation text, event_id uuid, time timestamptz, user_id text, session_id text, feature text,
    model text, deployment text, provider text, outcome text, prompt_tokens bigint,
    completion_tokens bigint, cached_tokens bigint, reasoning_tokens bigint, cost_micro_usd bigint,
    estimated boolean, first_token_milliseconds bigint, duration_milliseconds bigint,
    counted_tokens bigint, counted_micro_usd bigint, number integer, repeated_by_platform boolean,
    reason text,
    PRIMARY KEY (tenant_id, event_id)
)
"""
_LEAVE_OUT_ERASED: Final = """
DELETE FROM told AS t USING erasures AS e WHERE e.tenant_id = t.tenant_id AND e.user_id IS NULL
"""
_ADD: Final = """
INSERT INTO told
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::integer[], $5::integer[],
                     $6::text[], $7::uuid[], $8::timestamptz[], $9::text[], $10::text[],
                     $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                     $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[],
                     $21::boolean[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[],
                     $26::integer[], $27::boolean[], $28::text[])
ON CONFLICT (tenant_id, event_id) DO NOTHING
"""

# Sums of days stay when the months of their rows are dropped.
_KEPT_SINCE: Final = """
SELECT coalesce(CASE WHEN NOT bool_or(starts IS NULL) THEN min(starts) END, 'epoch')
  FROM months_of('usage_ledger')
"""
_FIRST: Final = f"""
SELECT *, count(*) OVER () AS found FROM ({{statement}}) AS differences LIMIT {MOST_SHOWN}
"""  # noqa: S608 - statements of ours
_TOLD: Final = "SELECT * FROM told WHERE tenant_id = $1 AND event_id = ANY ($2::uuid[])"
_IN_PERIOD: Final = """
 ($1::uuid IS NULL OR l.tenant_id = $1) AND l.time >= $2 AND l.time < $3
"""
_COUNTED: Final = f"""
SELECT count(*) AS rows,
       count(DISTINCT (l.tenant_id, (l.time AT TIME ZONE 'UTC')::date)) AS days,
       (SELECT count(*) FROM told t WHERE t.time >= $2 AND t.time < $3) AS events
  FROM usage_ledger l WHERE {_IN_PERIOD}
"""  # noqa: S608 - parts of ours

# A row is dated as its event, or earlier when that is dated after it was logged.
_OWN_ROW: Final = """
 l.tenant_id = t.tenant_id AND l.event_id = t.event_id
 AND l.time >= $2::timestamptz - interval '1 day' AND l.time < $3::timestamptz + interval '1 day'
"""
_UNMATCHED: Final = f"""
WITH unmatched AS MATERIALIZED (
    SELECT t.* FROM told t LEFT JOIN usage_ledger l ON {_OWN_ROW}
     WHERE l.event_id IS NULL AND t.time >= $2 AND t.time < $3
       AND ($1::uuid IS NULL OR t.tenant_id = $1)
)
SELECT t.tenant_id, t.event_id, (t.time AT TIME ZONE 'UTC')::date AS day, t.task_id, t.step,
       t.attempt, t.operation,
       EXISTS (SELECT FROM usage_calls c
                WHERE c.tenant_id = t.tenant_id AND c.event_id = t.event_id) AS noted,
       CASE WHEN c.event_id IS NOT NULL THEN 'repeated'
            WHEN d.event_id IS NOT NULL THEN 'given up'
            WHEN i.event_id IS NOT NULL THEN 'missing'
            ELSE 'waiting' END AS state
  FROM unmatched t
  LEFT JOIN usage_calls c
    ON c.tenant_id = t.tenant_id AND c.task_id = t.task_id AND c.step = t.step
   AND c.attempt = t.attempt AND c.operation = t.operation AND c.number = t.number
   AND c.event_id <> t.event_id
  LEFT JOIN events.dead_letters d
    ON d.tenant_id = t.tenant_id AND d.consumer = $4 AND d.event_id = t.event_id
  LEFT JOIN events.inbox i ON i.consumer = $4 AND i.event_id = t.event_id
 ORDER BY t.tenant_id, t.time
"""  # noqa: S608 - parts of ours
_ELSEWHERE: Final = """
SELECT event_id FROM usage_ledger
 WHERE tenant_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
"""
_TWICE: Final = f"""
SELECT l.tenant_id, min((l.time AT TIME ZONE 'UTC')::date) AS day,
       min(l.event_id::text) AS event_id, l.task_id, l.step, l.attempt, l.operation,
       count(*) || ' rows' AS what
  FROM usage_ledger l WHERE {_IN_PERIOD}
 GROUP BY l.tenant_id, l.task_id, l.step, l.attempt, l.operation, l.number
HAVING count(*) > 1
 ORDER BY l.tenant_id, day
"""  # noqa: S608 - parts of ours
# Whoever was erased is nobody in the ledger; the events are erased too, or name who it was.
_WITHOUT_EVENT: Final = f"""
SELECT l.tenant_id, (l.time AT TIME ZONE 'UTC')::date AS day, l.event_id, l.task_id, l.step,
       l.attempt, l.operation
  FROM usage_ledger l
  LEFT JOIN told t ON t.tenant_id = l.tenant_id AND t.event_id = l.event_id
 WHERE {_IN_PERIOD} AND t.event_id IS NULL AND l.user_id <> $4
 ORDER BY l.tenant_id, l.time
"""  # noqa: S608 - parts of ours
_FIGURES: Final = (
    *("feature", "operation", "model", "deployment", "provider"),
    *("outcome", "task_id", "step", "attempt", "prompt_tokens", "completion_tokens"),
    *("cached_tokens", "reasoning_tokens", "cost_micro_usd", "estimated"),
    *("first_token_milliseconds", "duration_milliseconds"),
    *("number", "repeated_by_platform", "reason", "counted_tokens", "counted_micro_usd"),
)

_DIFFERENT: Final = ", ".join(
    f"CASE WHEN l.{name} <> t.{name} THEN '{name} ' || l.{name} || ' is not ' || t.{name} END"
    for name in _FIGURES
)
_DIFFERS: Final = f"""
SELECT t.tenant_id, (l.time AT TIME ZONE 'UTC')::date AS day, t.event_id, t.task_id, t.step,
       t.attempt, t.operation, f.what
  FROM told t JOIN usage_ledger l ON {_OWN_ROW},
       LATERAL (SELECT concat_ws(', ', {_DIFFERENT},
           CASE WHEN l.user_id NOT IN (t.user_id, $4)
                THEN 'user_id ' || l.user_id || ' is not ' || t.user_id END,
           CASE WHEN l.session_id <> t.session_id AND l.user_id <> $4
                THEN 'session_id ' || l.session_id || ' is not ' || t.session_id END,
           CASE WHEN l.time <> t.time AND NOT (l.time < t.time AND t.time > t.logged_at)
                THEN 'time ' || l.time || ' is not ' || t.time END) AS what) f
 WHERE {_IN_PERIOD} AND f.what <> ''
 ORDER BY t.tenant_id, l.time
"""  # noqa: S608 - parts of ours
_SUMS_OF: Final = (
    *("call_count", "estimated_count", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("reasoning_tokens", "cost_micro_usd", "counted_tokens", "counted_micro_usd"),
)
_CHARGED: Final = f"({CHARGED})::integer"
_OTHER_SUMS: Final = ", ".join(
    f"CASE WHEN coalesce(d.{name}, 0) <> coalesce(s.{name}, 0) THEN '{name} '"
    f" || coalesce(d.{name}, 0) || ' is not ' || coalesce(s.{name}, 0) END"
    for name in _SUMS_OF
)
# What is not charged is counted by budgets alone.
_SUMMED: Final = f"""
           sum({_CHARGED}) AS call_count, sum({_CHARGED} * estimated::integer) AS estimated_count,
           sum({_CHARGED} * prompt_tokens) AS prompt_tokens,
           sum({_CHARGED} * completion_tokens) AS completion_tokens,
           sum({_CHARGED} * cached_tokens) AS cached_tokens,
           sum({_CHARGED} * reasoning_tokens) AS reasoning_tokens,
           sum({_CHARGED} * cost_micro_usd) AS cost_micro_usd,
           sum(coalesce(counted_tokens, prompt_tokens + completion_tokens)) AS counted_tokens,
           sum(coalesce(counted_micro_usd, cost_micro_usd)) AS counted_micro_usd
"""
_SUMS: Final = f"""
WITH summed AS (
    SELECT l.tenant_id, (l.time AT TIME ZONE 'UTC')::date AS day, l.user_id, l.model, l.feature,
           {_SUMMED}
      FROM usage_ledger l WHERE {_IN_PERIOD}
     GROUP BY 1, 2, 3, 4, 5
), noted AS (
    SELECT * FROM usage_daily
     WHERE ($1::uuid IS NULL OR tenant_id = $1)
       AND day >= ($2::timestamptz AT TIME ZONE 'UTC')::date
       AND day < ($3::timestamptz AT TIME ZONE 'UTC')::date
)
SELECT tenant_id, day, concat_ws(' ', user_id, model, feature) || ': ' || f.what AS what
  FROM summed s FULL JOIN noted d USING (tenant_id, day, user_id, model, feature),
       LATERAL (SELECT concat_ws(', ', {_OTHER_SUMS}) AS what) f
 WHERE f.what <> ''
 ORDER BY tenant_id, day, what
"""  # noqa: S608 - parts of ours

_FORGET: Final = """
DELETE FROM usage_calls c
 WHERE c.tenant_id = $1 AND c.event_id = ANY ($2::uuid[])
   AND NOT EXISTS (SELECT FROM usage_ledger l
                    WHERE l.tenant_id = $1 AND l.event_id = c.event_id)
"""
_REMOVE_SUMS: Final = "DELETE FROM usage_daily WHERE tenant_id = $1 AND day = ANY ($2::date[])"
_ADD_SUMS: Final = f"""
INSERT INTO usage_daily (tenant_id, day, user_id, model, feature, call_count, estimated_count,
                         prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens,
                         cost_micro_usd, counted_tokens, counted_micro_usd)
SELECT $1, wanted.day, user_id, model, feature, {_SUMMED}
  FROM unnest($2::date[]) AS wanted (day)
  JOIN usage_ledger ON tenant_id = $1
   AND time >= wanted.day::timestamp AT TIME ZONE 'UTC'
   AND time < (wanted.day + 1)::timestamp AT TIME ZONE 'UTC'
 GROUP BY wanted.day, user_id, model, feature
"""  # noqa: S608 - parts of ours
