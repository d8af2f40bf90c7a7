-- A session has one turn at work or waiting for a person; others are queued behind it, or take its
-- place. And: turns that wait, turns that answer again, ratings.

-- Whatever the checks are called in a table that was partitioned since.
DO $do$
DECLARE
    v_name text;
BEGIN
    FOR v_name IN
        SELECT conname FROM pg_constraint
         WHERE conrelid = 'chat.turns'::regclass AND contype = 'c'
           AND pg_get_constraintdef(oid) LIKE '%running%'
    LOOP
        EXECUTE format('ALTER TABLE chat.turns DROP CONSTRAINT %I', v_name);
    END LOOP;
END
$do$;

ALTER TABLE chat.turns
    -- running: at work, or about to be taken up by anybody. waiting: for a person; its task says when
    -- that is over. stopping: fenced, its place not yet free. queued: behind the one that has it.
    ADD CHECK (state IN ('running', 'waiting', 'stopping', 'queued',
                         'completed', 'failed', 'cancelled')),
    ADD CHECK ((state IN ('running', 'waiting', 'stopping', 'queued')) = (ended_at IS NULL)),
    ADD CHECK (outcome IS NOT NULL OR state NOT IN ('completed', 'failed')),
    -- Order in the queue: those that take a place go before those that wait for one. 0: not queued.
    ADD COLUMN queue_class smallint NOT NULL DEFAULT 0,
    ADD COLUMN queue_number bigint NOT NULL DEFAULT 0,
    -- A turn that has not begun by then fails.
    ADD COLUMN queue_expires_at timestamptz,
    -- What became of it when another one took its place, or will when its turn comes.
    ADD COLUMN stop_policy text NOT NULL DEFAULT ''
        CHECK (stop_policy IN ('', 'interrupt', 'rollback')),
    -- Sealed: what it waits for, and how far its task was told.
    ADD COLUMN waiting bytea,
    ADD COLUMN waiting_since timestamptz,
    -- When its task is looked at next.
    ADD COLUMN look_at timestamptz,
    -- Turn that this one answers again; null: none.
    ADD COLUMN regenerates uuid,
    -- Its question and answer left the session.
    ADD COLUMN withdrawn boolean NOT NULL DEFAULT false,
    ADD COLUMN rating smallint NOT NULL DEFAULT 0 CHECK (rating BETWEEN -1 AND 1),
    -- Sealed.
    ADD COLUMN rating_comment bytea;

SELECT encryption.declare_sealed('chat.turns', 'waiting', 'turn_id');
SELECT encryption.declare_sealed('chat.turns', 'rating_comment', 'turn_id');

-- One turn a session, whatever it is at.
DROP INDEX chat.turns_running;
CREATE UNIQUE INDEX turns_place ON chat.turns (tenant_id, session_id)
    WHERE state IN ('running', 'waiting', 'stopping');
DROP INDEX chat.turns_leases;
CREATE INDEX turns_leases ON chat.turns (lease_expires_at) WHERE state IN ('running', 'stopping');
CREATE INDEX turns_queued ON chat.turns (tenant_id, session_id, queue_class, queue_number)
    WHERE state = 'queued';
CREATE INDEX turns_overdue ON chat.turns (queue_expires_at) WHERE state = 'queued';
CREATE INDEX turns_looks ON chat.turns (look_at) WHERE state = 'waiting';

-- Whoever frees the place, and however, gives it to the next, in the same statement. A turn that was
-- itself told to stop gets it only to be ended in order. Its lease is over: anybody takes it up.
CREATE FUNCTION chat.give_place_on() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE chat.turns AS t
       SET state = CASE WHEN t.stop_policy = '' THEN 'running' ELSE 'stopping' END,
           lease_expires_at = clock_timestamp()
     WHERE t.tenant_id = NEW.tenant_id AND t.turn_id = (
               SELECT q.turn_id FROM chat.turns AS q
                WHERE q.tenant_id = NEW.tenant_id AND q.session_id = NEW.session_id
                  AND q.state = 'queued'
                ORDER BY q.queue_class, q.queue_number
                LIMIT 1
                  FOR UPDATE)
       AND t.state = 'queued'
       AND NOT EXISTS (SELECT FROM chat.turns AS p
                        WHERE p.tenant_id = NEW.tenant_id AND p.session_id = NEW.session_id
                          AND p.state IN ('running', 'waiting', 'stopping'));
    RETURN NULL;
END
$function$;
REVOKE EXECUTE ON FUNCTION chat.give_place_on() FROM PUBLIC;
CREATE TRIGGER place_is_free AFTER UPDATE OF state ON chat.turns
    FOR EACH ROW WHEN (OLD.state IN ('running', 'waiting', 'stopping')
                       AND NEW.state NOT IN ('running', 'waiting', 'stopping'))
    EXECUTE FUNCTION chat.give_place_on();

-- Those that wait for a person, or in a queue, do no work.
CREATE OR REPLACE FUNCTION chat.running_turns(p_tenant_id uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('meshwright.chat.turns/' || p_tenant_id, 0));
    RETURN (SELECT count(*) FROM chat.turns t
             WHERE t.tenant_id = p_tenant_id AND t.state IN ('running', 'stopping'));
END
$function$;

CREATE OR REPLACE FUNCTION chat.renew_leases(
    tenant_ids uuid[], turn_ids uuid[], epochs integer[], seconds double precision
) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE chat.turns AS t
    SET lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
    FROM unnest(tenant_ids, turn_ids, epochs) AS mine (tenant_id, turn_id, epoch)
    WHERE t.tenant_id = mine.tenant_id AND t.turn_id = mine.turn_id
        AND t.lease_epoch = mine.epoch AND t.state IN ('running', 'stopping')
    RETURNING t.turn_id
$$;

-- Being stopped is no attempt.
CREATE OR REPLACE FUNCTION chat.take_over_turns(max_turns integer, seconds double precision)
RETURNS TABLE (tenant_id uuid, turn_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE chat.turns AS t
    SET attempt = t.attempt + CASE t.state WHEN 'running' THEN 1 ELSE 0 END,
        lease_epoch = t.lease_epoch + 1,
        lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
    FROM (
        SELECT lost.tenant_id, lost.turn_id FROM chat.turns AS lost
        WHERE lost.state IN ('running', 'stopping') AND lost.lease_expires_at < clock_timestamp()
        ORDER BY lost.lease_expires_at
        LIMIT max_turns
        FOR UPDATE SKIP LOCKED
    ) AS chosen
    WHERE t.tenant_id = chosen.tenant_id AND t.turn_id = chosen.turn_id
    RETURNING t.tenant_id, t.turn_id
$$;

-- Door across tenants: waiting turns whose task is to be looked at, and queued ones that waited too
-- long. Whoever acts on them does so in their own tenant, and looks again.
CREATE FUNCTION chat.due_turns(max_turns integer)
RETURNS TABLE (tenant_id uuid, turn_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    (SELECT t.tenant_id, t.turn_id FROM chat.turns AS t
      WHERE t.state = 'waiting' AND t.look_at < clock_timestamp()
      ORDER BY t.look_at LIMIT max_turns)
    UNION ALL
    (SELECT t.tenant_id, t.turn_id FROM chat.turns AS t
      WHERE t.state = 'queued' AND t.queue_expires_at < clock_timestamp()
      ORDER BY t.queue_expires_at LIMIT max_turns)
$$;
REVOKE ALL ON FUNCTION chat.due_turns(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.due_turns(integer) TO meshwright_chat;

-- Waiting for a person may take days; a move of the tenant does not wait for that.
CREATE OR REPLACE FUNCTION chat.tenant_is_busy(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM chat.turns AS t
                    WHERE t.tenant_id = p_tenant_id
                      AND t.state IN ('running', 'stopping', 'queued'))
$$;
