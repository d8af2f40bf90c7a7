-- Workflows, their versions, their runs, and what each run has done so far.

CREATE TABLE orchestrator.workflows (
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    newest integer NOT NULL CHECK (newest >= 1),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, workflow_id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE orchestrator.workflow_versions (
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    -- WorkflowDefinition, as sealed JSON.
    definition bytea NOT NULL,
    -- Keyed: equal for equal definitions only.
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, workflow_id, version),
    FOREIGN KEY (tenant_id, workflow_id) REFERENCES orchestrator.workflows ON DELETE CASCADE
);

-- What a request_id of CreateWorkflow asked for, for as long as somebody may repeat it.
CREATE TABLE orchestrator.workflow_requests (
    tenant_id uuid NOT NULL,
    subject text NOT NULL,
    request_id text NOT NULL CHECK (length(request_id) BETWEEN 1 AND 128),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, subject, request_id)
);

CREATE TABLE orchestrator.workflow_runs (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    workflow_version integer NOT NULL,
    subject text NOT NULL,
    -- Principal the run acts for: kind, permissions, roles. Never a credential.
    owner jsonb NOT NULL,
    correlation_id text NOT NULL,
    input bytea NOT NULL,
    output bytea,
    failure bytea,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired')),
    -- Counts the changes. Whoever read an older one writes nothing.
    revision integer NOT NULL DEFAULT 0,
    -- When to look at it although none of its children said anything. Null: never.
    due_at timestamptz,
    -- A process works on it until then, or until it writes.
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    start_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    level integer NOT NULL DEFAULT 1,
    usage jsonb NOT NULL DEFAULT '{}',
    schedule_id uuid,
    parent_run_id uuid,
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 128),
    request_digest bytea NOT NULL CHECK (octet_length(request_digest) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The outcome is known and the compensations are done.
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, run_id),
    FOREIGN KEY (tenant_id, workflow_id, workflow_version)
        REFERENCES orchestrator.workflow_versions ON DELETE CASCADE,
    CHECK ((ended_at IS NULL) OR state IN ('completed', 'failed', 'cancelled', 'expired'))
)
WITH (fillfactor = 80);

CREATE UNIQUE INDEX workflow_runs_request
    ON orchestrator.workflow_runs (tenant_id, subject, request_id) WHERE request_id <> '';
CREATE INDEX workflow_runs_of_subject
    ON orchestrator.workflow_runs (tenant_id, subject, run_id DESC);
CREATE INDEX workflow_runs_of_workflow
    ON orchestrator.workflow_runs (tenant_id, workflow_id, run_id DESC);
CREATE INDEX workflow_runs_of_schedule
    ON orchestrator.workflow_runs (tenant_id, schedule_id, run_id DESC)
    WHERE schedule_id IS NOT NULL;
CREATE INDEX workflow_runs_due ON orchestrator.workflow_runs (due_at) WHERE ended_at IS NULL;
CREATE INDEX workflow_runs_ended ON orchestrator.workflow_runs (ended_at)
    WHERE ended_at IS NOT NULL;

CREATE TABLE orchestrator.workflow_steps (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    state text NOT NULL,
    -- Items, output and error, as sealed JSON.
    content bytea NOT NULL,
    "order" integer NOT NULL DEFAULT 0,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, run_id, step),
    FOREIGN KEY (tenant_id, run_id) REFERENCES orchestrator.workflow_runs ON DELETE CASCADE
)
WITH (fillfactor = 80);

-- What a step is made of: one action, or one of each member of a list, each round of a loop, and
-- what undoes it.
CREATE TABLE orchestrator.workflow_items (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('action', 'compensation')),
    "number" integer NOT NULL CHECK ("number" >= 0),
    state text NOT NULL CHECK (state IN (
        'running', 'retrying', 'completed', 'failed', 'cancelled')),
    attempt integer NOT NULL,
    child_ids uuid[] NOT NULL DEFAULT '{}',
    waits boolean NOT NULL DEFAULT false,
    due_at timestamptz,
    -- Value, output and error, as sealed JSON.
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, run_id, step, kind, "number"),
    FOREIGN KEY (tenant_id, run_id) REFERENCES orchestrator.workflow_runs ON DELETE CASCADE
)
WITH (fillfactor = 80);

-- Each state that a run was in: written by the change itself.
CREATE TABLE orchestrator.workflow_transitions (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    revision integer NOT NULL,
    state text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, run_id, revision),
    FOREIGN KEY (tenant_id, run_id) REFERENCES orchestrator.workflow_runs ON DELETE CASCADE
);

-- Runs that something happened to: one of their children ended, or began to wait. Written beside
-- the row of the run and not into it: whoever ends a task waits for nobody.
CREATE SEQUENCE orchestrator.workflow_wake_numbers;
CREATE TABLE orchestrator.workflow_wakes (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    "number" bigint NOT NULL DEFAULT nextval('orchestrator.workflow_wake_numbers'),
    PRIMARY KEY (tenant_id, run_id, "number"),
    FOREIGN KEY (tenant_id, run_id) REFERENCES orchestrator.workflow_runs ON DELETE CASCADE
);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'workflows', 'workflow_versions', 'workflow_requests', 'workflow_runs', 'workflow_steps',
        'workflow_items', 'workflow_transitions', 'workflow_wakes'
    ] LOOP
        PERFORM events.protect_tenants(format('orchestrator.%I', v_table)::regclass);
        EXECUTE format('REVOKE ALL ON orchestrator.%I FROM meshwright_orchestrator', v_table);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON orchestrator.%I TO meshwright_orchestrator',
                       v_table);
    END LOOP;
END
$do$;
REVOKE UPDATE ON orchestrator.workflow_transitions, orchestrator.workflow_wakes
    FROM meshwright_orchestrator;
REVOKE UPDATE ON orchestrator.workflow_versions FROM meshwright_orchestrator;
GRANT DELETE ON orchestrator.workflows, orchestrator.workflow_versions,
    orchestrator.workflow_requests TO meshwright_orchestrator;
GRANT USAGE ON SEQUENCE orchestrator.workflow_wake_numbers TO meshwright_orchestrator;

SELECT encryption.declare_sealed('orchestrator.workflow_versions', 'definition',
    'workflow_id', 'version');
SELECT encryption.declare_sealed('orchestrator.workflow_runs', 'input', 'run_id');
SELECT encryption.declare_sealed('orchestrator.workflow_runs', 'output', 'run_id');
SELECT encryption.declare_sealed('orchestrator.workflow_runs', 'failure', 'run_id');
SELECT encryption.declare_sealed('orchestrator.workflow_steps', 'content', 'run_id', 'step');
SELECT encryption.declare_sealed('orchestrator.workflow_items', 'content',
    'run_id', 'step', 'kind', 'number');

SELECT events.place_by_tenant('orchestrator.workflows');
SELECT events.place_by_tenant('orchestrator.workflow_versions');
SELECT events.place_by_tenant('orchestrator.workflow_requests');
SELECT events.place_by_tenant('orchestrator.workflow_runs');
SELECT events.place_by_tenant('orchestrator.workflow_steps');
SELECT events.place_by_tenant('orchestrator.workflow_items');
SELECT events.place_by_tenant('orchestrator.workflow_transitions');
SELECT events.place_by_tenant('orchestrator.workflow_wakes');
-- Versions never change, but for who made them, when that user is forgotten.
GRANT UPDATE (created_by) ON orchestrator.workflow_versions TO meshwright_orchestrator;

-- Tasks that do a step's work wake their run.
ALTER TABLE orchestrator.tasks ADD COLUMN workflow_run_id uuid;
CREATE INDEX tasks_of_workflow_run ON orchestrator.tasks (tenant_id, workflow_run_id)
    WHERE workflow_run_id IS NOT NULL;

CREATE FUNCTION orchestrator.wake_run_of_task() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The run may be gone already: erased, or past its retention.
    INSERT INTO orchestrator.workflow_wakes (tenant_id, run_id)
    SELECT r.tenant_id, r.run_id FROM orchestrator.workflow_runs AS r
     WHERE r.tenant_id = NEW.tenant_id AND r.run_id = NEW.workflow_run_id
       AND r.ended_at IS NULL;
    -- A hint: the drivers look every second.
    PERFORM pg_notify('meshwright_tasks', 'changed ' || NEW.task_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER task_wakes_run AFTER UPDATE OF state ON orchestrator.tasks
    FOR EACH ROW WHEN (NEW.workflow_run_id IS NOT NULL AND OLD.state <> NEW.state
        AND (NEW.ended_at IS NOT NULL OR 'waiting' IN (OLD.state, NEW.state)))
    EXECUTE FUNCTION orchestrator.wake_run_of_task();

CREATE FUNCTION orchestrator.record_run_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO orchestrator.workflow_transitions (tenant_id, run_id, revision, state)
    VALUES (NEW.tenant_id, NEW.run_id, NEW.revision, NEW.state);
    RETURN NULL;
END
$$;
CREATE TRIGGER run_begins AFTER INSERT ON orchestrator.workflow_runs
    FOR EACH ROW EXECUTE FUNCTION orchestrator.record_run_state();
CREATE TRIGGER run_changes AFTER UPDATE OF state ON orchestrator.workflow_runs
    FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION orchestrator.record_run_state();

-- A run that is part of another one wakes that.
CREATE FUNCTION orchestrator.wake_parent_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO orchestrator.workflow_wakes (tenant_id, run_id)
    SELECT r.tenant_id, r.run_id FROM orchestrator.workflow_runs AS r
     WHERE r.tenant_id = NEW.tenant_id AND r.run_id = NEW.parent_run_id
       AND r.ended_at IS NULL;
    PERFORM pg_notify('meshwright_tasks', 'changed ' || NEW.run_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER run_wakes_parent AFTER UPDATE ON orchestrator.workflow_runs
    FOR EACH ROW WHEN (NEW.parent_run_id IS NOT NULL
        AND (OLD.ended_at IS DISTINCT FROM NEW.ended_at
            OR (OLD.state <> NEW.state AND 'waiting' IN (OLD.state, NEW.state))))
    EXECUTE FUNCTION orchestrator.wake_parent_run();

-- Doors across tenants, for the process itself: names of runs, no content.

-- Runs to look at, and not to be picked by another process for `hold_seconds`. Whoever picked one
-- before can write nothing any more. A run whose row somebody is writing is left for the next time,
-- and those of a tenant that is being moved are left until it is.
CREATE FUNCTION orchestrator.pick_runs(most integer, hold_seconds double precision)
RETURNS TABLE (tenant_id uuid, run_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_tenants uuid[];
    v_runs uuid[];
BEGIN
    -- Locked before the wakes are deleted; whoever picked them reads the run after that.
    SELECT array_agg(chosen.tenant_id), array_agg(chosen.run_id) INTO v_tenants, v_runs FROM (
        SELECT r.tenant_id, r.run_id FROM orchestrator.workflow_runs AS r
         WHERE r.ended_at IS NULL AND r.held_until <= clock_timestamp()
           AND NOT events.is_moving(r.tenant_id)
           AND (r.tenant_id, r.run_id) IN (
            (SELECT w.tenant_id, w.run_id FROM orchestrator.workflow_wakes AS w
               JOIN orchestrator.workflow_runs AS free USING (tenant_id, run_id)
              WHERE free.held_until <= clock_timestamp() LIMIT most)
             UNION
            (SELECT d.tenant_id, d.run_id FROM orchestrator.workflow_runs AS d
              WHERE d.ended_at IS NULL AND d.due_at <= clock_timestamp()
                AND d.held_until <= clock_timestamp()
              ORDER BY d.due_at LIMIT most))
         LIMIT most
           FOR NO KEY UPDATE SKIP LOCKED) AS chosen;
    IF v_runs IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM orchestrator.workflow_wakes AS w
     USING unnest(v_tenants, v_runs) AS mine (tenant_id, run_id)
     WHERE w.tenant_id = mine.tenant_id AND w.run_id = mine.run_id;
    RETURN QUERY
    UPDATE orchestrator.workflow_runs AS r
       SET revision = r.revision + 1,
           due_at = clock_timestamp() + make_interval(secs => hold_seconds),
           held_until = clock_timestamp() + make_interval(secs => hold_seconds)
      FROM unnest(v_tenants, v_runs) AS mine (tenant_id, run_id)
     WHERE r.tenant_id = mine.tenant_id AND r.run_id = mine.run_id
    RETURNING r.tenant_id, r.run_id;
END
$$;

CREATE FUNCTION orchestrator.prune_runs(retention interval, most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH deleted AS (
        DELETE FROM orchestrator.workflow_runs AS r
         USING (
            SELECT old.tenant_id, old.run_id FROM orchestrator.workflow_runs AS old
             WHERE old.ended_at < clock_timestamp() - retention
             ORDER BY old.ended_at
             LIMIT most
               FOR UPDATE SKIP LOCKED) AS chosen
         WHERE r.tenant_id = chosen.tenant_id AND r.run_id = chosen.run_id
        RETURNING 1
    ), requests AS (
        DELETE FROM orchestrator.workflow_requests AS q
         WHERE q.created_at < clock_timestamp() - retention
    )
    SELECT count(*) FROM deleted
$$;

-- The door by which runs are erased, within the tenant that is set, in whatever state they are:
-- whoever works on one finds its row gone and stops.
CREATE FUNCTION orchestrator.erase_runs(of_user text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    chosen uuid[];
BEGIN
    SELECT array_agg(found.run_id) INTO chosen FROM (
        SELECT r.run_id FROM orchestrator.workflow_runs AS r
         WHERE r.tenant_id = mine AND (of_user = '' OR r.subject = of_user)
         LIMIT most
           FOR UPDATE SKIP LOCKED) AS found;
    DELETE FROM orchestrator.workflow_runs AS r
     WHERE r.tenant_id = mine AND r.run_id = ANY (chosen);
    RETURN coalesce(cardinality(chosen), 0);
END
$$;

-- As before for tasks at work. What waits for people or a far time may do so for weeks: no door
-- writes it together with what others have, and runs of a tenant that moves are not picked.
CREATE OR REPLACE FUNCTION orchestrator.tenant_is_busy(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM orchestrator.tasks AS t
                    WHERE t.tenant_id = p_tenant_id AND t.state IN ('queued', 'running'))
$$;

REVOKE ALL ON FUNCTION orchestrator.wake_run_of_task() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.record_run_state() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.wake_parent_run() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.pick_runs(integer, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.prune_runs(interval, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.erase_runs(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.pick_runs(integer, double precision)
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.prune_runs(interval, integer) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.erase_runs(text, integer) TO meshwright_orchestrator;
