-- Tasks: who asked what of which agent, who works on it, and how it ended.
-- Texts of users and models are json, not jsonb: jsonb refuses the character U+0000.
CREATE TABLE orchestrator.tasks (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    subject text NOT NULL,
    -- Principal the task acts for: kind, permissions, roles. Never a credential.
    owner jsonb NOT NULL,
    correlation_id text NOT NULL,
    agent text NOT NULL,
    session_id uuid,
    -- TaskSpec without its messages.
    spec json NOT NULL,
    messages json NOT NULL,
    -- Bounds fixed at acceptance, so that a replay decides by the same ones.
    limits jsonb NOT NULL,
    -- The decider the task began with; no other goes on with it.
    engine_version integer NOT NULL,
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 128),
    request_sha256 bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    state text NOT NULL DEFAULT 'running' CHECK (state IN (
        'queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired')),
    attempt integer NOT NULL DEFAULT 1,
    lease_epoch integer NOT NULL DEFAULT 1,
    lease_expires_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    step_count integer NOT NULL DEFAULT 0,
    usage jsonb NOT NULL DEFAULT '{}',
    result json,
    failure json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, task_id),
    CHECK ((state IN ('completed', 'failed', 'cancelled', 'expired')) = (ended_at IS NOT NULL)),
    CHECK ((state = 'completed') = (result IS NOT NULL)),
    CHECK ((state IN ('failed', 'cancelled', 'expired')) = (failure IS NOT NULL))
)
-- Room on each page for the updates that every step makes.
WITH (fillfactor = 80);

CREATE UNIQUE INDEX tasks_request ON orchestrator.tasks (tenant_id, subject, request_id)
    WHERE request_id <> '';
CREATE INDEX tasks_of_subject ON orchestrator.tasks (tenant_id, subject, task_id DESC);
CREATE INDEX tasks_of_session ON orchestrator.tasks (tenant_id, session_id, task_id DESC)
    WHERE session_id IS NOT NULL;
CREATE INDEX tasks_leases ON orchestrator.tasks (lease_expires_at) WHERE state = 'running';
CREATE INDEX tasks_ended ON orchestrator.tasks (ended_at) WHERE ended_at IS NOT NULL;

-- The journal: what each step came to. Written once, with the lease's epoch checked.
CREATE TABLE orchestrator.steps (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step integer NOT NULL CHECK (step >= 1),
    attempt integer NOT NULL,
    engine_version integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('recall', 'model', 'tools', 'graph')),
    outcome json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, task_id, step),
    FOREIGN KEY (tenant_id, task_id) REFERENCES orchestrator.tasks ON DELETE CASCADE
);

ALTER TABLE orchestrator.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestrator.tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON orchestrator.tasks
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON orchestrator.tasks TO meshwright_owner
    USING (true) WITH CHECK (true);

ALTER TABLE orchestrator.steps ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestrator.steps FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON orchestrator.steps
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON orchestrator.steps TO meshwright_owner
    USING (true) WITH CHECK (true);

-- The journal is never rewritten, and rows go only through the door that keeps retention.
REVOKE DELETE ON orchestrator.tasks FROM meshwright_orchestrator;
REVOKE UPDATE, DELETE ON orchestrator.steps FROM meshwright_orchestrator;
GRANT SELECT, INSERT, UPDATE ON orchestrator.tasks TO meshwright_orchestrator;
GRANT SELECT, INSERT ON orchestrator.steps TO meshwright_orchestrator;

-- Doors across tenants, for the process itself: leases and retention, no content.

CREATE FUNCTION orchestrator.renew_leases(
    tenant_ids uuid[], task_ids uuid[], epochs integer[], seconds double precision
) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE orchestrator.tasks AS t
    SET lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
    FROM unnest(tenant_ids, task_ids, epochs) AS mine (tenant_id, task_id, epoch)
    WHERE t.tenant_id = mine.tenant_id AND t.task_id = mine.task_id
        AND t.lease_epoch = mine.epoch AND t.state = 'running'
    RETURNING t.task_id
$$;

-- A task begun by an unknown engine is only taken to be ended, when its time is over.
CREATE FUNCTION orchestrator.take_over_tasks(
    max_tasks integer, seconds double precision, engine_versions integer[]
) RETURNS TABLE (tenant_id uuid, task_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE orchestrator.tasks AS t
    SET attempt = t.attempt + 1, lease_epoch = t.lease_epoch + 1,
        lease_expires_at = clock_timestamp() + make_interval(secs => seconds),
        updated_at = clock_timestamp()
    FROM (
        SELECT lost.tenant_id, lost.task_id FROM orchestrator.tasks AS lost
        WHERE lost.state = 'running' AND lost.lease_expires_at < clock_timestamp()
            AND (lost.engine_version = ANY (engine_versions)
                OR lost.deadline_at < clock_timestamp())
        ORDER BY lost.lease_expires_at
        LIMIT max_tasks
        FOR UPDATE SKIP LOCKED
    ) AS chosen
    WHERE t.tenant_id = chosen.tenant_id AND t.task_id = chosen.task_id
    RETURNING t.tenant_id, t.task_id
$$;

CREATE FUNCTION orchestrator.prune_tasks(retention interval, max_tasks integer)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH deleted AS (
        DELETE FROM orchestrator.tasks AS t
        USING (
            SELECT old.tenant_id, old.task_id FROM orchestrator.tasks AS old
            WHERE old.ended_at < clock_timestamp() - retention
            ORDER BY old.ended_at
            LIMIT max_tasks
            FOR UPDATE SKIP LOCKED
        ) AS chosen
        WHERE t.tenant_id = chosen.tenant_id AND t.task_id = chosen.task_id
        RETURNING 1
    )
    SELECT count(*) FROM deleted
$$;

REVOKE ALL ON FUNCTION orchestrator.renew_leases(uuid[], uuid[], integer[], double precision)
    FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.take_over_tasks(integer, double precision, integer[])
    FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.prune_tasks(interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.renew_leases(uuid[], uuid[], integer[], double precision)
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.take_over_tasks(integer, double precision, integer[])
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.prune_tasks(interval, integer) TO meshwright_orchestrator;
