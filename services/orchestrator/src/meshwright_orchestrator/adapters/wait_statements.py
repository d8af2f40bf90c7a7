"""The statements about tasks that wait. $1 is the tenant, $2 the task."""

from typing import Final

from meshwright_orchestrator.adapters.task_rows import COLUMNS

# A step that sleeps keeps the time at which it began to, through every attempt.
SUSPEND: Final = """
WITH left_alone AS (
    UPDATE orchestrator.tasks
    SET state = 'waiting', waits = waits + 1, lease_epoch = lease_epoch + 1,
        lease_expires_at = 'infinity', waiting_since = clock_timestamp(),
        for_people = $7, root_task_id = coalesce(root_task_id, $8::uuid),
        wait_until = CASE
            WHEN $6::float8 IS NULL THEN NULL
            WHEN wait_step = $5 AND wait_until IS NOT NULL THEN wait_until
            ELSE clock_timestamp() + make_interval(secs => $6::float8) END,
        wait_step = $5, kind = coalesce($14, kind),
        step_count = greatest(step_count, $4), usage = $9, updated_at = clock_timestamp()
    WHERE tenant_id = $1 AND task_id = $2 AND lease_epoch = $3 AND state = 'running'
    RETURNING tenant_id, task_id, engine_version, deadline_at, lane, traceparent
), written AS (
    INSERT INTO orchestrator.steps
        (tenant_id, task_id, step, attempt, engine_version, kind, outcome)
    SELECT o.tenant_id, o.task_id, s.step, s.attempt, o.engine_version, s.kind, s.outcome
    FROM left_alone AS o CROSS JOIN unnest(
        $10::integer[], $11::integer[], $12::text[], $13::bytea[]
    ) AS s (step, attempt, kind, outcome)
    ON CONFLICT (tenant_id, task_id, step) DO NOTHING
)
SELECT deadline_at, lane, traceparent FROM left_alone
"""

# Once a question: a step that is done again finds it asked.
ASK: Final = """
INSERT INTO orchestrator.interrupts
    (tenant_id, task_id, interrupt_id, step, "index", subject, kind, question, expires_at)
SELECT $1, $2, q.id, $3, q."index", $4, q.kind, q.question,
    clock_timestamp() + make_interval(secs => q.seconds)
FROM unnest($5::uuid[], $6::integer[], $7::text[], $8::bytea[], $9::float8[])
    AS q (id, "index", kind, question, seconds)
ON CONFLICT (tenant_id, interrupt_id) DO NOTHING
"""

ANSWERS: Final = """
SELECT interrupt_id, kind, state, answer FROM orchestrator.interrupts
WHERE tenant_id = $1 AND task_id = $2 AND step = $3 ORDER BY "index"
"""

OPEN: Final = """
SELECT interrupt_id, question FROM orchestrator.interrupts
WHERE tenant_id = $1 AND task_id = $2 AND state = 'open' ORDER BY step, "index"
"""

PLANT: Final = """
INSERT INTO orchestrator.trees (tenant_id, root_task_id, max_steps, max_tokens,
    max_cost_micro_usd, max_depth, max_tasks, steps, tokens, cost_micro_usd)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
"""

TREE: Final = """
SELECT max_steps, max_tokens, max_cost_micro_usd, max_depth, max_tasks, steps, tokens,
    cost_micro_usd, tasks
FROM orchestrator.trees WHERE tenant_id = $1 AND root_task_id = $2
"""

GROW: Final = """
UPDATE orchestrator.trees SET tasks = tasks + $3
WHERE tenant_id = $1 AND root_task_id = $2 AND tasks + $3 <= max_tasks
RETURNING tasks
"""

HAND_OVER: Final = """
INSERT INTO orchestrator.tasks (tenant_id, task_id, subject, owner, correlation_id, agent,
    session_id, spec, messages, limits, engine_version, request_digest, deadline_at, kind, lane,
    traceparent, parent_task_id, root_task_id, depth, state, attempt, lease_epoch,
    lease_expires_at, dispatch_due_at, detached)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    least($13::timestamptz, clock_timestamp() + make_interval(secs => $14::float8)),
    $15, $16, $17, $18, $19, $20, 'queued', 0, 0, 'infinity', clock_timestamp(), true)
ON CONFLICT DO NOTHING
RETURNING task_id
"""

ENDED_CHILDREN: Final = f"""
SELECT {COLUMNS} FROM orchestrator.tasks
WHERE tenant_id = $1 AND parent_task_id = $2 AND task_id = ANY ($3) AND ended_at IS NOT NULL
"""  # noqa: S608 - constant columns

CHILDREN: Final = """
SELECT task_id, agent, state FROM orchestrator.tasks
WHERE tenant_id = $1 AND parent_task_id = $2 ORDER BY created_at, task_id
"""

SLEPT: Final = """
SELECT EXISTS (SELECT FROM orchestrator.tasks
    WHERE tenant_id = $1 AND task_id = $2 AND wait_step = $3 AND wait_until <= clock_timestamp())
"""

RUN_OUT: Final = """
UPDATE orchestrator.interrupts SET state = 'expired', closed_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND state = 'open' AND expires_at <= clock_timestamp()
"""

OVERDUE: Final = """
SELECT root_task_id FROM orchestrator.tasks AS t
WHERE tenant_id = $1 AND task_id = $2 AND state = 'waiting' AND NOT for_people
    AND deadline_at <= clock_timestamp()
    AND NOT EXISTS (SELECT FROM orchestrator.tasks AS other
        WHERE other.tenant_id = $1 AND other.root_task_id = t.root_task_id
            AND other.state = 'waiting' AND other.for_people)
"""

LOCK: Final = "SELECT orchestrator.lock_task($1, $2)"
WAKE: Final = "SELECT orchestrator.wake($1, $2)"
