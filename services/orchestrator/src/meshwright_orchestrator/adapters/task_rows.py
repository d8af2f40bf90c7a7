"""Rows of orchestrator.tasks and orchestrator.steps as tasks and steps."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

import orjson

from meshwright_common.context import Principal
from meshwright_common.storage.postgres import Record
from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import (
    Limits,
    Priority,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)

COLUMNS_WITHOUT_MESSAGES: Final = (
    "tenant_id, task_id, subject, owner, correlation_id, spec, limits, engine_version, state,"
    " attempt, lease_epoch, step_count, usage, result, failure, created_at, updated_at, ended_at,"
    " extract(epoch FROM deadline_at - clock_timestamp())::float8 AS remaining_seconds,"
    " lease_expires_at < clock_timestamp() AS lease_expired, detached"
)
COLUMNS: Final = COLUMNS_WITHOUT_MESSAGES + ", messages"
STEP_COLUMNS: Final = "step, attempt, kind, outcome"


def task_from(row: Record) -> Task:
    """Return the task of a row that holds COLUMNS, or those without messages."""
    owner = row["owner"]
    usage = Usage(**row["usage"])
    result, failure = row["result"], row["failure"]
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
        spec=_spec_from(row["spec"], row.get("messages") or ()),
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
    )


def step_from(row: Record) -> Step:
    """Return the step of a row that holds STEP_COLUMNS."""
    return Step(row["step"], row["attempt"], step_rows.outcome_from(row["kind"], row["outcome"]))


def step_columns(
    steps: Sequence[Step],
) -> tuple[list[int], list[int], list[str], list[JsonObject]]:
    """Return number, attempt, kind and outcome of all steps, each as a column."""
    return (
        [step.number for step in steps],
        [step.attempt for step in steps],
        [step_rows.KINDS[type(step.outcome)] for step in steps],
        [step_rows.outcome_record(step.outcome) for step in steps],
    )


def owner_record(owner: Principal) -> JsonObject:
    """Return what is stored of a principal beside tenant and subject."""
    return {
        "kind": owner.kind,
        "permissions": sorted(owner.permissions),
        "roles": list(owner.roles),
    }


def spec_record(spec: TaskSpec) -> JsonObject:
    """Return the spec as it is stored, without its messages."""
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
    }


def messages_record(spec: TaskSpec) -> list[JsonObject]:
    """Return the spec's messages as they are stored."""
    return [step_rows.message_record(message) for message in spec.messages]


def limits_record(limits: Limits) -> JsonObject:
    """Return the limits as they are stored."""
    return asdict(limits)


def usage_record(usage: Usage) -> JsonObject:
    """Return the usage as it is stored."""
    return asdict(usage)


def digest(spec: JsonObject, messages: list[JsonObject]) -> bytes:
    """Return the SHA-256 of a request: equal for equal requests only."""
    content = orjson.dumps([spec, messages], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).digest()


def _spec_from(stored: step_rows.Stored, messages: Sequence[step_rows.Stored]) -> TaskSpec:
    deadline = stored["deadline"]
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
    )


def lane_of(priority: Priority) -> str:
    """Return the lane of a priority."""
    return Priority.NORMAL.value if priority is Priority.UNSPECIFIED else priority.value
