"""The statements about tasks. Each write of a running task checks its lease epoch.

Parameters that several share: $1 tenant, $2 task, $3 epoch.
"""

from typing import Final

from meshwright_orchestrator.adapters.task_rows import (
    COLUMNS,
    COLUMNS_WITHOUT_MESSAGES,
    STEP_COLUMNS,
)

# The two that every task pays for set the tenant themselves: see migrations/0033, 0036 and 0037.
START: Final = """
SELECT task_id::text, created_at, remaining_seconds
  FROM orchestrator.start_tasks($1, $2, $3, $4::text[]::uuid[], $5, $6::text[]::jsonb[], $7, $8,
    $9::text[]::uuid[], $10, $11, $12::text[]::jsonb[], $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22::text[]::uuid[], $23, $24, $25::text[]::jsonb[], $26)
"""
COMMIT_STEPS: Final = """
SELECT task_id::text
  FROM orchestrator.commit_steps($1, $2::text[]::uuid[], $3, $4, $5::text[]::jsonb[],
    $6::text[]::uuid[], $7, $8, $9, $10) AS ours (task_id)
"""
# As texts: the driver writes and reads an array of them at once, and asks us about each uuid.

CLAIM: Final = f"""
UPDATE orchestrator.tasks AS t
SET state = 'running', attempt = attempt + 1, lease_epoch = lease_epoch + 1,
    lease_expires_at = clock_timestamp() + make_interval(secs => $3),
    updated_at = clock_timestamp()
FROM (
    SELECT q.task_id AS id FROM orchestrator.tasks AS q
    WHERE q.tenant_id = $1 AND q.task_id = ANY ($2) AND q.state = 'queued'
        AND q.deadline_at > clock_timestamp() AND q.engine_version = ANY ($4)
    ORDER BY q.task_id
    FOR UPDATE
) AS chosen
WHERE t.tenant_id = $1 AND t.task_id = chosen.id AND t.state = 'queued'
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
# Whoever is second waits for the first, then finds the task running.

POSTPONE: Final = """
UPDATE orchestrator.tasks
SET state = 'queued', lease_epoch = lease_epoch + 1, dispatches = 0,
    dispatch_due_at = clock_timestamp() + make_interval(secs => $4),
    waits = waits + $5::boolean::integer,
    away_since = CASE WHEN NOT $5 THEN NULL WHEN away_step = step_count THEN away_since
        ELSE clock_timestamp() END,
    away_step = CASE WHEN $5 THEN step_count END,
    updated_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND lease_epoch = $3 AND state = 'running'
RETURNING task_id
"""

LET_GO: Final = """
UPDATE orchestrator.tasks
SET lease_expires_at = clock_timestamp(), waits = waits + 1,
    away_since = CASE WHEN away_step = step_count THEN away_since ELSE clock_timestamp() END,
    away_step = step_count, updated_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND lease_epoch = $3 AND state = 'running'
RETURNING task_id
"""

EXPIRE: Final = f"""
UPDATE orchestrator.tasks
SET state = 'expired', lease_epoch = lease_epoch + 1,
    failure = CASE WHEN deadline_at <= clock_timestamp() THEN $3::bytea ELSE $4::bytea END,
    updated_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND state = 'queued'
    AND (deadline_at <= clock_timestamp()
        OR (lane = 'high' AND attempt = 0 AND parent_task_id IS NULL AND dispatches >= $5
            AND dispatch_due_at <= clock_timestamp()))
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

FIND: Final = f"""
SELECT {COLUMNS} FROM orchestrator.tasks WHERE tenant_id = $1 AND task_id = $2
"""  # noqa: S608 - constant columns

FIND_BY_REQUEST: Final = f"""
SELECT {COLUMNS}, request_digest FROM orchestrator.tasks
WHERE tenant_id = $1 AND subject = $2 AND request_id = $3
"""  # noqa: S608 - constant columns

STEPS_AFTER: Final = f"""
SELECT {STEP_COLUMNS} FROM orchestrator.steps
WHERE tenant_id = $1 AND task_id = $2 AND step > $3 ORDER BY step
"""  # noqa: S608 - constant columns

# The epoch is ours alone: a step that is there already was written by a call of ours whose
# answer was lost.

END: Final = """
WITH ending AS (
    SELECT * FROM unnest(
        $2::text[]::uuid[], $3::integer[], $4::integer[], $5::text[]::jsonb[], $6::text[],
        $7::bytea[], $8::bytea[]
    ) AS e (task_id, lease_epoch, last_step, usage, state, result, failure)
    LIMIT cardinality($2)
), ended AS (
    UPDATE orchestrator.tasks AS t
    SET state = e.state, result = e.result, failure = e.failure, usage = e.usage,
        step_count = greatest(t.step_count, e.last_step),
        updated_at = clock_timestamp(), ended_at = clock_timestamp()
    FROM ending AS e
    WHERE t.tenant_id = $1 AND t.task_id = e.task_id AND t.lease_epoch = e.lease_epoch
        AND t.state = 'running'
    RETURNING t.tenant_id, t.task_id, t.engine_version, t.step_count, t.ended_at
), written AS (
    INSERT INTO orchestrator.steps
        (tenant_id, task_id, step, attempt, engine_version, kind, outcome)
    SELECT o.tenant_id, o.task_id, s.step, s.attempt, o.engine_version, s.kind, s.outcome
    FROM ended AS o JOIN (
        SELECT * FROM unnest(
            $9::text[]::uuid[], $10::integer[], $11::integer[], $12::text[], $13::bytea[]
        ) LIMIT cardinality($9)
    ) AS s (task_id, step, attempt, kind, outcome) ON s.task_id = o.task_id
    ON CONFLICT (tenant_id, task_id, step) DO NOTHING
)
SELECT task_id::text, step_count, ended_at FROM ended
"""

CANCEL: Final = f"""
UPDATE orchestrator.tasks
SET state = 'cancelled', lease_epoch = lease_epoch + 1, failure = $3,
    updated_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND root_task_id IS NULL
    AND state NOT IN ('completed', 'failed', 'cancelled', 'expired')
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
# Tasks of a tree are cancelled together with what they started: see trees.py.

TAKE_OVER: Final = f"""
UPDATE orchestrator.tasks
SET attempt = attempt + 1, lease_epoch = lease_epoch + 1, updated_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE tenant_id = $1 AND task_id = $2 AND lease_epoch = $3 AND state = 'running'
    AND lease_expires_at < clock_timestamp()
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

LIST: Final = f"""
SELECT {COLUMNS_WITHOUT_MESSAGES} FROM orchestrator.tasks
WHERE tenant_id = $1
    AND ($2 = '' OR subject = $2)
    AND (cardinality($3::text[]) = 0 OR state = ANY ($3))
    AND ($4::uuid IS NULL OR session_id = $4)
    AND ($5::uuid IS NULL OR task_id < $5)
ORDER BY task_id DESC LIMIT $6
"""  # noqa: S608 - constant columns
