-- Which waiting tasks are put into the queues: of each lane a window, filled so that the tenants
-- with the least in the queues and at work come first. What waits beyond it stays in this table,
-- where a tenant that submits later can still pass it.

DROP INDEX orchestrator.tasks_to_dispatch;
CREATE INDEX tasks_to_dispatch ON orchestrator.tasks (lane, tenant_id, dispatch_due_at)
    WHERE state = 'queued';
CREATE INDEX tasks_offered ON orchestrator.tasks (lane, tenant_id)
    WHERE state = 'queued' AND dispatches > 0;
CREATE INDEX tasks_at_work ON orchestrator.tasks (lane, tenant_id)
    WHERE state = 'running' AND detached;

DROP FUNCTION orchestrator.pick_queued(integer, double precision, integer);

-- Tasks to put into their queues, and not to be picked by another process for `hold_seconds`. An
-- interactive task that was offered `most_offers` times is not offered again, but one that was
-- begun before, or that another one waits for, is. No lane gets more than `most_of_lane` into the
-- queues at a time.
CREATE FUNCTION orchestrator.pick_queued(
    most integer, hold_seconds double precision, most_offers integer, most_of_lane integer
) RETURNS TABLE (
    tenant_id uuid, task_id uuid, kind text, lane text, traceparent text, dispatches integer,
    remaining_seconds double precision
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE waiting (lane, tenant_id) AS (
        -- One step of the index for each tenant that waits in a lane, however much it has there.
        (SELECT q.lane, q.tenant_id FROM orchestrator.tasks AS q
          WHERE q.state = 'queued' ORDER BY q.lane, q.tenant_id LIMIT 1)
         UNION ALL
        SELECT following.lane, following.tenant_id
          FROM waiting AS w, LATERAL (
            SELECT q.lane, q.tenant_id FROM orchestrator.tasks AS q
             WHERE q.state = 'queued' AND (q.lane, q.tenant_id) > (w.lane, w.tenant_id)
             ORDER BY q.lane, q.tenant_id LIMIT 1) AS following
    ), offered AS (
        SELECT q.lane, q.tenant_id, count(*) AS tasks FROM orchestrator.tasks AS q
         WHERE q.state = 'queued' AND q.dispatches > 0
           AND q.dispatch_due_at > clock_timestamp()
         GROUP BY q.lane, q.tenant_id
    ), at_work AS (
        SELECT r.lane, r.tenant_id, count(*) AS tasks FROM orchestrator.tasks AS r
         WHERE r.state = 'running' AND r.detached
         GROUP BY r.lane, r.tenant_id
    ), room AS (
        SELECT w.lane, most_of_lane - coalesce(sum(o.tasks), 0) AS tasks
          FROM waiting AS w LEFT JOIN offered AS o USING (lane, tenant_id)
         GROUP BY w.lane
    ), candidates AS (
        SELECT due.tenant_id, due.task_id, w.lane, due.dispatch_due_at,
               due.place + coalesce(o.tasks, 0) + coalesce(a.tasks, 0) AS turn
          FROM waiting AS w
          JOIN room USING (lane)
          LEFT JOIN offered AS o USING (lane, tenant_id)
          LEFT JOIN at_work AS a USING (lane, tenant_id),
          LATERAL (
            SELECT q.tenant_id, q.task_id, q.dispatch_due_at,
                   row_number() OVER (ORDER BY q.dispatch_due_at) AS place
              FROM orchestrator.tasks AS q
             WHERE q.state = 'queued' AND q.lane = w.lane AND q.tenant_id = w.tenant_id
               AND q.dispatch_due_at <= clock_timestamp() AND q.deadline_at > clock_timestamp()
               AND NOT (q.lane = 'high' AND q.attempt = 0 AND q.parent_task_id IS NULL
                        AND q.dispatches >= most_offers)
             ORDER BY q.dispatch_due_at
             LIMIT least(most, greatest(room.tasks, 0))) AS due
    ), ranked AS (
        SELECT c.tenant_id, c.task_id, c.turn, c.dispatch_due_at, room.tasks AS room,
               row_number() OVER (PARTITION BY c.lane ORDER BY c.turn, c.dispatch_due_at) AS place
          FROM candidates AS c JOIN room USING (lane)
    ), chosen AS (
        SELECT q.tenant_id, q.task_id
          FROM orchestrator.tasks AS q JOIN ranked AS r USING (tenant_id, task_id)
         WHERE r.place <= r.room AND q.state = 'queued'
           AND q.dispatch_due_at <= clock_timestamp()
         ORDER BY r.turn, r.dispatch_due_at
         LIMIT most
           FOR UPDATE OF q SKIP LOCKED)
    UPDATE orchestrator.tasks AS t
       SET dispatch_due_at = clock_timestamp() + make_interval(secs => hold_seconds)
      FROM chosen
     WHERE t.tenant_id = chosen.tenant_id AND t.task_id = chosen.task_id
    RETURNING t.tenant_id, t.task_id, t.kind, t.lane, t.traceparent, t.dispatches,
        extract(epoch FROM t.deadline_at - clock_timestamp())::float8
$$;

DROP FUNCTION orchestrator.count_queued(integer);

-- How much of each lane waits for a worker; what is to begin later does not wait yet.
CREATE FUNCTION orchestrator.count_queued(most integer)
RETURNS TABLE (lane text, tasks bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT counted.lane, count(*) FROM (
        SELECT q.lane FROM orchestrator.tasks AS q
         WHERE q.state = 'queued'
           AND (q.dispatches > 0 OR q.dispatch_due_at <= clock_timestamp())
         LIMIT most) AS counted
     GROUP BY counted.lane
$$;

REVOKE ALL ON FUNCTION orchestrator.pick_queued(integer, double precision, integer, integer)
    FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.count_queued(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.pick_queued(integer, double precision, integer, integer)
    TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.count_queued(integer) TO meshwright_orchestrator;
