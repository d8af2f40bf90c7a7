-- Writes that every task makes, each by one statement that is its own transaction: it sets the tenant
-- that row-level security looks at, and needs no BEGIN and COMMIT of its own to be sent and awaited.
-- They run with the caller's rights.

-- Stores new tasks with their audit records; returns those that were new. A running task has a lease
-- for who stores it, a queued one waits for a worker.
CREATE FUNCTION orchestrator.start_tasks(
    p_tenant_id uuid, p_queued boolean, p_lease_seconds double precision, p_task_ids uuid[],
    p_subjects text[], p_owners jsonb[], p_correlation_ids text[], p_agents text[],
    p_session_ids uuid[], p_specs bytea[], p_messages bytea[], p_limits jsonb[],
    p_engine_versions integer[], p_request_ids text[], p_request_digests bytea[],
    p_deadlines timestamptz[], p_seconds double precision[], p_kinds text[], p_lanes text[],
    p_traceparents text[], p_start_times timestamptz[],
    p_event_ids uuid[], p_topics text[], p_partition_keys text[], p_headers jsonb[],
    p_bodies bytea[]
) RETURNS TABLE (task_id uuid, created_at timestamptz, remaining_seconds double precision)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant_id::text, true);
    RETURN QUERY
    WITH started AS (
        INSERT INTO orchestrator.tasks (tenant_id, task_id, subject, owner, correlation_id, agent,
            session_id, spec, messages, limits, engine_version, request_id, request_digest,
            deadline_at, kind, lane, traceparent, state, attempt, lease_epoch, lease_expires_at,
            dispatch_due_at, detached)
        SELECT p_tenant_id, g.task_id, g.subject, g.owner, g.correlation_id, g.agent, g.session_id,
            g.spec, g.messages, g.limits, g.engine_version, g.request_id, g.request_digest,
            least(g.deadline, greatest(g.start_time, clock_timestamp())
                + make_interval(secs => g.seconds)),
            g.kind, g.lane, g.traceparent,
            CASE WHEN p_queued THEN 'queued' ELSE 'running' END,
            CASE WHEN p_queued THEN 0 ELSE 1 END, CASE WHEN p_queued THEN 0 ELSE 1 END,
            CASE WHEN p_queued THEN 'infinity'
                ELSE clock_timestamp() + make_interval(secs => p_lease_seconds) END,
            CASE WHEN p_queued THEN greatest(g.start_time, clock_timestamp()) END, p_queued
          FROM unnest(p_task_ids, p_subjects, p_owners, p_correlation_ids, p_agents,
                p_session_ids, p_specs, p_messages, p_limits, p_engine_versions, p_request_ids,
                p_request_digests, p_deadlines, p_seconds, p_kinds, p_lanes, p_traceparents,
                p_start_times) WITH ORDINALITY
            AS g (task_id, subject, owner, correlation_id, agent, session_id, spec, messages,
                limits, engine_version, request_id, request_digest, deadline, seconds, kind, lane,
                traceparent, start_time, place)
         ORDER BY g.place
        ON CONFLICT DO NOTHING
        RETURNING task_id, created_at,
            extract(epoch FROM deadline_at - clock_timestamp())::float8 AS remaining_seconds
    ), told AS (
        INSERT INTO events.outbox (tenant_id, event_id, topic, partition_key, headers, body)
        SELECT p_tenant_id, r.event_id, r.topic, r.partition_key, r.headers, r.body
          FROM started
          JOIN unnest(p_task_ids, p_event_ids, p_topics, p_partition_keys, p_headers, p_bodies)
               WITH ORDINALITY
            AS r (task_id, event_id, topic, partition_key, headers, body, place) USING (task_id)
         ORDER BY r.place
        ON CONFLICT (tenant_id, event_id, day) DO NOTHING
    )
    SELECT started.task_id, started.created_at, started.remaining_seconds FROM started;
END
$$;

-- Journals steps, with the usage of their tasks, where the lease is still of the epoch that was
-- given; returns the tasks of which it is. An epoch has one owner: a step that is there already was
-- written by a call whose answer was lost.
CREATE FUNCTION orchestrator.commit_steps(
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
          FROM unnest(p_task_ids, p_lease_epochs, p_last_steps, p_usages)
            AS g (task_id, lease_epoch, last_step, usage)
         WHERE t.tenant_id = p_tenant_id AND t.task_id = g.task_id
           AND t.lease_epoch = g.lease_epoch AND t.state = 'running'
        RETURNING t.tenant_id, t.task_id, t.engine_version
    ), written AS (
        INSERT INTO orchestrator.steps
            (tenant_id, task_id, step, attempt, engine_version, kind, outcome)
        SELECT o.tenant_id, o.task_id, s.step, s.attempt, o.engine_version, s.kind, s.outcome
          FROM owned AS o
          JOIN unnest(p_of_tasks, p_steps, p_attempts, p_kinds, p_outcomes)
            AS s (task_id, step, attempt, kind, outcome) ON s.task_id = o.task_id
        ON CONFLICT (tenant_id, task_id, step) DO NOTHING
    )
    SELECT owned.task_id FROM owned;
END
$$;

REVOKE ALL ON FUNCTION orchestrator.start_tasks(
    uuid, boolean, double precision, uuid[], text[], jsonb[], text[], text[], uuid[], bytea[],
    bytea[], jsonb[], integer[], text[], bytea[], timestamptz[], double precision[], text[],
    text[], text[], timestamptz[], uuid[], text[], text[], jsonb[], bytea[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.commit_steps(
    uuid, uuid[], integer[], integer[], jsonb[], uuid[], integer[], integer[], text[], bytea[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.start_tasks(
    uuid, boolean, double precision, uuid[], text[], jsonb[], text[], text[], uuid[], bytea[],
    bytea[], jsonb[], integer[], text[], bytea[], timestamptz[], double precision[], text[],
    text[], text[], timestamptz[], uuid[], text[], text[], jsonb[], bytea[])
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.commit_steps(
    uuid, uuid[], integer[], integer[], jsonb[], uuid[], integer[], integer[], text[], bytea[])
    TO meshwright_orchestrator;
