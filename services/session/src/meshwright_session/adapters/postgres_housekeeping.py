"""What keeps the tables in shape: months made ahead of time and dropped, old records pruned."""

from collections.abc import Sequence

from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped
from meshwright_session.domain.models import Owner
from meshwright_session.domain.retention import ExpiredSession, MonthlyTable


class PostgresHousekeeping:
    """`Housekeeping` and `RetentionStore` by the functions that the migrations made for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make_partitions(self, months_ahead: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT make_partitions($1)", months_ahead))

    async def prune_requests(self, hours: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_requests($1)", hours))

    async def prune_notifications(self, days: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_notifications($1)", days))

    async def prune_webhook_deliveries(self, days: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_webhook_deliveries($1)", days))

    async def prune_erasures(self, days: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_erasures($1)", days))

    async def drop_month(self, table: MonthlyTable, months: int) -> str | None:
        async with unscoped(self._database) as connection:
            dropped = await connection.fetchval("SELECT drop_month($1, $2)", table, months)
        return None if dropped is None else str(dropped)

    async def prune_turn_commits(self, months: int, limit: int) -> int:
        async with unscoped(self._database) as connection:
            return int(
                await connection.fetchval("SELECT prune_turn_commits($1, $2)", months, limit)
            )

    async def prune_usage_calls(self, months: int, limit: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_usage_calls($1, $2)", months, limit))

    async def expired_sessions(self, months: int, limit: int) -> Sequence[ExpiredSession]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM find_expired_sessions($1, $2)", months, limit
            )
        return [
            ExpiredSession(
                Owner(row["tenant_id"], row["user_id"]), row["session_id"], row["update_time"]
            )
            for row in rows
        ]
