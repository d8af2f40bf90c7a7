-- As in 0033, with a plan that the server keeps also for small groups: it takes ten rows for what an
-- array of unknown length holds, and planned anew for each group of fewer. LIMIT leaves nothing out.
CREATE OR REPLACE FUNCTION orchestrator.start_tasks(
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
          FROM (SELECT * FROM unnest(p_task_ids, p_subjects, p_owners, p_correlation_ids, p_agents,
                    p_session_ids, p_specs, p_messages, p_limits, p_engine_versions,
                    p_request_ids, p_request_digests, p_deadlines, p_seconds, p_kinds, p_lanes,
                    p_traceparents, p_start_times) WITH ORDINALITY
                 LIMIT cardinality(p_task_ids))
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
          JOIN (SELECT * FROM unnest(p_task_ids, p_event_ids, p_topics, p_partition_keys, p_headers,
                    p_bodies) WITH ORDINALITY
                 LIMIT cardinality(p_task_ids))
            AS r (task_id, event_id, topic, partition_key, headers, body, place) USING (task_id)
         ORDER BY r.place
        ON CONFLICT (tenant_id, event_id, day) DO NOTHING
    )
    SELECT started.task_id, started.created_at, started.remaining_seconds FROM started;
END
$$;
