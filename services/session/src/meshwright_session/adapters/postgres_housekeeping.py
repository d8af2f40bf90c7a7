"""What keeps the tables in shape: months made ahead of time, old records of requests dropped."""

from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped


class PostgresHousekeeping:
    """`Housekeeping` by the functions that the migrations made for it."""

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
