-- Tasks that wait without a worker: for people, for their children, for a time. Whatever brings the
-- last thing queues the task again in the same transaction.
--
-- Whoever is about to lock several tasks of one tree locks its row in orchestrator.trees first:
-- ends, wakes and cancels of a tree come one after the other and cannot wait in a circle.
ALTER TABLE orchestrator.tasks
    -- The task that waits for this one.
    ADD COLUMN parent_task_id uuid,
    -- First task of the tree. Null: it never had children, and is none.
    ADD COLUMN root_task_id uuid,
    ADD COLUMN depth integer NOT NULL DEFAULT 0,
    -- How often it waited. Each wait ends with a new attempt that no crash caused.
    ADD COLUMN waits integer NOT NULL DEFAULT 0,
    -- The step that waits, or waited last, and since when.
    ADD COLUMN wait_step integer,
    ADD COLUMN waiting_since timestamptz,
    -- When a step that sleeps goes on.
    ADD COLUMN wait_until timestamptz,
    -- Time of people is none of the task's: the deadline moves on by it.
    ADD COLUMN for_people boolean NOT NULL DEFAULT false;

CREATE INDEX tasks_of_parent ON orchestrator.tasks (tenant_id, parent_task_id)
    WHERE parent_task_id IS NOT NULL;
CREATE INDEX tasks_of_tree ON orchestrator.tasks (tenant_id, root_task_id)
    WHERE root_task_id IS NOT NULL;
CREATE INDEX tasks_that_sleep ON orchestrator.tasks (wait_until) WHERE state = 'waiting';
CREATE INDEX tasks_that_wait ON orchestrator.tasks (deadline_at) WHERE state = 'waiting';

-- Kinds of steps are the journal's to know (adapters/step_rows.py).
ALTER TABLE orchestrator.steps DROP CONSTRAINT steps_kind_check;

-- What a tree of tasks may use, and has used. Its root has the row from its first children on.
CREATE TABLE orchestrator.trees (
    tenant_id uuid NOT NULL,
    root_task_id uuid NOT NULL,
    -- 0: no bound.
    max_steps bigint NOT NULL DEFAULT 0,
    max_tokens bigint NOT NULL DEFAULT 0,
    max_cost_micro_usd bigint NOT NULL DEFAULT 0,
    max_depth integer NOT NULL,
    max_tasks integer NOT NULL,
    steps bigint NOT NULL,
    tokens bigint NOT NULL,
    cost_micro_usd bigint NOT NULL,
    tasks integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, root_task_id),
    FOREIGN KEY (tenant_id, root_task_id) REFERENCES orchestrator.tasks ON DELETE CASCADE
);
SELECT events.protect_tenants('orchestrator.trees');
REVOKE DELETE ON orchestrator.trees FROM meshwright_orchestrator;
GRANT SELECT, INSERT, UPDATE ON orchestrator.trees TO meshwright_orchestrator;
SELECT events.place_by_tenant('orchestrator.trees');

-- What people are asked. Question and answer are sealed.
CREATE TABLE orchestrator.interrupts (
    tenant_id uuid NOT NULL,
    interrupt_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step integer NOT NULL,
    "index" integer NOT NULL,
    subject text NOT NULL,
    kind text NOT NULL,
    -- closed: the task ended before anybody answered.
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'answered', 'expired', 'closed')),
    question bytea NOT NULL,
    answer bytea,
    -- The request that answered it: the same one again is no second answer.
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 128),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (tenant_id, interrupt_id),
    FOREIGN KEY (tenant_id, task_id) REFERENCES orchestrator.tasks ON DELETE CASCADE,
    CHECK ((state = 'answered') = (answer IS NOT NULL)),
    CHECK ((state = 'open') = (closed_at IS NULL))
);
CREATE INDEX interrupts_of_task ON orchestrator.interrupts (tenant_id, task_id, step, "index");
CREATE INDEX interrupts_open ON orchestrator.interrupts (tenant_id, created_at, interrupt_id)
    WHERE state = 'open';
CREATE INDEX interrupts_due ON orchestrator.interrupts (expires_at) WHERE state = 'open';
SELECT events.protect_tenants('orchestrator.interrupts');
REVOKE DELETE ON orchestrator.interrupts FROM meshwright_orchestrator;
GRANT SELECT, INSERT, UPDATE ON orchestrator.interrupts TO meshwright_orchestrator;
SELECT events.place_by_tenant('orchestrator.interrupts');

SELECT encryption.declare_sealed('orchestrator.interrupts', 'question', 'interrupt_id');
SELECT encryption.declare_sealed('orchestrator.interrupts', 'answer', 'interrupt_id');

-- Locks a task, and its tree before it. The tenant is the one that is set.
CREATE FUNCTION orchestrator.lock_task(p_tenant_id uuid, p_task_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_root uuid;
BEGIN
    SELECT t.root_task_id INTO v_root FROM orchestrator.tasks AS t
     WHERE t.tenant_id = p_tenant_id AND t.task_id = p_task_id;
    IF v_root IS NOT NULL THEN
        PERFORM FROM orchestrator.trees AS r
          WHERE r.tenant_id = p_tenant_id AND r.root_task_id = v_root FOR UPDATE;
    END IF;
    PERFORM FROM orchestrator.tasks AS t
      WHERE t.tenant_id = p_tenant_id AND t.task_id = p_task_id FOR UPDATE;
END
$$;

-- Queues a task that waits when nothing is left to wait for; says whether it did. Each statement
-- sees what was committed before the lock was had: of two that bring the last things at the same
-- time, the second one sees both.
CREATE FUNCTION orchestrator.wake(p_tenant_id uuid, p_task_id uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_task orchestrator.tasks;
    v_deadline timestamptz;
BEGIN
    SELECT t.* INTO v_task FROM orchestrator.tasks AS t
     WHERE t.tenant_id = p_tenant_id AND t.task_id = p_task_id FOR UPDATE;
    IF v_task.state IS DISTINCT FROM 'waiting' OR v_task.wait_until > clock_timestamp() THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM orchestrator.interrupts AS i
                WHERE i.tenant_id = p_tenant_id AND i.task_id = p_task_id AND i.state = 'open')
        OR EXISTS (SELECT FROM orchestrator.tasks AS c
                    WHERE c.tenant_id = p_tenant_id AND c.parent_task_id = p_task_id
                      AND c.ended_at IS NULL) THEN
        RETURN false;
    END IF;
    v_deadline := v_task.deadline_at;
    IF v_task.for_people THEN
        v_deadline := v_deadline + (clock_timestamp() - v_task.waiting_since);
        -- Those that wait for this one have as long as it has.
        WITH RECURSIVE waiting AS (
            SELECT v_task.parent_task_id AS task_id
            UNION
            SELECT t.parent_task_id FROM orchestrator.tasks AS t
              JOIN waiting AS w ON t.tenant_id = p_tenant_id AND t.task_id = w.task_id
        )
        UPDATE orchestrator.tasks AS t
           SET deadline_at = v_deadline
          FROM waiting AS w
         WHERE t.tenant_id = p_tenant_id AND t.task_id = w.task_id
           AND t.deadline_at < v_deadline AND t.ended_at IS NULL;
    END IF;
    UPDATE orchestrator.tasks AS t
       SET state = 'queued', dispatch_due_at = clock_timestamp(), dispatches = 0,
           deadline_at = v_deadline, updated_at = clock_timestamp()
     WHERE t.tenant_id = p_tenant_id AND t.task_id = p_task_id;
    RETURN true;
END
$$;

-- Nobody answers the questions of a task that ended, and whoever waits for it hears of it.
CREATE FUNCTION orchestrator.close_interrupts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE orchestrator.interrupts AS i
       SET state = 'closed', closed_at = clock_timestamp()
     WHERE i.tenant_id = NEW.tenant_id AND i.task_id = NEW.task_id AND i.state = 'open';
    RETURN NULL;
END
$$;

CREATE FUNCTION orchestrator.wake_parent() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM orchestrator.wake(NEW.tenant_id, NEW.parent_task_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER task_stops_waiting AFTER UPDATE OF state ON orchestrator.tasks
    FOR EACH ROW WHEN (OLD.state = 'waiting' AND NEW.ended_at IS NOT NULL)
    EXECUTE FUNCTION orchestrator.close_interrupts();
CREATE TRIGGER task_is_child AFTER UPDATE OF state ON orchestrator.tasks
    FOR EACH ROW WHEN (NEW.parent_task_id IS NOT NULL AND NEW.ended_at IS NOT NULL
        AND OLD.ended_at IS NULL)
    EXECUTE FUNCTION orchestrator.wake_parent();

-- Doors across tenants, for the process itself: names of tasks, no content.

-- Tasks with something that is due: their sleep is over, or nobody answered in time.
CREATE FUNCTION orchestrator.due_waits(most integer) RETURNS TABLE (tenant_id uuid, task_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT t.tenant_id, t.task_id FROM orchestrator.tasks AS t
      WHERE t.state = 'waiting' AND t.wait_until <= clock_timestamp()
      ORDER BY t.wait_until LIMIT most)
     UNION
    (SELECT i.tenant_id, i.task_id FROM orchestrator.interrupts AS i
      WHERE i.state = 'open' AND i.expires_at <= clock_timestamp()
      ORDER BY i.expires_at LIMIT most)
$$;

-- Waiting tasks whose time is over. While somebody of their tree waits for people, it is not.
CREATE FUNCTION orchestrator.overdue_waits(most integer)
RETURNS TABLE (tenant_id uuid, task_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tenant_id, t.task_id FROM orchestrator.tasks AS t
     WHERE t.state = 'waiting' AND t.deadline_at <= clock_timestamp() AND NOT t.for_people
       AND NOT EXISTS (SELECT FROM orchestrator.tasks AS other
                        WHERE other.tenant_id = t.tenant_id
                          AND other.root_task_id = t.root_task_id
                          AND other.state = 'waiting' AND other.for_people)
     ORDER BY t.deadline_at LIMIT most
$$;

-- As before; only a task that was handed in and never begun can have been offered in vain.
CREATE OR REPLACE FUNCTION orchestrator.overdue_tasks(most integer, most_offers integer)
RETURNS TABLE (tenant_id uuid, task_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT late.tenant_id, late.task_id FROM orchestrator.tasks AS late
      WHERE late.state = 'queued' AND late.deadline_at <= clock_timestamp()
      ORDER BY late.deadline_at LIMIT most)
     UNION
    (SELECT vain.tenant_id, vain.task_id FROM orchestrator.tasks AS vain
      WHERE vain.state = 'queued' AND vain.dispatch_due_at <= clock_timestamp()
        AND vain.lane = 'high' AND vain.attempt = 0 AND vain.parent_task_id IS NULL
        AND vain.dispatches >= most_offers
      ORDER BY vain.dispatch_due_at LIMIT most)
$$;

-- As before; a child is kept for as long as its tree has not ended, which may yet read its result.
CREATE OR REPLACE FUNCTION orchestrator.prune_tasks(retention interval, max_tasks integer)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH deleted AS (
        DELETE FROM orchestrator.tasks AS t
        USING (
            SELECT old.tenant_id, old.task_id FROM orchestrator.tasks AS old
             WHERE old.ended_at < clock_timestamp() - retention
               AND NOT EXISTS (SELECT FROM orchestrator.tasks AS r
                                WHERE r.tenant_id = old.tenant_id
                                  AND r.task_id = old.root_task_id AND r.ended_at IS NULL)
             ORDER BY old.ended_at
             LIMIT max_tasks
               FOR UPDATE SKIP LOCKED
        ) AS chosen
        WHERE t.tenant_id = chosen.tenant_id AND t.task_id = chosen.task_id
        RETURNING 1
    )
    SELECT count(*) FROM deleted
$$;

-- As before, with what their people were asked and what their trees used.
CREATE OR REPLACE FUNCTION orchestrator.erase_tasks(of_user text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    chosen uuid[];
BEGIN
    SELECT array_agg(found.task_id) INTO chosen FROM (
        SELECT t.task_id FROM orchestrator.tasks AS t
         WHERE t.tenant_id = mine AND (of_user = '' OR t.subject = of_user)
         LIMIT most
           FOR UPDATE SKIP LOCKED) AS found;
    DELETE FROM orchestrator.steps AS s
     WHERE s.tenant_id = mine AND s.task_id = ANY (chosen);
    DELETE FROM orchestrator.transitions AS s
     WHERE s.tenant_id = mine AND s.task_id = ANY (chosen);
    DELETE FROM orchestrator.interrupts AS s
     WHERE s.tenant_id = mine AND s.task_id = ANY (chosen);
    DELETE FROM orchestrator.trees AS s
     WHERE s.tenant_id = mine AND s.root_task_id = ANY (chosen);
    DELETE FROM orchestrator.tasks AS t
     WHERE t.tenant_id = mine AND t.task_id = ANY (chosen);
    RETURN coalesce(cardinality(chosen), 0);
END
$$;

REVOKE ALL ON FUNCTION orchestrator.lock_task(uuid, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.wake(uuid, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.close_interrupts() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.wake_parent() FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.due_waits(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION orchestrator.overdue_waits(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.lock_task(uuid, uuid) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.wake(uuid, uuid) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.due_waits(integer) TO meshwright_orchestrator;
GRANT EXECUTE ON FUNCTION orchestrator.overdue_waits(integer) TO meshwright_orchestrator;
