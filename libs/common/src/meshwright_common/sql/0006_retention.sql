-- Retention of an outbox in days, and the fitting of a restored log to another server.

-- Delete up to `most` events of a topic that are older than `retention` and that every known
-- consumer of the embedded log has passed. Returns how many.
CREATE FUNCTION events.prune_log(wanted_topic text, retention interval, most integer)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    pruned bigint;
    deleted bigint := 0;
BEGIN
    FOR part IN
        SELECT i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'events.outbox'::regclass
           AND (c.relname = 'outbox_default'
                OR c.relname <= 'outbox_'
                   || to_char((now() - retention) AT TIME ZONE 'UTC', 'YYYYMMDD'))
         ORDER BY c.relname
    LOOP
        EXIT WHEN deleted >= most;
        EXECUTE format($sql$
            DELETE FROM %s o WHERE o.ctid = ANY (ARRAY(
                SELECT old.ctid FROM %s old
                 WHERE old.topic = $1 AND old.created_at < now() - $2
                   AND NOT EXISTS (
                        SELECT FROM events.offsets c
                         WHERE c.topic = $1
                           AND (c.transaction_id, c."position")
                               < (old.transaction_id, old."position"))
                 ORDER BY old.transaction_id, old."position"
                 LIMIT $3 FOR UPDATE SKIP LOCKED))
            $sql$, part, part) USING wanted_topic, retention, most - deleted;
        GET DIAGNOSTICS pruned = ROW_COUNT;
        deleted := deleted + pruned;
    END LOOP;
    RETURN deleted;
END
$$;

-- Forget up to `most` ids that were handled, longer ago than the event can be read again, and up
-- to `most` dead letters of a topic after 14 days. Returns the larger of both numbers.
CREATE FUNCTION events.forget(wanted_topic text, retention interval, most integer)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
    expired bigint;
BEGIN
    -- Longer than the event itself, so that a replay of the whole topic changes nothing.
    DELETE FROM events.inbox i WHERE i.ctid = ANY (ARRAY(
        SELECT old.ctid FROM events.inbox old
         WHERE old.topic = wanted_topic
           AND old.handled_at < now() - greatest(retention + interval '1 day', interval '7 days')
         ORDER BY old.handled_at LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM events.dead_letters d WHERE d.ctid = ANY (ARRAY(
        SELECT old.ctid FROM events.dead_letters old
         WHERE old.topic = wanted_topic AND old.died_at < now() - interval '14 days'
         ORDER BY old.died_at LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS expired = ROW_COUNT;
    RETURN greatest(forgotten, expired);
END
$$;

-- Drop the partitions of past days that nobody needs: when `relayed`, those that are older than a
-- day and behind every relay cursor; else the empty ones. What somebody holds is left for next time.
-- Returns how many days were dropped.
CREATE FUNCTION events.drop_days(relayed boolean) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $$
DECLARE
    part regclass;
    needed boolean;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'events.outbox'::regclass
           AND c.relname < 'outbox_'
               || to_char((now() - interval '24 hours') AT TIME ZONE 'UTC', 'YYYYMMDD')
         ORDER BY c.relname
    LOOP
        EXECUTE format(CASE WHEN relayed THEN
            'SELECT EXISTS (SELECT FROM events.relay_cursors c CROSS JOIN LATERAL ('
            ' SELECT FROM %s o WHERE o.shard = c.shard AND (o.transaction_id, o."position")'
            ' > (c.transaction_id, c."position") LIMIT 1) AS unsent)'
            ELSE 'SELECT EXISTS (SELECT FROM %s)' END, part) INTO needed;
        CONTINUE WHEN needed;
        BEGIN
            EXECUTE format('DROP TABLE %s', part);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
    IF relayed THEN
        DELETE FROM events.outbox_default o USING events.relay_cursors c
         WHERE c.shard = o.shard AND o.created_at < now() - interval '24 hours'
           AND (o.transaction_id, o."position") <= (c.transaction_id, c."position");
    END IF;
    RETURN dropped;
END
$$;

-- As in 0003, and for the relay cursors: all of them go to the place of the one that is furthest
-- behind, for a server may hash keys to other shards. What is relayed twice is dropped by consumers.
CREATE OR REPLACE FUNCTION events.rebase() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_transaction xid8 := pg_snapshot_xmax(pg_current_snapshot());
    renumbered bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM events.outbox o WHERE o.transaction_id >= next_transaction)
       AND NOT EXISTS (SELECT FROM events.offsets c WHERE c.transaction_id >= next_transaction)
       AND NOT EXISTS (SELECT FROM events.relay_cursors c
                        WHERE c.transaction_id >= next_transaction)
    THEN
        RETURN 0;
    END IF;
    LOCK TABLE events.outbox, events.offsets, events.relay_cursors IN ACCESS EXCLUSIVE MODE;
    CREATE TEMPORARY TABLE renumbering ON COMMIT DROP AS
        SELECT o.tenant_id, o.event_id, o.day, o.topic, o.transaction_id, o."position",
               row_number() OVER (ORDER BY o.transaction_id, o."position") AS new_position
          FROM events.outbox o;
    UPDATE events.offsets c
       SET transaction_id = '3', day = '-infinity',
           "position" = coalesce(
               (SELECT max(r.new_position) FROM pg_temp.renumbering r
                 WHERE r.topic = c.topic
                   AND (r.transaction_id, r."position") <= (c.transaction_id, c."position")), 0);
    UPDATE events.relay_cursors
       SET transaction_id = '3', day = '-infinity',
           "position" = coalesce(
               (SELECT max(r.new_position)
                  FROM pg_temp.renumbering r,
                       (SELECT c.transaction_id, c."position" FROM events.relay_cursors c
                         ORDER BY c.transaction_id, c."position" LIMIT 1) AS last
                 WHERE (r.transaction_id, r."position") <= (last.transaction_id, last."position")),
               0);
    UPDATE events.outbox o
       SET transaction_id = '3', "position" = r.new_position
      FROM pg_temp.renumbering r
     WHERE r.tenant_id = o.tenant_id AND r.event_id = o.event_id AND r.day = o.day;
    GET DIAGNOSTICS renumbered = ROW_COUNT;
    PERFORM setval('events.outbox_numbers',
                   greatest(renumbered, (SELECT last_value FROM events.outbox_numbers)));
    RETURN renumbered;
END
$$;

REVOKE ALL ON FUNCTION events.prune_log(text, interval, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.forget(text, interval, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.drop_days(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.prune_log(text, interval, integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.forget(text, interval, integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.drop_days(boolean) TO meshwright_services;
