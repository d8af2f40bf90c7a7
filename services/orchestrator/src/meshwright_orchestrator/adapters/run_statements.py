"""The statements about runs of workflows. Each write checks the revision that was read."""

from typing import Final

from meshwright_orchestrator.adapters.workflow_rows import RUN_COLUMNS

START: Final = f"""
INSERT INTO orchestrator.workflow_runs (tenant_id, run_id, workflow_id, workflow_version, subject,
    owner, correlation_id, input, request_id, request_digest, start_at, deadline_at, due_at,
    schedule_id, parent_run_id, level)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, begins.at,
    begins.at + make_interval(secs => $12), begins.at, $13, $14, $15
FROM (SELECT greatest(coalesce($11::timestamptz, clock_timestamp()), clock_timestamp()) AS at)
    AS begins
ON CONFLICT DO NOTHING
RETURNING {RUN_COLUMNS}
"""  # noqa: S608 - constant columns

FIND: Final = f"""
SELECT {RUN_COLUMNS}, clock_timestamp() AS now FROM orchestrator.workflow_runs
WHERE tenant_id = $1 AND run_id = $2
"""  # noqa: S608 - constant columns

FIND_BY_REQUEST: Final = f"""
SELECT {RUN_COLUMNS}, request_digest FROM orchestrator.workflow_runs
WHERE tenant_id = $1 AND subject = $2 AND request_id = $3
"""  # noqa: S608 - constant columns

STEPS: Final = """
SELECT run_id, step, state, content, "order", started_at, ended_at
FROM orchestrator.workflow_steps WHERE tenant_id = $1 AND run_id = $2
"""

ITEMS: Final = """
SELECT run_id, step, kind, "number", state, attempt, child_ids, waits, due_at, content
FROM orchestrator.workflow_items WHERE tenant_id = $1 AND run_id = $2
ORDER BY step, kind, "number"
"""

LIST: Final = f"""
SELECT {RUN_COLUMNS} FROM orchestrator.workflow_runs
WHERE tenant_id = $1
    AND ($2 = '' OR subject = $2)
    AND ($3::uuid IS NULL OR workflow_id = $3)
    AND (cardinality($4::text[]) = 0 OR state = ANY ($4))
    AND ($5::uuid IS NULL OR schedule_id = $5)
    AND ($6::uuid IS NULL OR run_id < $6)
ORDER BY run_id DESC LIMIT $7
"""  # noqa: S608 - constant columns

# Whoever is second finds another revision.
WRITE: Final = """
UPDATE orchestrator.workflow_runs
SET state = $4, output = $5, failure = $6, usage = $7, due_at = $8, ended_at = $9,
    revision = revision + 1, held_until = '-infinity'
WHERE tenant_id = $1 AND run_id = $2 AND revision = $3
RETURNING revision
"""

# Its children may have said something since they were read: that has left a wake of its own.
REST: Final = """
UPDATE orchestrator.workflow_runs SET due_at = $4, held_until = '-infinity'
WHERE tenant_id = $1 AND run_id = $2 AND revision = $3
RETURNING revision
"""

WRITE_STEP: Final = """
INSERT INTO orchestrator.workflow_steps
    (tenant_id, run_id, step, state, content, "order", started_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, run_id, step) DO UPDATE
SET state = excluded.state, content = excluded.content, "order" = excluded."order",
    started_at = excluded.started_at, ended_at = excluded.ended_at
"""

WRITE_ITEM: Final = """
INSERT INTO orchestrator.workflow_items (tenant_id, run_id, step, kind, "number", state, attempt,
    child_ids, waits, due_at, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (tenant_id, run_id, step, kind, "number") DO UPDATE
SET state = excluded.state, attempt = excluded.attempt, child_ids = excluded.child_ids,
    waits = excluded.waits, due_at = excluded.due_at, content = excluded.content
"""

OF_RUN: Final = """
UPDATE orchestrator.tasks SET workflow_run_id = $3 WHERE tenant_id = $1 AND task_id = ANY ($2)
"""

CHILD_TASKS: Final = """
SELECT task_id, agent, state, result, failure, usage FROM orchestrator.tasks
WHERE tenant_id = $1 AND task_id = ANY ($2)
"""

CHILD_RUNS: Final = """
SELECT run_id, state, output, failure, usage, ended_at FROM orchestrator.workflow_runs
WHERE tenant_id = $1 AND run_id = ANY ($2)
"""
