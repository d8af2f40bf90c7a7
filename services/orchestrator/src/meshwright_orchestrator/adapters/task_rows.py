"""Rows of orchestrator.tasks and orchestrator.steps as tasks and steps; their content is sealed."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import orjson

from meshwright_common.context import Principal
from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import (
    Failure,
    Limits,
    Priority,
    Result,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)
from meshwright_orchestrator.domain.ports import NewTask
from meshwright_orchestrator.domain.task_budget import NO_BUDGET, TaskBudget

COLUMNS_WITHOUT_MESSAGES: Final = (
    "tenant_id, task_id, subject, owner, correlation_id, spec, limits, engine_version, state,"
    " attempt, lease_epoch, step_count, usage, result, failure, created_at, updated_at, ended_at,"
    " extract(epoch FROM deadline_at - clock_timestamp())::float8 AS remaining_seconds,"
    " lease_expires_at < clock_timestamp() AS lease_expired, detached, waits, parent_task_id,"
    " root_task_id, depth, workflow_run_id, traceparent,"
    " CASE WHEN away_step = step_count"
    " THEN extract(epoch FROM clock_timestamp() - away_since)::float8 END AS away_seconds"
)
COLUMNS: Final = COLUMNS_WITHOUT_MESSAGES + ", messages"
STEP_COLUMNS: Final = "step, attempt, kind, outcome"
TASKS: Final = "orchestrator.tasks"
STEPS: Final = "orchestrator.steps"


def task_from(row: Record, keys: TenantKeys) -> Task:
    """Return the task of a row that holds COLUMNS, or those without messages.

    Raises: SealBroken.
    """
    owner = row["owner"]
    usage = Usage(**row["usage"])

    def opened(column: str) -> Any:
        sealed = row.get(column)
        return sealed and SealedJson(keys, TASKS).open(column, row["task_id"], sealed)

    result, failure = opened("result"), opened("failure")
    return Task(
        task_id=row["task_id"],
        owner=Principal(
            tenant_id=row["tenant_id"],
            subject=row["subject"],
            kind=owner["kind"],
            permissions=frozenset(owner["permissions"]),
            roles=tuple(owner["roles"]),
        ),
        correlation_id=row["correlation_id"],
        spec=_spec_from(opened("spec"), opened("messages") or ()),
        limits=Limits(**row["limits"]),
        engine_version=row["engine_version"],
        state=TaskState(row["state"]),
        attempt=row["attempt"],
        lease_epoch=row["lease_epoch"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        remaining_seconds=row["remaining_seconds"],
        lease_expired=row["lease_expired"],
        step_count=row["step_count"],
        usage=usage,
        result=None if result is None else step_rows.result_from(result, usage),
        failure=None if failure is None else step_rows.failure_from(failure),
        ended_at=row["ended_at"],
        detached=row["detached"],
        waits=row["waits"],
        away_seconds=row["away_seconds"] or 0.0,
        parent_task_id=row["parent_task_id"] or "",
        root_task_id=row["root_task_id"] or "",
        workflow_run_id=row["workflow_run_id"] or "",
        depth=row["depth"],
        trace=row["traceparent"],
    )


def step_from(row: Record, keys: TenantKeys, task_id: str) -> Step:
    """Return the step of a task's row that holds STEP_COLUMNS. Raises: SealBroken."""
    row_id = _step_id(task_id, row["step"])
    stored = SealedJson(keys, STEPS).open("outcome", row_id, row["outcome"])
    return Step(row["step"], row["attempt"], step_rows.outcome_from(row["kind"], stored))


def step_columns(
    keys: TenantKeys, steps: Sequence[tuple[str, Step]]
) -> tuple[list[int], list[int], list[str], list[bytes]]:
    """Return number, attempt, kind and sealed outcome of (task's id, step), each as a column."""
    sealed = SealedJson(keys, STEPS)
    return (
        [step.number for _, step in steps],
        [step.attempt for _, step in steps],
        [step_rows.KINDS[type(step.outcome)] for _, step in steps],
        [
            # A dataclass is written as the object of its fields.
            sealed.seal("outcome", _step_id(task_id, step.number), step.outcome)
            for task_id, step in steps
        ],
    )


def sealed_request(keys: TenantKeys, task_id: str, spec: TaskSpec) -> tuple[bytes, bytes, bytes]:
    """Return the spec, its messages, and the digest of both: equal for equal requests only."""
    without_messages, messages = _spec_record(spec), _messages_record(spec)
    sealed = SealedJson(keys, TASKS)
    content = orjson.dumps([without_messages, messages], option=orjson.OPT_SORT_KEYS)
    return (
        sealed.seal("spec", task_id, without_messages),
        sealed.seal("messages", task_id, messages),
        keys.digest(content),
    )


def sealed_result(keys: TenantKeys, task_id: str, result: Result | None) -> bytes | None:
    """Return a task's result for its column."""
    if result is None:
        return None
    return SealedJson(keys, TASKS).seal("result", task_id, step_rows.result_record(result))


def sealed_failure(keys: TenantKeys, task_id: str, failure: Failure | None) -> bytes | None:
    """Return a task's failure for its column."""
    if failure is None:
        return None
    return SealedJson(keys, TASKS).seal("failure", task_id, step_rows.failure_record(failure))


def _step_id(task_id: str, number: int) -> str:
    return f"{task_id}/{number}"


def owner_record(owner: Principal) -> JsonObject:
    """Return what is stored of a principal beside tenant and subject."""
    return {
        "kind": owner.kind,
        "permissions": sorted(owner.permissions),
        "roles": list(owner.roles),
    }


def request_record(spec: TaskSpec) -> JsonObject:
    """Return a spec with its messages, for others who keep one."""
    return {"spec": _spec_record(spec), "messages": _messages_record(spec)}


def request_from(stored: step_rows.Stored) -> TaskSpec:
    """Return the spec that `request_record` was made of."""
    return _spec_from(stored["spec"], stored["messages"])


def _spec_record(spec: TaskSpec) -> JsonObject:
    # Only where there is one: requests of before keep their digests.
    delay = {} if spec.start_time is None else {"start_time": spec.start_time.isoformat()}
    budget = {} if spec.budget == NO_BUDGET else {"budget": asdict(spec.budget)}
    return {
        "agent": spec.agent,
        "session_id": spec.session_id,
        "model": spec.model,
        "knowledge_base_ids": list(spec.knowledge_base_ids),
        "max_steps": spec.max_steps,
        "deadline": None if spec.deadline is None else spec.deadline.isoformat(),
        "priority": spec.priority.value,
        "input": spec.input,
        "metadata": spec.metadata,
        **budget,
        **delay,
    }


def _messages_record(spec: TaskSpec) -> list[JsonObject]:
    return [step_rows.message_record(message) for message in spec.messages]


def limits_record(limits: Limits) -> JsonObject:
    """Return the limits as they are stored."""
    return _flat(limits)


def seconds_of(new: NewTask, default_seconds: float) -> float | None:
    """Return how long a new task may take, beside its own deadline. None: as long as that says."""
    if new.max_seconds:
        return new.max_seconds
    return default_seconds if new.spec.deadline is None else None


def usage_record(usage: Usage) -> JsonObject:
    """Return the usage as it is stored."""
    return _flat(usage)


def _flat(record: Limits | Usage) -> JsonObject:
    # Their fields are plain: `asdict` would copy each of them deeply, with every step.
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _spec_from(stored: step_rows.Stored, messages: Sequence[step_rows.Stored]) -> TaskSpec:
    deadline, start_time = stored["deadline"], stored.get("start_time")
    return TaskSpec(
        agent=stored["agent"],
        messages=tuple(step_rows.message_from(message) for message in messages),
        session_id=stored["session_id"],
        model=stored["model"],
        knowledge_base_ids=tuple(stored["knowledge_base_ids"]),
        max_steps=stored["max_steps"],
        deadline=None if deadline is None else datetime.fromisoformat(deadline),
        priority=Priority(stored["priority"]),
        input=stored["input"],
        metadata=stored["metadata"],
        budget=TaskBudget(**stored.get("budget", {})),
        start_time=None if start_time is None else datetime.fromisoformat(start_time),
    )


def lane_of(priority: Priority) -> str:
    """Return the lane of a priority."""
    return Priority.NORMAL.value if priority is Priority.UNSPECIFIED else priority.value
