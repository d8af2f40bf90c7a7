"""Rows of workflows and their runs as domain values; their content is sealed."""

from dataclasses import asdict
from typing import Any, Final

import orjson

from meshwright_common.context import Principal
from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.domain.models import Failure, TaskState, Usage
from meshwright_orchestrator.domain.workflows.definition import Workflow, WorkflowDefinition
from meshwright_orchestrator.domain.workflows.progress import (
    Item,
    ItemKind,
    ItemState,
    Run,
    StepRun,
    StepState,
)
from meshwright_orchestrator.wire.workflow_definitions import definition_record, stored_definition

VERSIONS: Final = "orchestrator.workflow_versions"
RUNS: Final = "orchestrator.workflow_runs"
STEPS: Final = "orchestrator.workflow_steps"
ITEMS: Final = "orchestrator.workflow_items"
RUN_COLUMNS: Final = (
    "tenant_id, run_id, workflow_id, workflow_version, subject, owner, correlation_id, input,"
    " output, failure, state, revision, start_at, deadline_at, level, usage, schedule_id,"
    " parent_run_id, created_at, ended_at"
)


def sealed_definition(
    keys: TenantKeys, workflow_id: str, version: int, definition: WorkflowDefinition
) -> bytes:
    """Return a definition for its column."""
    record = definition_record(definition)
    return SealedJson(keys, VERSIONS).seal("definition", f"{workflow_id}/{version}", record)


def digest_of(keys: TenantKeys, *parts: object) -> bytes:
    """Return what is equal for equal JSON values only."""
    return keys.digest(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


def definition_digest(keys: TenantKeys, definition: WorkflowDefinition) -> bytes:
    """Return what is equal for equal definitions only."""
    return digest_of(keys, definition_record(definition))


def workflow_from(row: Record, keys: TenantKeys) -> Workflow:
    """Return the workflow of a row of both tables. Raises: SealBroken."""
    row_id = f"{row['workflow_id']}/{row['version']}"
    record = SealedJson(keys, VERSIONS).open("definition", row_id, row["definition"])
    return Workflow(
        workflow_id=row["workflow_id"],
        name=row["name"],
        version=row["version"],
        definition=stored_definition(record),
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def run_from(row: Record, keys: TenantKeys) -> Run:
    """Return the run of a row that holds RUN_COLUMNS. Raises: SealBroken."""
    owner = row["owner"]

    def opened(column: str) -> Any:
        sealed = row[column]
        return sealed and SealedJson(keys, RUNS).open(column, row["run_id"], sealed)

    failure = opened("failure")
    return Run(
        run_id=row["run_id"],
        workflow_id=row["workflow_id"],
        workflow_version=row["workflow_version"],
        owner=Principal(
            tenant_id=row["tenant_id"],
            subject=row["subject"],
            kind=owner["kind"],
            permissions=frozenset(owner["permissions"]),
            roles=tuple(owner["roles"]),
        ),
        correlation_id=row["correlation_id"],
        input=opened("input"),
        state=TaskState(row["state"]),
        start_at=row["start_at"],
        deadline_at=row["deadline_at"],
        created_at=row["created_at"],
        revision=row["revision"],
        level=row["level"],
        output=opened("output"),
        failure=None if failure is None else step_rows.failure_from(failure),
        usage=Usage(**row["usage"]),
        schedule_id=row["schedule_id"] or "",
        parent_run_id=row["parent_run_id"] or "",
        ended_at=row["ended_at"],
    )


def sealed_of_run(keys: TenantKeys, column: str, run_id: str, value: object) -> bytes | None:
    """Return a value of a run for its column; None stays None."""
    if value is None:
        return None
    if isinstance(value, Failure):
        value = step_rows.failure_record(value)
    return SealedJson(keys, RUNS).seal(column, run_id, value)


def step_values(keys: TenantKeys, run_id: str, step: StepRun) -> tuple[object, ...]:
    """Return step, state, content, order, started_at and ended_at for the table."""
    content = {
        "values": None if step.values is None else list(step.values),
        "output": step.output,
        "failure": None if step.failure is None else step_rows.failure_record(step.failure),
    }
    return (
        step.name,
        step.state.value,
        SealedJson(keys, STEPS).seal("content", f"{run_id}/{step.name}", content),
        step.order,
        step.started_at,
        step.ended_at,
    )


def step_from(row: Record, keys: TenantKeys) -> StepRun:
    """Return the step of a row. Raises: SealBroken."""
    row_id = f"{row['run_id']}/{row['step']}"
    content = SealedJson(keys, STEPS).open("content", row_id, row["content"])
    values, failure = content["values"], content["failure"]
    return StepRun(
        name=row["step"],
        state=StepState(row["state"]),
        values=None if values is None else tuple(values),
        order=row["order"],
        output=content["output"],
        failure=None if failure is None else step_rows.failure_from(failure),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def item_values(keys: TenantKeys, run_id: str, item: Item) -> tuple[object, ...]:
    """Return step, kind, number, state, attempt, child_ids, waits, due_at and content."""
    content = {
        "value": item.value,
        "output": item.output,
        "failure": None if item.failure is None else step_rows.failure_record(item.failure),
    }
    row_id = f"{run_id}/{item.step}/{item.kind.value}/{item.number}"
    return (
        item.step,
        item.kind.value,
        item.number,
        item.state.value,
        item.attempt,
        list(item.child_ids),
        item.waits,
        item.due_at,
        SealedJson(keys, ITEMS).seal("content", row_id, content),
    )


def item_from(row: Record, keys: TenantKeys) -> Item:
    """Return the item of a row. Raises: SealBroken."""
    row_id = f"{row['run_id']}/{row['step']}/{row['kind']}/{row['number']}"
    content = SealedJson(keys, ITEMS).open("content", row_id, row["content"])
    failure = content["failure"]
    return Item(
        step=row["step"],
        kind=ItemKind(row["kind"]),
        number=row["number"],
        state=ItemState(row["state"]),
        attempt=row["attempt"],
        value=content["value"],
        child_ids=tuple(str(one) for one in row["child_ids"]),
        due_at=row["due_at"],
        waits=row["waits"],
        output=content["output"],
        failure=None if failure is None else step_rows.failure_from(failure),
    )


def usage_record(usage: Usage) -> dict[str, object]:
    """Return consumption as it is stored."""
    return asdict(usage)
