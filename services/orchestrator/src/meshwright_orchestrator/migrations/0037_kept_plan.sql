-- As in 0033. The server takes ten rows for what an array of unknown length holds, which made the
-- plan it could keep look dearer than one that it made anew for each small group: half of what a
-- step cost it. LIMIT leaves nothing out, and says that there are few. A server with many placements
-- goes on planning for the one that is asked for (docs/adr/0015).
CREATE OR REPLACE FUNCTION orchestrator.commit_steps(
    p_tenant_id uuid, p_task_ids uuid[], p_lease_epochs integer[], p_last_steps integer[],
    p_usages jsonb[], p_of_tasks uuid[], p_steps integer[], p_attempts integer[], p_kinds text[],
    p_outcomes bytea[]
) RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant_id::text, true);
    RETURN QUERY
    WITH owned AS (
        UPDATE orchestrator.tasks AS t
           SET step_count = greatest(t.step_count, g.last_step), usage = g.usage,
               updated_at = clock_timestamp()
          FROM (SELECT * FROM unnest(p_task_ids, p_lease_epochs, p_last_steps, p_usages)
                 LIMIT cardinality(p_task_ids))
            AS g (task_id, lease_epoch, last_step, usage)
         WHERE t.tenant_id = p_tenant_id AND t.task_id = g.task_id
           AND t.lease_epoch = g.lease_epoch AND t.state = 'running'
        RETURNING t.tenant_id, t.task_id, t.engine_version
    ), written AS (
        INSERT INTO orchestrator.steps
            (tenant_id, task_id, step, attempt, engine_version, kind, outcome)
        SELECT o.tenant_id, o.task_id, s.step, s.attempt, o.engine_version, s.kind, s.outcome
          FROM owned AS o
          JOIN (SELECT * FROM unnest(p_of_tasks, p_steps, p_attempts, p_kinds, p_outcomes)
                 LIMIT cardinality(p_of_tasks))
            AS s (task_id, step, attempt, kind, outcome) ON s.task_id = o.task_id
        ON CONFLICT (tenant_id, task_id, step) DO NOTHING
    )
    SELECT owned.task_id FROM owned;
END
$$;
