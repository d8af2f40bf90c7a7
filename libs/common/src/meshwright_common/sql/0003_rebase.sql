-- Transaction numbers belong to a server. After a restore of a dump on another one, numbers in the
-- log may lie ahead of that server's counter: such events would not be read, and later ones would
-- hide behind the cursors. This gives what is stored the lowest number there is, in the same
-- order, and moves the cursors along. Does nothing on a log that was not carried over. Returns how
-- many events were renumbered. Run by every migration.
CREATE FUNCTION events.rebase() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_transaction xid8 := pg_snapshot_xmax(pg_current_snapshot());
    renumbered bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM events.outbox o WHERE o.transaction_id >= next_transaction)
       AND NOT EXISTS (SELECT FROM events.offsets c WHERE c.transaction_id >= next_transaction)
    THEN
        RETURN 0;
    END IF;
    LOCK TABLE events.outbox, events.offsets IN ACCESS EXCLUSIVE MODE;
    CREATE TEMPORARY TABLE renumbering ON COMMIT DROP AS
        SELECT o.tenant_id, o.event_id, o.topic, o.transaction_id, o."position",
               row_number() OVER (ORDER BY o.transaction_id, o."position") AS new_position
          FROM events.outbox o;
    UPDATE events.offsets c
       SET transaction_id = '3',
           "position" = coalesce(
               (SELECT max(r.new_position) FROM pg_temp.renumbering r
                 WHERE r.topic = c.topic
                   AND (r.transaction_id, r."position") <= (c.transaction_id, c."position")), 0);
    -- Two steps, because the order is unique at every moment.
    UPDATE events.outbox o
       SET transaction_id = '3', "position" = -r.new_position
      FROM pg_temp.renumbering r
     WHERE r.tenant_id = o.tenant_id AND r.event_id = o.event_id;
    UPDATE events.outbox o SET "position" = -o."position" WHERE o."position" < 0;
    GET DIAGNOSTICS renumbered = ROW_COUNT;
    RETURN renumbered;
END
$$;

REVOKE ALL ON FUNCTION events.rebase() FROM PUBLIC;
