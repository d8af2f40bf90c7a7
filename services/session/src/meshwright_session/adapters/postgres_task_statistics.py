"""How tasks ended, by day, in PostgreSQL."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.task_statistics import (
    StatisticsPosition,
    TaskEnd,
    TaskStatistics,
)


class PostgresTaskCounter:
    """`TaskCounter` inside an open transaction of the tasks' tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def count(self, ends: Sequence[TaskEnd]) -> None:
        if not ends:
            return
        rows = [
            (
                one.tenant_id,
                one.time,
                one.user_id,
                one.agent,
                one.state,
                one.total_tokens,
                one.cost_micro_usd,
                one.duration_milliseconds,
            )
            for one in ends
        ]
        # One update for each of few rows, which would otherwise die once for each event.
        await self._connection.execute(_COUNT, *zip(*rows, strict=True))


class PostgresTaskStatistics:
    """`TaskStatisticsReader` on the table `task_daily`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_day(
        self,
        tenant_id: str,
        user_id: str | None,
        first_day: date,
        last_day: date,
        after: StatisticsPosition | None,
        limit: int,
    ) -> Sequence[TaskStatistics]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _BY_DAY,
                tenant_id,
                user_id,
                first_day,
                last_day,
                after is None,
                *(after or ("", "", "")),
                limit,
            )
        return [
            TaskStatistics(
                day=row["day"],
                agent=row["agent"],
                state=row["state"],
                task_count=row["task_count"],
                total_tokens=row["total_tokens"],
                cost_micro_usd=row["cost_micro_usd"],
                duration_milliseconds=row["duration_milliseconds"],
            )
            for row in rows
        ]


_COUNT: Final = """
INSERT INTO task_daily AS d
       (tenant_id, day, user_id, agent, state, task_count, total_tokens, cost_micro_usd,
        duration_milliseconds)
SELECT e.tenant_id, (least(e.ended, clock_timestamp()) AT TIME ZONE 'UTC')::date, e.user_id,
       e.agent, e.state, count(*), sum(e.tokens)::bigint, sum(e.cost)::bigint,
       sum(e.milliseconds)::bigint
  FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[],
              $7::bigint[], $8::bigint[])
       AS e (tenant_id, ended, user_id, agent, state, tokens, cost, milliseconds)
 GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (tenant_id, day, user_id, agent, state) DO UPDATE
   SET task_count = d.task_count + excluded.task_count,
       total_tokens = d.total_tokens + excluded.total_tokens,
       cost_micro_usd = d.cost_micro_usd + excluded.cost_micro_usd,
       duration_milliseconds = d.duration_milliseconds + excluded.duration_milliseconds
"""

_BY_DAY: Final = """
WITH sums AS (
    SELECT to_char(day, 'YYYY-MM-DD') AS day, agent, state,
           sum(task_count)::bigint AS task_count,
           sum(total_tokens)::bigint AS total_tokens,
           sum(cost_micro_usd)::bigint AS cost_micro_usd,
           sum(duration_milliseconds)::bigint AS duration_milliseconds
      FROM task_daily
     WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) AND day BETWEEN $3 AND $4
     GROUP BY 1, 2, 3
)
SELECT * FROM sums
 WHERE $5 OR (day, agent, state) > ($6, $7, $8)
 ORDER BY day, agent, state
 LIMIT $9
"""
