-- The doors of 0002 for an outbox in days, and those of the relays. Each plans anew: with the
-- cursor's day at hand the planner leaves out all other days, and planning two or three is cheap.

DROP FUNCTION events.read_log(text, xid8, bigint, integer);
DROP FUNCTION events.prune(text, interval, integer);

-- Claim a topic for one batch of a consumer, in this transaction, and read up to `most` events
-- behind its cursor. No row when another transaction has the claim. One row with nulls carries
-- `held_back` when there is nothing to read: then more is committed, but behind a running
-- transaction. The order is one in which nothing can appear later: only transactions older than
-- every running one are read, ordered by transaction, then by position.
CREATE FUNCTION events.take_batch(wanted_consumer text, wanted_topic text, most integer)
RETURNS TABLE (
    transaction_id bigint, "position" bigint, day date, tenant_id uuid, event_id uuid,
    partition_key text, headers jsonb, body bytea, held_back boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
    after_transaction xid8;
    after_position bigint;
    first_day date;
    horizon xid8;
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(
        'meshwright.consumer/' || wanted_consumer || '/' || wanted_topic, 0))
    THEN
        RETURN;
    END IF;
    SELECT c.transaction_id, c."position", c.day - 1
      INTO after_transaction, after_position, first_day
      FROM events.offsets c WHERE c.consumer = wanted_consumer AND c.topic = wanted_topic;
    IF NOT FOUND THEN
        -- From now on retention knows that this consumer has not passed anything.
        INSERT INTO events.offsets (consumer, topic) VALUES (wanted_consumer, wanted_topic)
        ON CONFLICT DO NOTHING;
        after_transaction := '0';
        after_position := 0;
        first_day := '-infinity';
    END IF;
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    held_back := EXISTS (
        SELECT FROM events.outbox o
         WHERE o.topic = wanted_topic AND o.transaction_id >= horizon
           AND o.day >= today - 1);
    RETURN QUERY
        SELECT o.transaction_id::text::bigint, o."position", o.day, o.tenant_id, o.event_id,
               o.partition_key, o.headers, o.body, held_back
          FROM events.outbox o
         WHERE o.topic = wanted_topic
           AND (o.transaction_id, o."position") > (after_transaction, after_position)
           AND o.transaction_id < horizon
           AND o.day >= first_day
         ORDER BY o.transaction_id, o."position"
         LIMIT most;
    IF NOT FOUND THEN
        -- Once a day, so that after a quiet time nobody has to look into all of its days.
        UPDATE events.offsets c
           SET transaction_id = (horizon::text::bigint - 1)::text::xid8,
               "position" = 9223372036854775807, day = today, moved_at = now()
         WHERE c.consumer = wanted_consumer AND c.topic = wanted_topic AND c.day < today;
        RETURN NEXT;
    END IF;
END
$$;

-- Claim up to `most_shards` shards that no other transaction has, looking from `first_shard` on,
-- and read what each holds behind its cursor: up to `most` events and, after the first of a shard,
-- `most_bytes` of bodies. In order within each shard, as `take_batch`. `claimed` says how many
-- shards were had; it and `held_back` come in a row with nulls when there is nothing to read.
-- `stale` are those claimed whose cursor is of an earlier day than `today`: if nothing is read of
-- one, its cursor may move to just below `horizon`, so that nobody looks into the days between.
-- Trap: the claim is no row lock. That would give this transaction a number, and while it waits
-- for the broker, everybody's horizon would wait for it.
CREATE FUNCTION events.claim_shards(
    first_shard integer, most_shards integer, most integer, most_bytes bigint
) RETURNS TABLE (
    shard smallint, transaction_id bigint, "position" bigint, day date, tenant_id uuid,
    event_id uuid, topic text, partition_key text, headers jsonb, body bytea,
    claimed integer, held_back boolean, stale smallint[], horizon bigint, today date
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
    mine smallint[] := '{}';
    candidate smallint;
    first_day date;
    oldest_running xid8;
BEGIN
    today := (now() AT TIME ZONE 'UTC')::date;
    FOR n IN 0..15 LOOP
        EXIT WHEN cardinality(mine) >= most_shards;
        candidate := ((first_shard + n) & 15)::smallint;
        IF pg_try_advisory_xact_lock(hashtextextended('meshwright.shard/' || candidate, 0)) THEN
            mine := mine || candidate;
        END IF;
    END LOOP;
    claimed := cardinality(mine);
    held_back := false;
    IF claimed > 0 THEN
        SELECT min(c.day) - 1 INTO first_day
          FROM events.relay_cursors c WHERE c.shard = ANY (mine);
        oldest_running := pg_snapshot_xmin(pg_current_snapshot());
        horizon := oldest_running::text::bigint;
        SELECT coalesce(array_agg(c.shard), '{}') INTO stale
          FROM events.relay_cursors c WHERE c.shard = ANY (mine) AND c.day < today;
        held_back := EXISTS (
            SELECT FROM events.outbox o
             WHERE o.shard = ANY (mine) AND o.transaction_id >= oldest_running
               AND o.day >= today - 1);
        RETURN QUERY
            SELECT r.shard, r.transaction_id::text::bigint, r."position", r.day, r.tenant_id,
                   r.event_id, r.topic, r.partition_key, r.headers, r.body, claimed, held_back,
                   stale, horizon, today
              FROM events.relay_cursors c
             CROSS JOIN LATERAL (
                SELECT o.*, sum(octet_length(o.body)) OVER (
                           ORDER BY o.transaction_id, o."position"
                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
                  FROM (SELECT * FROM events.outbox p
                         WHERE p.shard = c.shard
                           AND (p.transaction_id, p."position") > (c.transaction_id, c."position")
                           AND p.transaction_id < oldest_running
                           AND p.day >= first_day
                         ORDER BY p.transaction_id, p."position"
                         LIMIT most) o
             ) r
             WHERE c.shard = ANY (mine) AND coalesce(r.bytes_before, 0) < most_bytes
             ORDER BY r.shard, r.transaction_id, r."position";
    END IF;
    IF NOT FOUND OR claimed = 0 THEN
        shard := NULL;
        RETURN NEXT;
    END IF;
END
$$;

-- How many events wait to be relayed, counted up to 10 000 a shard, and for how long the oldest
-- has waited.
CREATE FUNCTION events.relay_backlog(OUT waiting bigint, OUT oldest_seconds float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
    first_day date;
BEGIN
    SELECT min(c.day) - 1 INTO first_day FROM events.relay_cursors c;
    SELECT coalesce(sum(r.waiting), 0)::bigint,
           coalesce(extract(epoch FROM now() - min(r.oldest)), 0)::float8
      INTO waiting, oldest_seconds
      FROM events.relay_cursors c
     CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, min(o.created_at) AS oldest
          FROM (SELECT p.created_at FROM events.outbox p
                 WHERE p.shard = c.shard
                   AND (p.transaction_id, p."position") > (c.transaction_id, c."position")
                   AND p.day >= first_day
                 ORDER BY p.transaction_id, p."position"
                 LIMIT 10000) o
     ) r;
END
$$;

-- How many events of a topic a consumer of the embedded log has before it, counted up to 10 000.
CREATE FUNCTION events.log_lag(wanted_consumer text, wanted_topic text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
    after events.offsets;
BEGIN
    SELECT * INTO after FROM events.offsets c
     WHERE c.consumer = wanted_consumer AND c.topic = wanted_topic;
    RETURN (SELECT count(*) FROM (
        SELECT FROM events.outbox o
         WHERE o.topic = wanted_topic
           AND (o.transaction_id, o."position")
               > (coalesce(after.transaction_id, '0'), coalesce(after."position", 0))
           AND o.day >= coalesce(after.day, '-infinity') - 1
         LIMIT 10000) AS ahead);
END
$$;

-- The keys of a topic of which an event waits, each once: later ones have to wait behind it. With
-- the first event of a key when its next try is due; up to `most` of those, and to one transaction
-- at a time.
CREATE FUNCTION events.waiting(wanted_consumer text, wanted_topic text, most integer)
RETURNS TABLE (
    tenant_id uuid, partition_key text, event_id uuid, headers jsonb, body bytea, origin text,
    attempts integer, deferrals integer, waited_seconds float8
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mine boolean := false;
BEGIN
    IF EXISTS (SELECT FROM events.parked p
                WHERE p.consumer = wanted_consumer AND p.topic = wanted_topic
                  AND p.due_at <= now())
    THEN
        mine := pg_try_advisory_xact_lock(hashtextextended(
            'meshwright.parked/' || wanted_consumer || '/' || wanted_topic, 0));
    END IF;
    RETURN QUERY
        WITH heads AS (
            SELECT DISTINCT ON (p.tenant_id, p.partition_key) p.*
              FROM events.parked p
             WHERE p.consumer = wanted_consumer AND p.topic = wanted_topic
             ORDER BY p.tenant_id, p.partition_key, p.arrival
        ), ranked AS (
            SELECT h.*, mine AND h.due_at <= now() AS is_due,
                   row_number() OVER (ORDER BY h.due_at <= now() DESC, h.arrival) AS turn
              FROM heads h
        )
        SELECT r.tenant_id, r.partition_key,
               CASE WHEN r.is_due AND r.turn <= most THEN r.event_id END,
               CASE WHEN r.is_due AND r.turn <= most THEN r.headers END,
               CASE WHEN r.is_due AND r.turn <= most THEN r.body END,
               r.origin, r.attempts, r.deferrals,
               extract(epoch FROM now() - r.parked_at)::float8
          FROM ranked r
         ORDER BY r.turn;
END
$$;
DROP FUNCTION events.due_parked(text, text, integer);
DROP FUNCTION events.parked_keys(text, text);

REVOKE ALL ON FUNCTION events.take_batch(text, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.claim_shards(integer, integer, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.relay_backlog() FROM PUBLIC;
REVOKE ALL ON FUNCTION events.log_lag(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.waiting(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.take_batch(text, text, integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.claim_shards(integer, integer, integer, bigint)
    TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.relay_backlog() TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.log_lag(text, text) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.waiting(text, text, integer) TO meshwright_services;
