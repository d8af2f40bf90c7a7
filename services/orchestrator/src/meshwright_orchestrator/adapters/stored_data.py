"""Everything that this service keeps of people."""

from typing import Final

from meshwright_common.erasure.rows import AnonymousRows, StoredRows, count_rows, patiently
from meshwright_common.erasure.stored import StoredData, Subject, in_batches
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work

TASKS_AT_ONCE: Final = 200
"""Each has a journal of its own."""


def stored_data(database: Database) -> tuple[StoredData, ...]:
    """Return the stores. Items of work queues name tasks: without its task, one is dropped."""
    return (
        StoredRows(database, "orchestrator.schedules", "created_by = $2"),
        Runs(database),
        Tasks(database),
        StoredRows(database, "orchestrator.workflow_requests", "subject = $2"),
        AnonymousRows(
            database, "orchestrator.workflow_versions", "created_by = $2", "created_by = ''"
        ),
        StoredRows(database, "orchestrator.workflows"),
        StoredRows(database, "orchestrator.agent_requests", "subject = $2"),
        AnonymousRows(
            database, "orchestrator.agent_versions", "created_by = $2", "created_by = ''"
        ),
        StoredRows(database, "orchestrator.agents"),
        StoredRows(database, "orchestrator.agent_assignments"),
        StoredRows(database, "orchestrator.agent_instances"),
        StoredRows(database, "orchestrator.remote_agents"),
    )


class Tasks:
    """Tasks with journals, transitions and questions, also those that run: their workers stop."""

    name = "orchestrator.tasks"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, subject: Subject) -> int:
        async def batch() -> int:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                await patiently(connection)
                return int(
                    await connection.fetchval(
                        "SELECT orchestrator.erase_tasks($1, $2)", subject.user_id, TASKS_AT_ONCE
                    )
                )

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            if subject.user_id:
                return await count_rows(
                    connection, "orchestrator.tasks WHERE tenant_id = $1 AND subject = $2", subject
                )
            return sum(
                [
                    await count_rows(connection, f"{one} WHERE tenant_id = $1", subject)
                    for one in _ALL
                ]
            )


_ALL: Final = (
    *("orchestrator.tasks", "orchestrator.steps", "orchestrator.transitions"),
    *("orchestrator.interrupts", "orchestrator.trees"),
)


class Runs:
    """Runs of workflows with their steps, also those that go on: whoever drives one stops."""

    name = "orchestrator.workflow_runs"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, subject: Subject) -> int:
        async def batch() -> int:
            async with unit_of_work(self._database, subject.tenant_id) as connection:
                await patiently(connection)
                return int(
                    await connection.fetchval(
                        "SELECT orchestrator.erase_runs($1, $2)", subject.user_id, TASKS_AT_ONCE
                    )
                )

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        of_user = "orchestrator.workflow_runs WHERE tenant_id = $1 AND subject = $2"
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            if subject.user_id:
                return await count_rows(connection, of_user, subject)
            counts = [
                await count_rows(connection, f"{one} WHERE tenant_id = $1", subject)
                for one in _OF_RUNS
            ]
        return sum(counts)


_OF_RUNS: Final = (
    "orchestrator.workflow_runs",
    "orchestrator.workflow_steps",
    "orchestrator.workflow_items",
    "orchestrator.workflow_transitions",
    "orchestrator.workflow_wakes",
)
