-- The work queues of `embedded:` dispatch. Items name work that is kept elsewhere.
-- No order is promised; "number" only names a row.

CREATE TABLE events.work (
    tenant_id uuid NOT NULL,
    "number" bigint GENERATED ALWAYS AS IDENTITY,
    item_id text NOT NULL CHECK (length(item_id) BETWEEN 1 AND 200),
    kind text NOT NULL,
    lane text NOT NULL CHECK (lane IN ('high', 'normal', 'low')),
    -- How often it failed before.
    attempt integer NOT NULL CHECK (attempt BETWEEN 0 AND 3),
    -- How often it was taken since.
    deliveries integer NOT NULL DEFAULT 0,
    traceparent text NOT NULL DEFAULT '',
    -- Not taken before: a retry waits, a taken item is hidden.
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (tenant_id, "number")
) WITH (
    -- A queue: rows live for milliseconds.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.1
);

CREATE INDEX work_due ON events.work (lane, kind, due_at);
CREATE INDEX work_expiry ON events.work (expires_at) WHERE expires_at < 'infinity';
CREATE INDEX work_failing ON events.work (deliveries) WHERE deliveries > 1;

CREATE TABLE events.dead_work (
    tenant_id uuid NOT NULL,
    "number" bigint NOT NULL,
    item_id text NOT NULL,
    kind text NOT NULL,
    lane text NOT NULL,
    attempt integer NOT NULL,
    traceparent text NOT NULL,
    reason text NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, "number")
);

CREATE INDEX dead_work_age ON events.dead_work (died_at);

ALTER TABLE events.work ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.work FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON events.work
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON events.work TO meshwright_owner USING (true) WITH CHECK (true);

ALTER TABLE events.dead_work ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.dead_work FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON events.dead_work
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON events.dead_work TO meshwright_owner USING (true) WITH CHECK (true);

-- Doors across tenants: items carry names, never content.

CREATE FUNCTION events.put_work(
    tenant_ids uuid[], item_ids text[], kinds text[], lanes text[], attempts integer[],
    expire_seconds double precision[], traceparents text[]
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO events.work (tenant_id, item_id, kind, lane, attempt, traceparent, expires_at)
    SELECT i.tenant_id, i.item_id, i.kind, i.lane, i.attempt, i.traceparent,
           coalesce(clock_timestamp() + make_interval(secs => i.seconds), 'infinity')
      FROM unnest(tenant_ids, item_ids, kinds, lanes, attempts, expire_seconds, traceparents)
        AS i (tenant_id, item_id, kind, lane, attempt, seconds, traceparent)
$$;

-- How many items of each lane could be taken now, counted to `most`.
CREATE FUNCTION events.waiting_work(wanted_kinds text[], most integer)
RETURNS TABLE (lane text, waiting integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.lane, (
        SELECT count(*)::integer FROM (
            SELECT FROM events.work w
             WHERE w.lane = l.lane AND w.kind = ANY (wanted_kinds)
               AND w.due_at <= clock_timestamp() AND w.expires_at > clock_timestamp()
             LIMIT most) AS counted)
      FROM (VALUES ('high'), ('normal'), ('low')) AS l (lane)
$$;

-- Take up to as many items of each lane as `shares` says, and hide them for `hidden_seconds`.
CREATE FUNCTION events.take_work(
    wanted_kinds text[], wanted_lanes text[], shares integer[], hidden_seconds double precision
) RETURNS SETOF events.work
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE events.work AS w
       SET deliveries = w.deliveries + 1,
           due_at = clock_timestamp() + make_interval(secs => hidden_seconds)
      FROM unnest(wanted_lanes, shares) AS wanted (lane, share)
     CROSS JOIN LATERAL (
        SELECT due.tenant_id, due."number" FROM events.work AS due
         WHERE due.lane = wanted.lane AND due.kind = ANY (wanted_kinds)
           AND due.due_at <= clock_timestamp() AND due.expires_at > clock_timestamp()
         ORDER BY due.due_at
         LIMIT wanted.share
           FOR UPDATE SKIP LOCKED) AS chosen
     WHERE w.tenant_id = chosen.tenant_id AND w."number" = chosen."number"
    RETURNING w.*
$$;

-- `delivered` fences: an item that was delivered to somebody else meanwhile is theirs.
CREATE FUNCTION events.settle_work(tenant_ids uuid[], numbers bigint[], delivered integer[])
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM events.work AS w
     USING unnest(tenant_ids, numbers, delivered) AS done (tenant_id, "number", deliveries)
     WHERE w.tenant_id = done.tenant_id AND w."number" = done."number"
       AND w.deliveries = done.deliveries
$$;

CREATE FUNCTION events.retry_work(
    of_tenant uuid, of_number bigint, delivered integer, delay_seconds double precision
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE events.work AS w
       SET attempt = w.attempt + 1, deliveries = 0, expires_at = 'infinity',
           due_at = clock_timestamp() + make_interval(secs => delay_seconds)
     WHERE w.tenant_id = of_tenant AND w."number" = of_number AND w.deliveries = delivered
$$;

CREATE FUNCTION events.reject_work(
    of_tenant uuid, of_number bigint, delivered integer, why text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH rejected AS (
        DELETE FROM events.work AS w
         WHERE w.tenant_id = of_tenant AND w."number" = of_number AND w.deliveries = delivered
        RETURNING w.*
    )
    INSERT INTO events.dead_work (
        tenant_id, "number", item_id, kind, lane, attempt, traceparent, reason)
    SELECT tenant_id, "number", item_id, kind, lane, attempt, traceparent, left(why, 500)
      FROM rejected
$$;

-- Make dead letters of what expired and of what was taken too often; forget old dead letters.
CREATE FUNCTION events.bury_work(delivery_limit integer)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM events.work AS w
         WHERE (w.tenant_id, w."number") IN (
            SELECT late.tenant_id, late."number" FROM events.work AS late
             WHERE late.expires_at <= clock_timestamp() AND late.due_at <= clock_timestamp()
             UNION ALL
            SELECT failing.tenant_id, failing."number" FROM events.work AS failing
             WHERE failing.deliveries > delivery_limit AND failing.due_at <= clock_timestamp())
        RETURNING w.*
    )
    INSERT INTO events.dead_work (
        tenant_id, "number", item_id, kind, lane, attempt, traceparent, reason)
    SELECT tenant_id, "number", item_id, kind, lane, attempt, traceparent,
           CASE WHEN deliveries > delivery_limit THEN 'delivery_limit' ELSE 'expired' END
      FROM gone;
    DELETE FROM events.dead_work AS d
     WHERE d.died_at < clock_timestamp() - interval '7 days';
$$;

CREATE FUNCTION events.take_dead_work(most integer)
RETURNS SETOF events.dead_work
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM events.dead_work AS d
     USING (
        SELECT old.tenant_id, old."number" FROM events.dead_work AS old
         ORDER BY old.died_at LIMIT most FOR UPDATE SKIP LOCKED) AS chosen
     WHERE d.tenant_id = chosen.tenant_id AND d."number" = chosen."number"
    RETURNING d.*
$$;

REVOKE ALL ON FUNCTION events.put_work(
    uuid[], text[], text[], text[], integer[], double precision[], text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.waiting_work(text[], integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.take_work(text[], text[], integer[], double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.settle_work(uuid[], bigint[], integer[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.retry_work(uuid, bigint, integer, double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.reject_work(uuid, bigint, integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.bury_work(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION events.take_dead_work(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.put_work(
    uuid[], text[], text[], text[], integer[], double precision[], text[]) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.waiting_work(text[], integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.take_work(text[], text[], integer[], double precision)
    TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.settle_work(uuid[], bigint[], integer[]) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.retry_work(uuid, bigint, integer, double precision)
    TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.reject_work(uuid, bigint, integer, text) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.bury_work(integer) TO meshwright_services;
GRANT EXECUTE ON FUNCTION events.take_dead_work(integer) TO meshwright_services;
