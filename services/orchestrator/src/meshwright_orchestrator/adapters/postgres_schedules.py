"""The stored schedules in PostgreSQL, whose clock counts.

A decision is written by compare-and-set on the firing that it is about, and its run in the same
transaction: of any number of processes that come to the same decision one commits it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from meshwright_common import context
from meshwright_common.context import CallContext, service_context
from meshwright_common.encryption import KeyRing, SealedJson, TenantKeys
from meshwright_common.errors import FailedPrecondition
from meshwright_common.events import audit
from meshwright_common.events.notification import Notice, tell
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.schedule_rows import (
    COLUMNS,
    SCHEDULES,
    digest_of,
    schedule_from,
    target_record,
    timing_columns,
)
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.errors import RequestIdReused
from meshwright_orchestrator.domain.schedules import (
    Decision,
    Look,
    NewSchedule,
    Run,
    Schedule,
    ScheduleExists,
    ScheduleNotFound,
    TaskRun,
    TooManySchedules,
    UserGone,
    WorkflowStart,
    WorkflowTarget,
)

WAIT_SECONDS: Final = 2.0
"""How often a firing that waits for the run before looks whether that has ended."""


class WorkflowRuns(Protocol):
    """The stored runs of workflows, in an open transaction of their tenant."""

    async def start_on(self, connection: Connection, keys: TenantKeys, start: WorkflowStart) -> str:
        """Store a run of the newest version, once for its run_id. Returns the run_id.

        Raises: NotFound (WORKFLOW_NOT_FOUND).
        """
        ...

    async def is_final(self, connection: Connection, tenant_id: str, run_id: str) -> bool:
        """Return whether the run has ended, or is there no more."""
        ...


class PostgresSchedules:
    """Schedules: see the port. `most`: how many a tenant may have."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        tasks: PostgresTasks,
        workflows: WorkflowRuns | None = None,
        *,
        most: int,
    ) -> None:
        self._database = database
        self._ring = ring
        self._tasks = tasks
        self._workflows = workflows
        self._most = most

    async def now(self) -> datetime:
        async with unscoped(self._database) as connection:
            found: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return found

    async def add(self, new: NewSchedule) -> Schedule:
        keys = await self._ring.keys_of(new.tenant_id)
        digest = digest_of(new, keys)
        async with unit_of_work(self._database, new.tenant_id) as connection:
            if (known := await _known(connection, keys, new, digest)) is not None:
                return known
            count = await connection.fetchval(_COUNT, new.tenant_id)
            if count >= self._most:
                raise TooManySchedules(limit=str(self._most))
            row = await connection.fetchrow(
                _ADD,
                new.tenant_id,
                new.schedule_id,
                new.name,
                new.created_by,
                None if new.granted is None else sorted(new.granted),
                *timing_columns(new.timing.occurrences),
                new.start,
                new.end,
                new.target.workflow_id if isinstance(new.target, WorkflowTarget) else None,
                SealedJson(keys, SCHEDULES).seal(
                    "target", new.schedule_id, target_record(new.target)
                ),
                new.missed_runs.value,
                new.paused,
                new.first,
                new.request_id,
                digest,
                new.made_at,
            )
            if row is None:
                if (known := await _known(connection, keys, new, digest)) is not None:
                    return known
                raise ScheduleExists(name=new.name)
            await _record(connection, "created", new.schedule_id)
            return schedule_from(row, keys)

    async def list(
        self, tenant_id: str, subject: str, *, after: str, limit: int
    ) -> Sequence[Schedule]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, subject, after, limit)
        return [schedule_from(row, keys) for row in rows]

    async def remove(self, tenant_id: str, subject: str, schedule_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            if await connection.fetchval(_REMOVE, tenant_id, schedule_id, subject):
                await _record(connection, "deleted", schedule_id)

    async def set_paused(
        self, tenant_id: str, subject: str, schedule_id: str, *, paused: bool
    ) -> Schedule:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_SET_PAUSED, tenant_id, schedule_id, subject, paused)
            if row is None:
                raise ScheduleNotFound
            await _record(connection, "paused" if paused else "resumed", schedule_id)
        return schedule_from(row, keys)

    async def due(self, most: int) -> Sequence[tuple[str, str]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch("SELECT * FROM orchestrator.due_schedules($1)", most)
        return [(row["tenant_id"], row["schedule_id"]) for row in rows]

    async def look(self, tenant_id: str, schedule_id: str) -> Look | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_LOOK, tenant_id, schedule_id)
            if row is None:
                return None
            at_work = await self._is_at_work(connection, row)
        return Look(schedule_from(row, keys), row["now"], at_work)

    async def _is_at_work(self, connection: Connection, row: Record) -> bool:
        if row["last_run_id"] is None:
            return False
        if row["workflow_id"] is None:
            return bool(row["task_at_work"])
        return not await self._runs().is_final(connection, row["tenant_id"], row["last_run_id"])

    async def settle(self, schedule: Schedule, decision: Decision, run: Run | None) -> bool:
        keys = await self._ring.keys_of(schedule.tenant_id)
        async with unit_of_work(self._database, schedule.tenant_id) as connection:
            settled = await connection.fetchval(
                _SETTLE,
                schedule.tenant_id,
                schedule.schedule_id,
                schedule.due,
                decision.due,
                WAIT_SECONDS if decision.waits else None,
                decision.fires,
                None if run is None else run.run_id,
            )
            if settled and run is not None:
                failpoint("schedule-settled")
                await self._start(connection, keys, run)
                failpoint("schedule-run-stored")
        return bool(settled)

    async def _start(self, connection: Connection, keys: TenantKeys, run: Run) -> None:
        if isinstance(run, TaskRun):
            await self._tasks.enqueue_on(connection, keys, run.new, run.queueing)
        else:
            await self._runs().start_on(connection, keys, run)

    def _runs(self) -> WorkflowRuns:
        if self._workflows is None:
            raise FailedPrecondition("workflows are not served here")
        return self._workflows

    async def postpone(self, schedule: Schedule, seconds: float) -> None:
        async with unit_of_work(self._database, schedule.tenant_id) as connection:
            await connection.execute(
                _POSTPONE, schedule.tenant_id, schedule.schedule_id, schedule.due, seconds
            )

    async def stop(self, schedule: Schedule, reason: str) -> None:
        async with unit_of_work(self._database, schedule.tenant_id) as connection:
            stopped = await connection.fetchval(
                _STOP, schedule.tenant_id, schedule.schedule_id, schedule.due, reason
            )
            if not stopped:
                return
            with context.bind(_own(schedule.tenant_id)):
                await _record(connection, "paused", schedule.schedule_id, reason=reason)
                await tell(
                    connection,
                    _notice(schedule, reason),
                    source=SOURCE,
                    tenant_id=schedule.tenant_id,
                )


def _own(tenant_id: str) -> CallContext:
    return service_context(SOURCE, tenant_id, (), timeout_seconds=None)


def _notice(schedule: Schedule, reason: str) -> Notice:
    return Notice(
        # Whose user is gone is heard of by the administrators.
        user_id="" if reason == UserGone.reason else schedule.created_by,
        kind="schedule.paused",
        title="A schedule was paused: it cannot start its work any more",
        resource=f"schedule/{schedule.schedule_id}",
        details={"schedule_id": schedule.schedule_id, "reason": reason},
    )


async def _record(connection: Connection, act: str, schedule_id: str, **details: object) -> None:
    await audit.record(
        connection,
        source=SOURCE,
        action=f"schedule.{act}",
        resource=f"schedule/{schedule_id}",
        details=details,
    )


async def _known(
    connection: Connection, keys: TenantKeys, new: NewSchedule, digest: bytes
) -> Schedule | None:
    if not new.request_id:
        return None
    row = await connection.fetchrow(_BY_REQUEST, new.tenant_id, new.created_by, new.request_id)
    if row is None:
        return None
    if row["request_digest"] != digest:
        raise RequestIdReused
    return schedule_from(row, keys)


_COUNT: Final = "SELECT count(*) FROM orchestrator.schedules WHERE tenant_id = $1"

_ADD: Final = f"""
INSERT INTO orchestrator.schedules (tenant_id, schedule_id, name, created_by, granted, cron, every,
    once_at, time_zone, start_at, end_at, workflow_id, target, missed_runs, paused, due_at, look_at,
    request_id, request_digest, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19)
ON CONFLICT DO NOTHING
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

_BY_REQUEST: Final = f"""
SELECT {COLUMNS}, request_digest FROM orchestrator.schedules
 WHERE tenant_id = $1 AND created_by = $2 AND request_id = $3
"""  # noqa: S608 - constant columns

_LIST: Final = f"""
SELECT {COLUMNS} FROM orchestrator.schedules
 WHERE tenant_id = $1 AND ($2 = '' OR created_by = $2) AND name > $3
 ORDER BY name LIMIT $4
"""  # noqa: S608 - constant columns

_REMOVE: Final = """
DELETE FROM orchestrator.schedules
 WHERE tenant_id = $1 AND schedule_id = $2 AND ($3 = '' OR created_by = $3)
RETURNING true
"""

_SET_PAUSED: Final = f"""
UPDATE orchestrator.schedules
   SET paused = $4, pause_reason = CASE WHEN $4 THEN pause_reason ELSE '' END, look_at = due_at
 WHERE tenant_id = $1 AND schedule_id = $2 AND ($3 = '' OR created_by = $3)
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

_LOOK: Final = f"""
SELECT {COLUMNS}, clock_timestamp() AS now,
       EXISTS (SELECT FROM orchestrator.tasks AS t
                WHERE t.tenant_id = $1 AND t.task_id = s.last_run_id AND t.ended_at IS NULL)
           AS task_at_work
  FROM orchestrator.schedules AS s
 WHERE s.tenant_id = $1 AND s.schedule_id = $2 AND NOT s.paused AND s.due_at IS NOT NULL
"""  # noqa: S608 - constant columns

# Whoever is second waits for the first, then finds another firing due.
_SETTLE: Final = """
UPDATE orchestrator.schedules
   SET due_at = $4::timestamptz,
       look_at = coalesce(clock_timestamp() + make_interval(secs => $5), $4::timestamptz),
       last_run_at = coalesce($6::timestamptz, last_run_at),
       last_run_id = coalesce($7::uuid, last_run_id)
 WHERE tenant_id = $1 AND schedule_id = $2 AND due_at = $3 AND NOT paused
RETURNING true
"""

_POSTPONE: Final = """
UPDATE orchestrator.schedules SET look_at = clock_timestamp() + make_interval(secs => $4)
 WHERE tenant_id = $1 AND schedule_id = $2 AND due_at = $3
"""

_STOP: Final = """
UPDATE orchestrator.schedules SET paused = true, pause_reason = $4
 WHERE tenant_id = $1 AND schedule_id = $2 AND due_at = $3 AND NOT paused
RETURNING true
"""
