"""Trees of tasks: what they use together, and how they end together.

Whoever locks several tasks of a tree locks the tree first (migration 0012).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from meshwright_common import context
from meshwright_common.encryption import TenantKeys
from meshwright_common.storage.postgres import Connection
from meshwright_orchestrator.adapters import task_rows
from meshwright_orchestrator.adapters.task_rows import COLUMNS, task_from
from meshwright_orchestrator.domain.errors import CANCELLED
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Failure, Task, TaskState, Usage
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.domain.task_budget import Spent

LOCK_TREES: Final = """
SELECT FROM orchestrator.trees WHERE tenant_id = $1 AND root_task_id = ANY ($2)
ORDER BY root_task_id FOR UPDATE
"""

COUNT: Final = """
UPDATE orchestrator.trees AS t
SET steps = t.steps + used.steps, tokens = t.tokens + used.tokens,
    cost_micro_usd = t.cost_micro_usd + used.cost
FROM (
    SELECT root_task_id, sum(steps) AS steps, sum(tokens) AS tokens, sum(cost) AS cost
    FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS each (root_task_id, steps, tokens, cost)
    GROUP BY root_task_id
) AS used
WHERE t.tenant_id = $1 AND t.root_task_id = used.root_task_id
"""

COMMIT_STEPS: Final = """
WITH owned AS (
    UPDATE orchestrator.tasks
    SET step_count = greatest(step_count, $4), usage = $5, updated_at = clock_timestamp()
    WHERE tenant_id = $1 AND task_id = $2 AND lease_epoch = $3 AND state = 'running'
    RETURNING tenant_id, task_id, engine_version
), written AS (
    INSERT INTO orchestrator.steps
        (tenant_id, task_id, step, attempt, engine_version, kind, outcome)
    SELECT o.tenant_id, o.task_id, s.step, s.attempt, o.engine_version, s.kind, s.outcome
    FROM owned AS o CROSS JOIN unnest(
        $6::integer[], $7::integer[], $8::text[], $9::bytea[]
    ) AS s (step, attempt, kind, outcome)
    ON CONFLICT (tenant_id, task_id, step) DO NOTHING
    RETURNING step
)
SELECT EXISTS (SELECT FROM owned) AS owned, array(SELECT step FROM written) AS written
"""
# As statements.COMMIT_STEPS, but says which steps are new: only those are counted.

# The task itself and all below it, parents first.
_FAMILY: Final = """
WITH RECURSIVE family AS (
    SELECT task_id FROM orchestrator.tasks WHERE tenant_id = $1 AND task_id = $2
    UNION
    SELECT t.task_id FROM orchestrator.tasks AS t
    JOIN family AS f ON t.tenant_id = $1 AND t.parent_task_id = f.task_id
)
SELECT t.task_id FROM orchestrator.tasks AS t JOIN family USING (task_id)
WHERE t.tenant_id = $1 AND t.ended_at IS NULL
ORDER BY t.task_id
FOR UPDATE OF t
"""

_END_FAMILY: Final = f"""
UPDATE orchestrator.tasks AS t
SET state = e.last_state, lease_epoch = lease_epoch + 1, failure = e.why,
    updated_at = clock_timestamp(), ended_at = clock_timestamp()
FROM unnest($2::uuid[], $3::text[], $4::bytea[]) AS e (id, last_state, why)
WHERE t.tenant_id = $1 AND t.task_id = e.id AND t.ended_at IS NULL
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns


async def lock(connection: Connection, tenant_id: str, roots: Iterable[str]) -> None:
    """Lock trees by their roots; those that are no trees are left out."""
    names = sorted(set(roots) - {""})
    if names:
        await connection.execute(LOCK_TREES, tenant_id, names)


async def count(connection: Connection, tenant_id: str, used: Sequence[tuple[str, Spent]]) -> None:
    """Count what tasks used for their trees, each by its root. The trees are locked."""
    if used:
        await connection.execute(
            COUNT,
            tenant_id,
            [root for root, _ in used],
            [spent.steps for _, spent in used],
            [spent.tokens for _, spent in used],
            [spent.cost_micro_usd for _, spent in used],
        )


async def commit_steps(
    connection: Connection, keys: TenantKeys, task: Task, steps: Sequence[Step], usage: Usage
) -> bool:
    """Journal steps of a task of a tree and count those that are new; say whether it is ours."""
    await lock(connection, keys.tenant_id, [task.root_task_id])
    row = await connection.fetchrow(
        COMMIT_STEPS,
        task.tenant_id,
        task.task_id,
        task.lease_epoch,
        steps[-1].number if steps else 0,
        task_rows.usage_record(usage),
        *task_rows.step_columns(keys, [(task.task_id, step) for step in steps]),
    )
    if row is None or not row["owned"]:
        return False
    new = spent_in(step for step in steps if step.number in row["written"])
    await count(connection, keys.tenant_id, [(task.root_task_id, new)])
    return True


async def end_family(
    connection: Connection,
    keys: TenantKeys,
    task_id: str,
    *,
    state: TaskState = TaskState.CANCELLED,
    failure: Failure = CANCELLED,
) -> Sequence[Task]:
    """End a task in `state` and cancel all below it that have not ended; return those that did.

    The tree is locked. The caller announces them.
    """
    rows = await connection.fetch(_FAMILY, keys.tenant_id, task_id)
    ids = [row["task_id"] for row in rows]
    ends = [(state, failure) if one == task_id else (TaskState.CANCELLED, CANCELLED) for one in ids]
    ended = await connection.fetch(
        _END_FAMILY,
        keys.tenant_id,
        ids,
        [end.value for end, _ in ends],
        [task_rows.sealed_failure(keys, one, why) for one, (_, why) in zip(ids, ends, strict=True)],
    )
    return [task_from(row, keys) for row in ended]


def with_context(tasks: Iterable[Task]) -> list[tuple[Task, context.CallContext]]:
    """Return the tasks as `announce` takes them, in the context of this call."""
    call = context.current()
    return [(task, call) for task in tasks]
