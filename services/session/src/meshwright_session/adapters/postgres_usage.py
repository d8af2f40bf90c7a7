"""The usage ledger and its daily sums in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.usage_models import (
    LedgerPosition,
    Period,
    SumPosition,
    Tokens,
    UsageDimension,
    UsageRow,
    UsageSum,
)

_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
_BEGINNING_OF_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresUsageLedger:
    """`UsageLedger` inside an open transaction of the row's tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, row: UsageRow) -> bool:
        return await self._insert([row]) == 1

    async def record_all(self, rows: Sequence[UsageRow]) -> None:
        await self._insert(rows)

    async def _insert(self, rows: Sequence[UsageRow]) -> int:
        """Write the rows that are new, in one statement; return how many."""
        columns = zip(*map(usage_values, rows), strict=True)
        return int(await self._connection.fetchval(_RECORD, rows[0].tenant_id, *columns))


class PostgresUsageReader:
    """`UsageReader` on the tables `usage_ledger` and `usage_daily`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(
        self,
        tenant_id: str,
        user_id: str | None,
        period: Period,
        group_by: frozenset[UsageDimension],
        after: SumPosition | None,
        limit: int,
    ) -> Sequence[UsageSum]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _SUMS,
                tenant_id,
                user_id,
                period.first_day,
                period.end_day,
                period.start,
                period.head_end,
                period.tail_start,
                period.end,
                "day" in group_by,
                "user" in group_by,
                "model" in group_by,
                "feature" in group_by,
                after is None,
                *(after or ("", "", "", "")),
                limit,
            )
        return [
            UsageSum(
                day=row["day"],
                user_id=row["user_id"],
                model=row["model"],
                feature=row["feature"],
                call_count=row["call_count"],
                tokens=_tokens(row),
            )
            for row in rows
        ]

    async def rows(
        self,
        tenant_id: str,
        user_id: str | None,
        start: datetime | None,
        end: datetime,
        after: LedgerPosition | None,
        limit: int,
    ) -> Sequence[UsageRow]:
        start = start or _BEGINNING_OF_TIME
        after = after or LedgerPosition(start, _FIRST_ID)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_ROWS, tenant_id, user_id, start, end, *after, limit)
        return [usage_row(row) for row in rows]


def usage_values(row: UsageRow) -> tuple[object, ...]:
    """Return a row's values but its tenant, in the order in which they are written."""
    tokens = row.tokens
    return (
        row.task_id,
        row.step,
        row.attempt,
        row.operation,
        row.event_id,
        row.time,
        row.user_id,
        row.session_id,
        row.feature,
        row.model,
        row.deployment,
        row.provider,
        row.outcome,
        tokens.prompt,
        tokens.completion,
        tokens.cached,
        tokens.reasoning,
        tokens.cost_micro_usd,
        tokens.estimated,
        row.first_token_milliseconds,
        row.duration_milliseconds,
        row.counted_tokens,
        row.counted_micro_usd,
        row.number,
        row.repeated_by_platform,
        row.reason,
    )


def usage_row(row: Record) -> UsageRow:
    """Return the ledger row that columns of its names hold."""
    tokens = _tokens(row)
    return UsageRow(
        tenant_id=row["tenant_id"],
        event_id=row["event_id"],
        time=row["time"],
        user_id=row["user_id"],
        session_id=row["session_id"],
        feature=row["feature"],
        operation=row["operation"],
        model=row["model"],
        deployment=row["deployment"],
        provider=row["provider"],
        outcome=row["outcome"],
        task_id=row["task_id"],
        step=row["step"],
        attempt=row["attempt"],
        tokens=tokens,
        first_token_milliseconds=row["first_token_milliseconds"],
        duration_milliseconds=row["duration_milliseconds"],
        counted_tokens=_counted(row["counted_tokens"], tokens.prompt + tokens.completion),
        counted_micro_usd=_counted(row["counted_micro_usd"], tokens.cost_micro_usd),
        number=row["number"],
        repeated_by_platform=row["repeated_by_platform"],
        reason=row["reason"],
    )


def _counted(told: int | None, consumed: int) -> int:
    """Return what budgets count: rows of before there were budgets tell nothing."""
    return consumed if told is None else told


def _tokens(row: Record) -> Tokens:
    return Tokens(
        prompt=row["prompt_tokens"],
        completion=row["completion_tokens"],
        cached=row["cached_tokens"],
        reasoning=row["reasoning_tokens"],
        cost_micro_usd=row["cost_micro_usd"],
        estimated=row["estimated"],
    )


# Sums are sorted, so that two writers lock them in the same order.
_RECORD: Final = """
WITH reported AS MATERIALIZED (
    SELECT *
      FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::uuid[],
                  $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                  $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[],
                  $18::bigint[], $19::bigint[], $20::boolean[], $21::bigint[], $22::bigint[],
                  $23::bigint[], $24::bigint[], $25::integer[], $26::boolean[], $27::text[])
        AS r (task_id, step, attempt, operation, event_id, reported_time, user_id, session_id,
              feature, model, deployment, provider, outcome, prompt_tokens, completion_tokens,
              cached_tokens, reasoning_tokens, cost_micro_usd, estimated,
              first_token_milliseconds, duration_milliseconds, counted_tokens, counted_micro_usd,
              number, repeated_by_platform, reason)
), call AS (
    INSERT INTO usage_calls (tenant_id, task_id, step, attempt, operation, number, event_id)
    SELECT $1, task_id, step, attempt, operation, number, event_id FROM reported
    ON CONFLICT DO NOTHING
    RETURNING task_id, step, attempt, operation, number, event_id
), new AS (
    SELECT least(reported_time, clock_timestamp()) AS time,
           (NOT repeated_by_platform AND outcome <> 'lost')::integer AS charged, r.*
      FROM reported r JOIN call USING (event_id, task_id, step, attempt, operation, number)
), ledger AS (
    INSERT INTO usage_ledger
           (tenant_id, time, event_id, user_id, session_id, feature, operation, model, deployment,
            provider, outcome, task_id, step, attempt, prompt_tokens, completion_tokens,
            cached_tokens, reasoning_tokens, cost_micro_usd, estimated,
            first_token_milliseconds, duration_milliseconds, counted_tokens, counted_micro_usd,
            number, repeated_by_platform, reason)
    SELECT $1, time, event_id, user_id, session_id, feature, operation, model, deployment,
           provider, outcome, task_id, step, attempt, prompt_tokens, completion_tokens,
           cached_tokens, reasoning_tokens, cost_micro_usd, estimated,
           first_token_milliseconds, duration_milliseconds, counted_tokens, counted_micro_usd,
           number, repeated_by_platform, reason
      FROM new
), daily AS (
    INSERT INTO usage_daily AS d
           (tenant_id, day, user_id, model, feature, call_count, estimated_count, prompt_tokens,
            completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd, counted_tokens,
            counted_micro_usd)
    SELECT $1, (time AT TIME ZONE 'UTC')::date AS day, user_id, model, feature, sum(charged),
           sum(charged * estimated::integer), sum(charged * prompt_tokens),
           sum(charged * completion_tokens), sum(charged * cached_tokens),
           sum(charged * reasoning_tokens), sum(charged * cost_micro_usd), sum(counted_tokens),
           sum(counted_micro_usd)
      FROM new
     GROUP BY day, user_id, model, feature
     ORDER BY day, user_id, model, feature
    ON CONFLICT (tenant_id, day, user_id, model, feature) DO UPDATE
       SET call_count = d.call_count + excluded.call_count,
           estimated_count = d.estimated_count + excluded.estimated_count,
           prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
           completion_tokens = d.completion_tokens + excluded.completion_tokens,
           cached_tokens = d.cached_tokens + excluded.cached_tokens,
           reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
           cost_micro_usd = d.cost_micro_usd + excluded.cost_micro_usd,
           counted_tokens = d.counted_tokens + excluded.counted_tokens,
           counted_micro_usd = d.counted_micro_usd + excluded.counted_micro_usd
)
SELECT count(*) FROM call
"""

CHARGED: Final = "NOT repeated_by_platform AND outcome <> 'lost'"
"""Which rows of the ledger are charged."""

# Whole days from the sums, the rest of the period from the ledger.
_SUMS: Final = f"""
WITH parts AS (
    SELECT day, user_id, model, feature, call_count, estimated_count, prompt_tokens,
           completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd
      FROM usage_daily
     WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) AND day >= $3 AND day < $4
       AND call_count > 0
    UNION ALL
    SELECT (time AT TIME ZONE 'UTC')::date, user_id, model, feature, 1, estimated::integer,
           prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd
      FROM usage_ledger
     WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) AND time >= $5 AND time < $6
       AND {CHARGED}
    UNION ALL
    SELECT (time AT TIME ZONE 'UTC')::date, user_id, model, feature, 1, estimated::integer,
           prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd
      FROM usage_ledger
     WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) AND time >= $7 AND time < $8
       AND {CHARGED}
), sums AS (
    SELECT CASE WHEN $9 THEN to_char(day, 'YYYY-MM-DD') ELSE '' END AS day,
           CASE WHEN $10 THEN user_id ELSE '' END AS user_id,
           CASE WHEN $11 THEN model ELSE '' END AS model,
           CASE WHEN $12 THEN feature ELSE '' END AS feature,
           sum(call_count)::bigint AS call_count,
           sum(estimated_count) > 0 AS estimated,
           sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens,
           sum(cached_tokens)::bigint AS cached_tokens,
           sum(reasoning_tokens)::bigint AS reasoning_tokens,
           sum(cost_micro_usd)::bigint AS cost_micro_usd
      FROM parts
     GROUP BY 1, 2, 3, 4
)
SELECT * FROM sums
 WHERE $13 OR (day, user_id, model, feature) > ($14, $15, $16, $17)
 ORDER BY day, user_id, model, feature
 LIMIT $18
"""  # noqa: S608 - a part of ours

_ROWS: Final = """
SELECT * FROM usage_ledger
 WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2)
   AND time >= $3 AND time < $4 AND (time, event_id) > ($5, $6)
 ORDER BY time, event_id
 LIMIT $7
"""
