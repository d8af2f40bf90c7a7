-- Erasing what the log holds of a user or a tenant: doors within the tenant that is set, for the
-- service that erases. Records for the audit stay: they hold ids only, and their time is bounded.

CREATE FUNCTION events.tenant_that_is_set() RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(current_setting('app.tenant_id', true), '')::uuid
$$;

-- Whether an event is one of a user, by its key or by what it says; of an empty user each one is.
-- Ids of users are UUIDs: nothing else looks like one.
CREATE FUNCTION events.names(of_user text, partition_key text, body bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT of_user = '' OR partition_key = of_user
        OR position(convert_to(of_user, 'UTF8') IN body) > 0
$$;

-- Deletes up to `most` events of the current tenant, or those that name `of_user`, once nobody needs
-- them: with `relayed`, what is behind the relay cursors; else what every known consumer has read.
-- Says how many.
CREATE FUNCTION events.erase_events(of_user text, relayed boolean, most integer)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    erased bigint;
BEGIN
    -- By the rows' places, of whatever day: a join would read all of the log.
    WITH found AS MATERIALIZED (
        SELECT f.tableoid AS part, f.ctid AS place FROM events.outbox AS f
         WHERE f.tenant_id = events.tenant_that_is_set() AND f.topic <> 'audit.log'
           AND events.names(of_user, f.partition_key, f.body)
           AND NOT events.is_needed(relayed, f.topic, f.shard, f.transaction_id, f."position")
         LIMIT most
           FOR UPDATE SKIP LOCKED
    )
    DELETE FROM events.outbox AS o
     WHERE o.ctid = ANY (ARRAY(SELECT place FROM found))
       AND (o.tableoid, o.ctid) IN (SELECT part, place FROM found);
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;

-- Counts, up to `most`, what `erase_events` has yet to delete, needed or not.
CREATE FUNCTION events.count_events(of_user text, most integer)
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) FROM (
        SELECT FROM events.outbox AS f
         WHERE f.tenant_id = events.tenant_that_is_set() AND f.topic <> 'audit.log'
           AND events.names(of_user, f.partition_key, f.body)
         LIMIT most) AS counted
$$;

-- Deletes work of the current tenant that waits or was given up. Items hold ids of tasks, no user.
CREATE FUNCTION events.erase_work()
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH waiting AS (
        DELETE FROM events.work AS w
         WHERE w.tenant_id = events.tenant_that_is_set() RETURNING 1
    ), dead AS (
        DELETE FROM events.dead_work AS d
         WHERE d.tenant_id = events.tenant_that_is_set() RETURNING 1
    )
    SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM dead)
$$;

-- How much work of the current tenant waits or was given up.
CREATE FUNCTION events.count_work()
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (SELECT count(*) FROM events.work AS w
             WHERE w.tenant_id = events.tenant_that_is_set())
         + (SELECT count(*) FROM events.dead_work AS d
             WHERE d.tenant_id = events.tenant_that_is_set())
$$;

CREATE FUNCTION events.is_needed(
    relayed boolean, of_topic text, of_shard smallint, at_transaction xid8, at_position bigint
) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN relayed THEN EXISTS (
            SELECT FROM events.relay_cursors AS c
             WHERE c.shard = of_shard
               AND (c.transaction_id, c."position") < (at_transaction, at_position))
        ELSE EXISTS (
            SELECT FROM events.offsets AS c
             WHERE c.topic = of_topic
               AND (c.transaction_id, c."position") < (at_transaction, at_position)) END
$$;

REVOKE ALL ON FUNCTION events.erase_events(text, boolean, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.count_events(text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.erase_work() FROM PUBLIC;
REVOKE ALL ON FUNCTION events.count_work() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.erase_events(text, boolean, integer) TO meshwright_session;
GRANT EXECUTE ON FUNCTION events.count_events(text, integer) TO meshwright_session;
GRANT EXECUTE ON FUNCTION events.erase_work() TO meshwright_session;
GRANT EXECUTE ON FUNCTION events.count_work() TO meshwright_session;
GRANT EXECUTE ON FUNCTION events.tenant_that_is_set() TO meshwright_session;
GRANT EXECUTE ON FUNCTION events.names(text, text, bytea) TO meshwright_session;
