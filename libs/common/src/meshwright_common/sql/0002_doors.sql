-- The doors across tenants: a consumer reads its topics for all tenants and applies each event
-- under the event's own tenant; retention works on the whole log.

-- Events of a topic behind a cursor, in an order in which nothing can appear later: only
-- transactions older than every running one are read, ordered by transaction, then by position.
-- `held_back` says that more is committed but still behind a running transaction. One row with
-- nulls carries that flag when there is nothing to read.
CREATE FUNCTION events.read_log(
    wanted_topic text, after_transaction xid8, after_position bigint, most integer
) RETURNS TABLE (
    transaction_id xid8, "position" bigint, tenant_id uuid, event_id uuid,
    partition_key text, headers jsonb, body bytea, held_back boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH horizon AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin),
    readable AS (
        SELECT o.transaction_id, o."position", o.tenant_id, o.event_id, o.partition_key,
               o.headers, o.body
          FROM events.outbox o
         WHERE o.topic = wanted_topic
           AND (o.transaction_id, o."position") > (after_transaction, after_position)
           AND o.transaction_id < (SELECT xmin FROM horizon)
         ORDER BY o.transaction_id, o."position"
         LIMIT most
    ),
    held AS (
        SELECT EXISTS (
            SELECT FROM events.outbox o
             WHERE o.topic = wanted_topic AND o.transaction_id >= (SELECT xmin FROM horizon)
        ) AS held_back
    )
    SELECT r.transaction_id, r."position", r.tenant_id, r.event_id, r.partition_key,
           r.headers, r.body, h.held_back
      FROM held h LEFT JOIN readable r ON true
     ORDER BY r.transaction_id, r."position"
$$;

-- The first waiting event of each key, when its next try is due. Oldest first.
CREATE FUNCTION events.due_parked(wanted_consumer text, wanted_topic text, most integer)
RETURNS TABLE (
    tenant_id uuid, event_id uuid, partition_key text, headers jsonb, body bytea, origin text,
    attempts integer, deferrals integer, parked_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.tenant_id, h.event_id, h.partition_key, h.headers, h.body, h.origin,
           h.attempts, h.deferrals, h.parked_at
      FROM (
        SELECT DISTINCT ON (p.tenant_id, p.partition_key) p.*
          FROM events.parked p
         WHERE p.consumer = wanted_consumer AND p.topic = wanted_topic
         ORDER BY p.tenant_id, p.partition_key, p.arrival
      ) h
     WHERE h.due_at <= now()
     ORDER BY h.arrival
     LIMIT most
$$;

-- The keys of which an event waits: later ones have to wait behind it.
CREATE FUNCTION events.parked_keys(wanted_consumer text, wanted_topic text)
RETURNS TABLE (tenant_id uuid, partition_key text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT p.tenant_id, p.partition_key
      FROM events.parked p
     WHERE p.consumer = wanted_consumer AND p.topic = wanted_topic
$$;

-- Delete up to `most` events of a topic that are older than `retention` and that every known
-- consumer has passed, with what is remembered about them for longer. Returns how many events.
CREATE FUNCTION events.prune(wanted_topic text, retention interval, most integer)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM events.outbox o
     WHERE (o.tenant_id, o.event_id) IN (
        SELECT old.tenant_id, old.event_id
          FROM events.outbox old
         WHERE old.topic = wanted_topic
           AND old.created_at < now() - retention
           AND NOT EXISTS (
                SELECT FROM events.offsets c
                 WHERE c.topic = wanted_topic
                   AND (c.transaction_id, c."position") < (old.transaction_id, old."position"))
         ORDER BY old.transaction_id, old."position"
         LIMIT most
           FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    -- Longer than the event itself, so that a replay of the whole topic changes nothing.
    DELETE FROM events.inbox i
     WHERE i.topic = wanted_topic
       AND i.handled_at < now() - greatest(retention + interval '1 day', interval '7 days');
    DELETE FROM events.dead_letters d
     WHERE d.topic = wanted_topic AND d.died_at < now() - interval '14 days';
    RETURN deleted;
END
$$;

REVOKE ALL ON FUNCTION events.read_log(text, xid8, bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.due_parked(text, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.parked_keys(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.prune(text, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.read_log(text, xid8, bigint, integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.due_parked(text, text, integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.parked_keys(text, text) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.prune(text, interval, integer) TO meshwright_services;
