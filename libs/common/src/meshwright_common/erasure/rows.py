"""Rows of a table, as a store that can forget."""

from __future__ import annotations

from typing import Final

from meshwright_common.erasure.stored import BATCH, Subject, in_batches
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work

STATEMENT_SECONDS: Final = 20
"""For a batch: where no index leads to a user's rows, it reads the tenant's."""
_PLACE: Final = (
    "t.tenant_id = $1 AND t.ctid = ANY (ARRAY(SELECT place FROM found))"
    " AND (t.tableoid, t.ctid) IN (SELECT part, place FROM found)"
)
"""The array is what leads to the rows: a join would read all of the tenant's for each batch."""
MOST_COUNTED: Final = 10_000
"""A look stops counting here: more is only more to do."""


class StoredRows:
    """`StoredData` on one table with `tenant_id`, whose owner is `database`'s role or lets it.

    `of_user` is the condition that makes a row one of user `$2`, such as "subject = $2"; empty: no
    row is of a user. `of_tenant` leaves out rows of a tenant that stay. Names and conditions are
    constants of the service, never foreign text.
    """

    def __init__(
        self, database: Database, table: str, of_user: str = "", *, of_tenant: str = "true"
    ) -> None:
        self.name = table
        self._database = database
        self._table = table
        self._of_user = of_user
        self._of_tenant = of_tenant

    async def erase(self, subject: Subject) -> int:
        condition = self._condition(subject)
        if not condition:
            return 0
        # Through a row's place: a table may have partitions, and needs no other key for this.
        found = (
            f"SELECT tableoid AS part, ctid AS place FROM {self._table}"  # noqa: S608 - constants of the service
            f" WHERE tenant_id = $1 AND {condition} LIMIT {BATCH} FOR UPDATE SKIP LOCKED"
        )
        statement = self._statement(subject, found)

        async def batch() -> int:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                await patiently(connection)
                return affected(
                    await connection.execute(
                        statement, *arguments(subject), timeout=STATEMENT_SECONDS + 2
                    )
                )

        return await in_batches(batch)

    def _statement(self, subject: Subject, found: str) -> str:
        """Return the statement on the rows whose places the query `found` returns."""
        return (
            f"WITH found AS MATERIALIZED ({found})"  # noqa: S608 - as above
            f" DELETE FROM {self._table} AS t WHERE {_PLACE}"
        )

    async def remaining(self, subject: Subject) -> int:
        condition = self._condition(subject)
        if not condition:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            return await count_rows(
                connection, f"{self._table} WHERE tenant_id = $1 AND {condition}", subject
            )

    def _condition(self, subject: Subject) -> str:
        return self._of_user if subject.user_id else self._of_tenant


class AnonymousRows(StoredRows):
    """`StoredData` on rows that stay when their user goes, without a word of whose they were.

    `assignments` make them nobody's: then `of_user` holds for them no more. Of a tenant, they go.
    """

    def __init__(self, database: Database, table: str, of_user: str, assignments: str) -> None:
        super().__init__(database, table, of_user)
        self._assignments = assignments

    def _statement(self, subject: Subject, found: str) -> str:
        if not subject.user_id:
            return super()._statement(subject, found)
        return (
            f"WITH found AS MATERIALIZED ({found})"  # noqa: S608 - as above
            f" UPDATE {self._table} AS t SET {self._assignments} WHERE {_PLACE}"
        )


async def count_rows(connection: Connection, source: str, subject: Subject) -> int:
    """Return how many rows `source` has, a FROM clause of constants, counted to MOST_COUNTED."""
    await patiently(connection)
    counted = await connection.fetchval(
        f"SELECT count(*) FROM (SELECT FROM {source} LIMIT {MOST_COUNTED}) AS counted",  # noqa: S608
        *arguments(subject),
        timeout=STATEMENT_SECONDS + 2,
    )
    return int(counted)


async def patiently(connection: Connection) -> None:
    """Let statements of the open transaction take STATEMENT_SECONDS."""
    await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")


def arguments(subject: Subject) -> tuple[str, ...]:
    """Return the parameters of a statement about a subject: `$1`, and for a user `$2`."""
    return (subject.tenant_id, subject.user_id) if subject.user_id else (subject.tenant_id,)


def affected(status: str) -> int:
    """Return how many rows a statement changed, from what the server says of it."""
    return int(status.rpartition(" ")[2])
