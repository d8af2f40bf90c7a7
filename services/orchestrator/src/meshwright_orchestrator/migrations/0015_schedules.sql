-- Schedules: what starts by the clock. Whoever moves due_at on starts the run in the same
-- transaction, so that there is one for each firing however many processes look.
CREATE TABLE orchestrator.schedules (
    tenant_id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    -- User whose rights its runs have.
    created_by text NOT NULL,
    -- The rights they have at most. Null: all of the user's.
    granted text[],
    cron text CHECK (length(cron) <= 200),
    every interval CHECK (every > interval '0'),
    once_at timestamptz,
    time_zone text NOT NULL DEFAULT 'UTC',
    -- As the creator gave them.
    start_at timestamptz,
    end_at timestamptz,
    workflow_id uuid,
    -- Sealed: the task, or the input of the workflow's runs, as JSON.
    target bytea NOT NULL,
    missed_runs text NOT NULL CHECK (missed_runs IN ('latest', 'skip', 'all')),
    paused boolean NOT NULL DEFAULT false,
    pause_reason text NOT NULL DEFAULT '',
    -- First firing that nothing was decided about. Null: there are no more.
    due_at timestamptz,
    -- When it is looked at next; later than due_at while something keeps it from firing.
    look_at timestamptz,
    last_run_at timestamptz,
    last_run_id uuid,
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 128),
    request_digest bytea NOT NULL CHECK (octet_length(request_digest) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, schedule_id),
    UNIQUE (tenant_id, name),
    CHECK (num_nonnulls(cron, every, once_at) = 1),
    CHECK ((due_at IS NULL) = (look_at IS NULL))
) PARTITION BY LIST (tenant_id);

CREATE UNIQUE INDEX schedules_request ON orchestrator.schedules (tenant_id, created_by, request_id)
    WHERE request_id <> '';
CREATE INDEX schedules_due ON orchestrator.schedules (look_at) WHERE NOT paused;

SELECT events.place_by_tenant('orchestrator.schedules');
SELECT encryption.declare_sealed('orchestrator.schedules', 'target', 'schedule_id');
GRANT SELECT, INSERT, UPDATE, DELETE ON orchestrator.schedules TO meshwright_orchestrator;

-- A door across tenants, for the process itself: which schedules have something to decide. It
-- writes nothing: whoever dies after it has held up nobody.
CREATE FUNCTION orchestrator.due_schedules(most integer)
RETURNS TABLE (tenant_id uuid, schedule_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT due.tenant_id, due.schedule_id FROM orchestrator.schedules AS due
     WHERE NOT due.paused AND due.look_at <= clock_timestamp()
     ORDER BY due.look_at LIMIT most
$$;

REVOKE ALL ON FUNCTION orchestrator.due_schedules(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.due_schedules(integer) TO meshwright_orchestrator;
