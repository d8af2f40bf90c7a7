"""Rows of orchestrator.schedules as schedules; what they start is sealed."""

from typing import Any, Final

import orjson

from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_orchestrator.adapters import task_rows
from meshwright_orchestrator.domain.schedules import (
    MissedRuns,
    NewSchedule,
    Schedule,
    Target,
    WorkflowTarget,
)
from meshwright_orchestrator.domain.timing import AnyOccurrences, Cron, Interval, Once, Timing

COLUMNS: Final = (
    "tenant_id, schedule_id, name, created_by, granted, cron, every, once_at, time_zone, start_at,"
    " end_at, workflow_id, target, missed_runs, paused, pause_reason, due_at, last_run_at,"
    " last_run_id, created_at"
)
SCHEDULES: Final = "orchestrator.schedules"


def schedule_from(row: Record, keys: TenantKeys) -> Schedule:
    """Return the schedule of a row that holds COLUMNS. Raises: SealBroken."""
    stored = SealedJson(keys, SCHEDULES).open("target", row["schedule_id"], row["target"])
    granted = row["granted"]
    start = row["start_at"] or row["created_at"]
    return Schedule(
        tenant_id=row["tenant_id"],
        schedule_id=row["schedule_id"],
        name=row["name"],
        created_by=row["created_by"],
        timing=Timing(_occurrences(row, start), start, row["end_at"]),
        target=_target(row["workflow_id"], stored),
        missed_runs=MissedRuns(row["missed_runs"]),
        start=row["start_at"],
        end=row["end_at"],
        paused=row["paused"],
        pause_reason=row["pause_reason"],
        granted=None if granted is None else frozenset(granted),
        due=row["due_at"],
        last_run_at=row["last_run_at"],
        last_run_id=row["last_run_id"] or "",
        created_at=row["created_at"],
    )


def _occurrences(row: Record, start: Any) -> AnyOccurrences:
    if row["cron"] is not None:
        return Cron(row["cron"], row["time_zone"])
    if row["every"] is not None:
        return Interval(row["every"], start)
    return Once(row["once_at"])


def _target(workflow_id: str | None, stored: Any) -> Target:
    if workflow_id is not None:
        return WorkflowTarget(workflow_id, stored)
    return task_rows.request_from(stored)


def timing_columns(occurrences: AnyOccurrences) -> tuple[object, object, object, str]:
    """Return cron, every, once_at and time_zone."""
    match occurrences:
        case Cron(expression, time_zone):
            return expression, None, None, time_zone
        case Interval(every=every):
            return None, every, None, "UTC"
        case Once(moment):
            return None, None, moment, "UTC"


def target_record(target: Target) -> object:
    """Return what is sealed of a target."""
    if isinstance(target, WorkflowTarget):
        return target.input
    return task_rows.request_record(target)


def digest_of(new: NewSchedule, keys: TenantKeys) -> bytes:
    """Return the digest of what was asked for: equal for equal requests only."""
    workflow_id = new.target.workflow_id if isinstance(new.target, WorkflowTarget) else None
    cron, every, once_at, zone = timing_columns(new.timing.occurrences)
    content = [
        *(new.name, cron, str(every), once_at, zone, workflow_id, target_record(new.target)),
        *(new.missed_runs.value, new.start, new.end, new.paused),
    ]
    return keys.digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
