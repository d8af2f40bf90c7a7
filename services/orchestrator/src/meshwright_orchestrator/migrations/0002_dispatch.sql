-- Tasks that wait for a worker. This table rebuilds the work queues, whatever happens to them: a
-- task that is queued and due is put into its queue (again), and taking one twice is harmless.
ALTER TABLE orchestrator.tasks
    -- It was handed to the workers: nobody waits for it.
    ADD COLUMN detached boolean NOT NULL DEFAULT false,
    ADD COLUMN lane text NOT NULL DEFAULT 'normal' CHECK (lane IN ('high', 'normal', 'low')),
    ADD COLUMN kind text NOT NULL DEFAULT 'chat',
    ADD COLUMN traceparent text NOT NULL DEFAULT '',
    -- How often a queue confirmed to have it.
    ADD COLUMN dispatches integer NOT NULL DEFAULT 0,
    -- When it is to be put into its queue (again).
    ADD COLUMN dispatch_due_at timestamptz,
    ADD CHECK ((state = 'queued') <= (dispatch_due_at IS NOT NULL));

CREATE INDEX tasks_to_dispatch ON orchestrator.tasks (dispatch_due_at) WHERE state = 'queued';
CREATE INDEX tasks_queued_deadline ON orchestrator.tasks (deadline_at) WHERE state = 'queued';

-- Each state that a task was in, each attempt: written by the change itself.
CREATE TABLE orchestrator.transitions (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    "number" bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL,
    attempt integer NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, task_id, "number"),
    FOREIGN KEY (tenant_id, task_id) REFERENCES orchestrator.tasks ON DELETE CASCADE
);

ALTER TABLE orchestrator.transitions ENABLE ROW LEVEL SECURITY;
ALTER TABLE orchestrator.transitions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON orchestrator.transitions
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON orchestrator.transitions TO meshwright_owner
    USING (true) WITH CHECK (true);

REVOKE UPDATE, DELETE ON orchestrator.transitions FROM meshwright_orchestrator;
GRANT SELECT, INSERT ON orchestrator.transitions TO meshwright_orchestrator;

CREATE FUNCTION orchestrator.record_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO orchestrator.transitions (tenant_id, task_id, state, attempt)
    VALUES (NEW.tenant_id, NEW.task_id, NEW.state, NEW.attempt);
    RETURN NULL;
END
$$;

CREATE TRIGGER task_begins AFTER INSERT ON orchestrator.tasks
    FOR EACH ROW EXECUTE FUNCTION orchestrator.record_transition();
CREATE TRIGGER task_changes AFTER UPDATE OF state, attempt ON orchestrator.tasks
    FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt)
    EXECUTE FUNCTION orchestrator.record_transition();

-- Doors across tenants, for the process itself: names of tasks, no content. None of them waits for
-- a row that somebody else is at: ends are written many in a transaction, and whoever waits for one
-- of these while holding others may wait in a circle.

-- Tasks to put into their queues, and not to be picked by another process for `hold_seconds`. An
-- interactive task that was offered `most_offers` times is not offered again.
CREATE FUNCTION orchestrator.pick_queued(
    most integer, hold_seconds double precision, most_offers integer
) RETURNS TABLE (
    tenant_id uuid, task_id uuid, kind text, lane text, traceparent text, dispatches integer,
    remaining_seconds double precision
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE orchestrator.tasks AS t
       SET dispatch_due_at = clock_timestamp() + make_interval(secs => hold_seconds)
      FROM (
        SELECT due.tenant_id, due.task_id FROM orchestrator.tasks AS due
         WHERE due.state = 'queued' AND due.dispatch_due_at <= clock_timestamp()
           AND due.deadline_at > clock_timestamp()
           AND NOT (due.lane = 'high' AND due.dispatches >= most_offers)
         ORDER BY due.dispatch_due_at
         LIMIT most
           FOR UPDATE SKIP LOCKED) AS chosen
     WHERE t.tenant_id = chosen.tenant_id AND t.task_id = chosen.task_id
    RETURNING t.tenant_id, t.task_id, t.kind, t.lane, t.traceparent, t.dispatches,
        extract(epoch FROM t.deadline_at - clock_timestamp())::float8
$$;

-- The queues have these: put them again when they are still here after `again_seconds`.
CREATE FUNCTION orchestrator.mark_dispatched(
    tenant_ids uuid[], task_ids uuid[], again_seconds double precision[]
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE orchestrator.tasks AS t
       SET dispatches = t.dispatches + 1,
           dispatch_due_at = clock_timestamp() + make_interval(secs => free.seconds)
      FROM (
        SELECT q.tenant_id, q.task_id, put.seconds
          FROM unnest(tenant_ids, task_ids, again_seconds) AS put (tenant_id, task_id, seconds)
          JOIN orchestrator.tasks AS q
            ON q.tenant_id = put.tenant_id AND q.task_id = put.task_id AND q.state = 'queued'
           -- One that is being claimed needs no mark.
           FOR UPDATE OF q SKIP LOCKED) AS free
     WHERE t.tenant_id = free.tenant_id AND t.task_id = free.task_id
$$;

-- The queues may have lost what they had: all of it is due now. What they lost was no offer.
CREATE FUNCTION orchestrator.dispatch_again(most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH again AS (
        UPDATE orchestrator.tasks AS t
           SET dispatches = 0, dispatch_due_at = clock_timestamp()
          FROM (
            SELECT q.tenant_id, q.task_id FROM orchestrator.tasks AS q
             WHERE q.state = 'queued' AND q.dispatches > 0
             LIMIT most
               FOR UPDATE SKIP LOCKED) AS lost
         WHERE t.tenant_id = lost.tenant_id AND t.task_id = lost.task_id
        RETURNING 1)
    SELECT count(*) FROM again
$$;

-- Queued tasks whose time is over, or that were offered in vain as often as they may be.
CREATE FUNCTION orchestrator.overdue_tasks(most integer, most_offers integer)
RETURNS TABLE (tenant_id uuid, task_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT late.tenant_id, late.task_id FROM orchestrator.tasks AS late
      WHERE late.state = 'queued' AND late.deadline_at <= clock_timestamp()
      ORDER BY late.deadline_at LIMIT most)
     UNION
    (SELECT vain.tenant_id, vain.task_id FROM orchestrator.tasks AS vain
      WHERE vain.state = 'queued' AND vain.dispatch_due_at <= clock_timestamp()
        AND vain.lane = 'high' AND vain.dispatches >= most_offers
      ORDER BY vain.dispatch_due_at LIMIT most)
$$;

CREATE FUNCTION orchestrator.count_queued(most integer) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FROM (
        SELECT FROM orchestrator.tasks AS q WHERE q.state = 'queued' LIMIT most) AS counted
$$;

-- As before, but a task whose row is just being written is not waited for: its lease is renewed
-- the next time.
CREATE OR REPLACE FUNCTION orchestrator.renew_leases(
    tenant_ids uuid[], task_ids uuid[], epochs integer[], seconds double precision
) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH mine AS MATERIALIZED (
        SELECT t.tenant_id, t.task_id
          FROM unnest(tenant_ids, task_ids, epochs) AS named (tenant_id, task_id, epoch)
          JOIN orchestrator.tasks AS t
            ON t.tenant_id = named.tenant_id AND t.task_id = named.task_id
               AND t.lease_epoch = named.epoch AND t.state = 'running'
    ), free AS (
        SELECT t.tenant_id, t.task_id FROM orchestrator.tasks AS t
          JOIN mine USING (tenant_id, task_id)
           FOR UPDATE OF t SKIP LOCKED
    ), renewed AS (
        UPDATE orchestrator.tasks AS t
           SET lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
          FROM free
          JOIN unnest(tenant_ids, task_ids, epochs) AS named (tenant_id, task_id, epoch)
            ON named.tenant_id = free.tenant_id AND named.task_id = free.task_id
         WHERE t.tenant_id = free.tenant_id AND t.task_id = free.task_id
           AND t.lease_epoch = named.epoch AND t.state = 'running'
    )
    SELECT mine.task_id FROM mine
$$;

REVOKE ALL ON FUNCTION orchestrator.record_transition() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.pick_queued(integer, double precision, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.mark_dispatched(uuid[], uuid[], double precision[])
    FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.dispatch_again(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.overdue_tasks(integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.count_queued(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.pick_queued(integer, double precision, integer)
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.mark_dispatched(uuid[], uuid[], double precision[])
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.dispatch_again(integer) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.overdue_tasks(integer, integer) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.count_queued(integer) TO meshwright_orchestrator;
