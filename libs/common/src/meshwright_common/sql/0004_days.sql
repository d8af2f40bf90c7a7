-- The outbox in a partition a day: what is behind everybody goes by dropping a table, and a reader
-- looks only into the days at its cursor. Rows get a shard by their key, for the relays to share.

-- Gives a table with tenant_id the two policies that every such table has. Forced, so that they
-- bind the owner too, who passes by a policy of its own.
CREATE FUNCTION events.protect(wanted regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mine text := 'tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid';
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', wanted);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', wanted);
    EXECUTE format('CREATE POLICY tenant_isolation ON %s USING (%s) WITH CHECK (%s)',
                   wanted, mine, mine);
    EXECUTE format('CREATE POLICY owner_access ON %s TO meshwright_owner'
                   ' USING (true) WITH CHECK (true)', wanted);
END
$$;

ALTER TABLE events.outbox RENAME TO outbox_before_days;
ALTER TABLE events.outbox_before_days RENAME CONSTRAINT outbox_pkey TO outbox_before_days_pkey;
ALTER INDEX events.outbox_order RENAME TO outbox_before_days_order;
CREATE SEQUENCE events.outbox_numbers;

CREATE TABLE events.outbox (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    -- Numbers of a sequence can commit out of order; readers bound themselves by this one.
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint NOT NULL DEFAULT nextval('events.outbox_numbers'),
    partition_key text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    day date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    -- Which relay's turn an event is: one of 16, the same for all events of a key.
    shard smallint NOT NULL GENERATED ALWAYS AS
        ((hashtextextended(tenant_id::text || '/' || partition_key, 0) & 15)::smallint) STORED,
    -- An event is known by its id within a day: consumers know it for longer.
    PRIMARY KEY (tenant_id, event_id, day)
) PARTITION BY RANGE (day);

CREATE INDEX outbox_by_topic ON events.outbox (topic, transaction_id, "position");
CREATE INDEX outbox_by_shard ON events.outbox (shard, transaction_id, "position");
SELECT events.protect('events.outbox');
GRANT SELECT, INSERT ON events.outbox TO meshwright_services;
GRANT USAGE ON SEQUENCE events.outbox_numbers TO meshwright_services;

-- Takes rows of days that nobody prepared: an append never fails for the lack of a partition.
CREATE TABLE events.outbox_default PARTITION OF events.outbox DEFAULT;
SELECT events.protect('events.outbox_default');

-- Make the partition of a day, with what the default partition has of it. False when it is there,
-- or when somebody holds it up for longer than half a second.
CREATE FUNCTION events.make_day(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
    part text := 'outbox_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('meshwright.outbox.days', 0));
    IF to_regclass(format('events.%I', part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE events.%I (LIKE events.outbox INCLUDING DEFAULTS'
                   ' INCLUDING GENERATED) WITH (autovacuum_vacuum_insert_scale_factor = 0.2,'
                   ' autovacuum_vacuum_scale_factor = 0.05,'
                   ' autovacuum_analyze_scale_factor = 0.1)', part);
    PERFORM events.protect(format('events.%I', part)::regclass);
    LOCK TABLE events.outbox_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM events.outbox_default o WHERE o.day = $1 RETURNING o.*)'
        ' INSERT INTO events.%I (tenant_id, event_id, topic, transaction_id, "position",'
        ' partition_key, headers, body, created_at, day)'
        ' SELECT tenant_id, event_id, topic, transaction_id, "position", partition_key, headers,'
        ' body, created_at, day FROM moved', part) USING wanted;
    EXECUTE format('ALTER TABLE events.outbox ATTACH PARTITION events.%I'
                   ' FOR VALUES FROM (%L) TO (%L)', part, wanted, wanted + 1);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;

-- Make the partitions of today and of `ahead` days more. Returns how many were made.
CREATE FUNCTION events.make_days(ahead integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) FILTER (WHERE events.make_day((now() AT TIME ZONE 'UTC')::date + n))::integer
      FROM generate_series(0, least(ahead, 30)) AS n
$$;

SELECT events.make_days(3);
SELECT events.make_day(day)
  FROM (SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date AS day
          FROM events.outbox_before_days) AS had;
INSERT INTO events.outbox (tenant_id, event_id, topic, transaction_id, "position", partition_key,
                           headers, body, created_at, day)
SELECT tenant_id, event_id, topic, transaction_id, "position", partition_key, headers, body,
       created_at, (created_at AT TIME ZONE 'UTC')::date
  FROM events.outbox_before_days;
SELECT setval('events.outbox_numbers',
              (SELECT coalesce(max("position"), 0) + 1 FROM events.outbox_before_days));
DROP TABLE events.outbox_before_days CASCADE;

-- Cursors know the day of their last event. Numbers are given out within a day of the event's
-- moment, so nothing behind a cursor is older than the day before.
ALTER TABLE events.offsets ADD COLUMN day date NOT NULL DEFAULT '-infinity';

-- How far each shard was relayed to a broker.
CREATE TABLE events.relay_cursors (
    shard smallint PRIMARY KEY,
    transaction_id xid8 NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0,
    day date NOT NULL DEFAULT '-infinity',
    moved_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);
INSERT INTO events.relay_cursors (shard) SELECT generate_series(0, 15);
GRANT SELECT, UPDATE ON events.relay_cursors TO meshwright_services;

REVOKE ALL ON FUNCTION events.protect(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.make_day(date) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.make_days(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.make_days(integer) TO meshwright_services;
