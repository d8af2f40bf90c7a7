-- The audit log by month, its signed checkpoints, and where a chain begins whose oldest months were
-- dropped.

ALTER TABLE audit_records RENAME TO audit_records_whole;
ALTER TABLE audit_records_whole DROP CONSTRAINT audit_records_pkey;
DROP INDEX audit_records_time, audit_records_actor;

CREATE TABLE audit_records (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    event_id uuid NOT NULL,
    time timestamptz NOT NULL,
    -- The latest time of this and all earlier records of the chain: what it is kept by, so that
    -- months of a chain can be dropped in its order. It follows from the times, which are hashed.
    filed_at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    outcome text NOT NULL,
    source text NOT NULL,
    request_id text NOT NULL,
    -- Canonical JSON, as text: jsonb would write numbers in another way than was hashed.
    details text NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    -- A sequence is there once because the head's lock gives it out.
    PRIMARY KEY (tenant_id, sequence, filed_at)
) PARTITION BY RANGE (filed_at);
CREATE INDEX audit_records_actor ON audit_records (tenant_id, actor, sequence);
SELECT protect_tenants('audit_records');
REVOKE UPDATE, DELETE ON audit_records FROM meshwright_session;

-- Which events are in the chain: a unique key across months, which partitions cannot have.
CREATE TABLE audit_events (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    filed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX audit_events_filed ON audit_events USING brin (filed_at);
SELECT protect_tenants('audit_events');
REVOKE UPDATE, DELETE ON audit_events FROM meshwright_session;

ALTER TABLE audit_heads
    ADD COLUMN filed_at timestamptz NOT NULL DEFAULT 'epoch',
    -- The last checkpoint: its number, the record it ends with, when it was signed.
    ADD COLUMN checkpoint_number bigint NOT NULL DEFAULT 0,
    ADD COLUMN checkpoint_sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN checkpoint_time timestamptz NOT NULL DEFAULT 'epoch';

-- Signed statements about the end of a chain, numbered without gaps.
CREATE TABLE audit_checkpoints (
    tenant_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    sequence bigint NOT NULL,
    time timestamptz NOT NULL,
    document text NOT NULL,
    signature bytea NOT NULL,
    -- Whether object storage has it. False: it comes there soon.
    stored boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX audit_checkpoints_sequence ON audit_checkpoints (tenant_id, sequence);
CREATE INDEX audit_checkpoints_unstored ON audit_checkpoints (tenant_id, number) WHERE NOT stored;
SELECT protect_tenants('audit_checkpoints');
REVOKE UPDATE, DELETE ON audit_checkpoints FROM meshwright_session;
GRANT UPDATE (stored) ON audit_checkpoints TO meshwright_session;

-- Signed statements about the last record of a chain that was dropped.
CREATE TABLE audit_anchors (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    document text NOT NULL,
    signature bytea NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
SELECT protect_tenants('audit_anchors');
REVOKE UPDATE, DELETE ON audit_anchors FROM meshwright_session;

-- A head goes forward only, whoever moves it.
CREATE FUNCTION refuse_to_go_back() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'the end of an audit chain only moves forward' USING ERRCODE = '23514';
END
$function$;
CREATE TRIGGER audit_heads_forward BEFORE UPDATE ON audit_heads
    FOR EACH ROW
    WHEN (
        NEW.sequence < OLD.sequence
        OR (NEW.sequence = OLD.sequence AND NEW.hash <> OLD.hash)
        OR NEW.filed_at < OLD.filed_at
        OR NEW.checkpoint_number < OLD.checkpoint_number
        OR NEW.checkpoint_sequence < OLD.checkpoint_sequence
    )
    EXECUTE FUNCTION refuse_to_go_back();

-- Makes the months that are missing, so many after this one or up to p_until; says how many.
CREATE FUNCTION make_audit_months(p_months_ahead integer, p_until timestamptz DEFAULT '-infinity')
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC'
AS $function$
DECLARE
    v_month timestamptz;
    v_last timestamptz := greatest(
        date_trunc('month', now()) + make_interval(months => p_months_ahead), p_until
    );
    v_made integer := 0;
BEGIN
    IF p_months_ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months ahead must be 0 to 24' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('meshwright.session.audit-months'));
    SELECT max(ends) INTO v_month FROM session.months_of('audit_records');
    IF v_month IS NULL THEN
        v_month := date_trunc('month', now());
        PERFORM session.add_partition('session.audit_records', 'earlier', NULL, v_month);
        v_made := v_made + 1;
    END IF;
    WHILE v_month <= v_last LOOP
        PERFORM session.add_partition(
            'session.audit_records', to_char(v_month, 'YYYY_MM'),
            v_month, v_month + interval '1 month'
        );
        v_made := v_made + 1;
        v_month := v_month + interval '1 month';
    END LOOP;
    RETURN v_made;
END
$function$;
REVOKE EXECUTE ON FUNCTION make_audit_months(integer, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_audit_months(integer, timestamptz) TO meshwright_session;

-- Before which moment months of records go, when each record is kept for so many days.
CREATE FUNCTION audit_kept_since(p_days integer) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
BEGIN ATOMIC
    SELECT date_trunc('month', now() - make_interval(days => p_days));
END;

-- Of each tenant the last record that is about to be dropped, as far as no anchor names it yet.
-- Tenant by tenant, by index: a month may have millions of records.
CREATE FUNCTION audit_unanchored(p_days integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, sequence bigint, hash bytea, filed_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT h.tenant_id, last.sequence, last.hash, last.filed_at
      FROM session.audit_heads h,
           LATERAL (SELECT r.sequence, r.hash, r.filed_at
                      FROM session.audit_records r
                     WHERE r.tenant_id = h.tenant_id
                       AND r.filed_at < session.audit_kept_since(p_days)
                     ORDER BY r.sequence DESC LIMIT 1) last
     WHERE NOT EXISTS (SELECT FROM session.audit_anchors a
                        WHERE a.tenant_id = h.tenant_id AND a.sequence = last.sequence)
     ORDER BY h.tenant_id
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION audit_unanchored(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_unanchored(integer, integer) TO meshwright_session;

-- Drops the months whose every chain has an anchor at its last record there; says how many months.
-- -1: somebody uses the table, ask again. It waits for the table so briefly that no writer notices.
CREATE FUNCTION drop_audit_months(p_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '40ms' SET timezone = 'UTC'
AS $function$
DECLARE
    v_kept_since timestamptz := session.audit_kept_since(p_days);
    v_months regclass[];
    v_month regclass;
BEGIN
    IF p_days < 1 THEN
        RAISE EXCEPTION 'days must be 1 or more' USING ERRCODE = '22023';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('meshwright.session.audit-months')) THEN
        RETURN -1;
    END IF;
    SELECT array_agg(m.month ORDER BY m.ends) INTO v_months
      FROM session.months_of('audit_records') m
     WHERE m.ends <= v_kept_since;
    -- What lies before all months is always there.
    IF coalesce(cardinality(v_months), 0) < 2 THEN
        RETURN 0;
    END IF;
    -- Nobody adds a record to them behind the one that an anchor names; who writes to later months
    -- is not held up.
    FOREACH v_month IN ARRAY v_months LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', v_month);
    END LOOP;
    IF EXISTS (SELECT FROM session.audit_unanchored(p_days, 1)) THEN
        RETURN 0;
    END IF;
    FOREACH v_month IN ARRAY v_months LOOP
        EXECUTE format('DROP TABLE %s', v_month);
    END LOOP;
    -- For whom is told late of what happened then.
    PERFORM session.add_partition('session.audit_records', 'earlier', NULL, v_kept_since);
    RETURN cardinality(v_months) - 1;
EXCEPTION WHEN lock_not_available THEN
    RETURN -1;
END
$function$;
REVOKE EXECUTE ON FUNCTION drop_audit_months(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_audit_months(integer) TO meshwright_session;

-- Tenants whose chain has grown since their last checkpoint: by so many records, or at all when
-- that is so many seconds old.
CREATE FUNCTION audit_due(p_seconds double precision, p_records bigint, p_limit integer)
RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT h.tenant_id
      FROM session.audit_heads h
     WHERE h.sequence > h.checkpoint_sequence
       AND (h.sequence - h.checkpoint_sequence >= p_records
            OR h.checkpoint_time <= clock_timestamp() - make_interval(secs => p_seconds))
     ORDER BY h.checkpoint_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION audit_due(double precision, bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_due(double precision, bigint, integer) TO meshwright_session;

-- Checkpoints that object storage does not have yet.
CREATE FUNCTION audit_unstored(p_limit integer) RETURNS TABLE (tenant_id uuid, number bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id, c.number FROM session.audit_checkpoints c
     WHERE NOT c.stored
     ORDER BY c.tenant_id, c.number
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION audit_unstored(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_unstored(integer) TO meshwright_session;

-- Checkpoints of dropped records only, but for the last one of each tenant.
CREATE FUNCTION audit_expired_checkpoints(p_limit integer)
RETURNS TABLE (tenant_id uuid, number bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id, c.number
      FROM (SELECT a.tenant_id, max(a.sequence) AS sequence FROM session.audit_anchors a
             GROUP BY a.tenant_id) a
      JOIN session.audit_heads h ON h.tenant_id = a.tenant_id
      JOIN session.audit_checkpoints c
        ON c.tenant_id = a.tenant_id AND c.sequence <= a.sequence
       AND c.number < h.checkpoint_number
     WHERE NOT EXISTS (SELECT FROM session.audit_records r
                        WHERE r.tenant_id = a.tenant_id AND r.sequence <= a.sequence)
     ORDER BY c.tenant_id, c.number
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION audit_expired_checkpoints(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_expired_checkpoints(integer) TO meshwright_session;

-- Removes such checkpoints of a tenant up to a number, and the anchors before its last one.
CREATE FUNCTION forget_audit_checkpoints(p_tenant uuid, p_until bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_anchor bigint;
    v_forgotten bigint;
BEGIN
    SELECT max(a.sequence) INTO v_anchor FROM session.audit_anchors a WHERE a.tenant_id = p_tenant;
    IF EXISTS (SELECT FROM session.audit_records r
                WHERE r.tenant_id = p_tenant AND r.sequence <= v_anchor) THEN
        RETURN 0;
    END IF;
    DELETE FROM session.audit_checkpoints c
     USING session.audit_heads h
     WHERE c.tenant_id = p_tenant AND c.number <= p_until AND c.sequence <= v_anchor
       AND h.tenant_id = p_tenant AND c.number < h.checkpoint_number;
    GET DIAGNOSTICS v_forgotten = ROW_COUNT;
    DELETE FROM session.audit_anchors a WHERE a.tenant_id = p_tenant AND a.sequence < v_anchor;
    RETURN v_forgotten;
END
$function$;
REVOKE EXECUTE ON FUNCTION forget_audit_checkpoints(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_audit_checkpoints(uuid, bigint) TO meshwright_session;

-- Removes the notes about events whose records were dropped; says how many, at most p_limit.
CREATE FUNCTION prune_audit_events(p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_kept_since timestamptz;
    v_pruned bigint;
BEGIN
    SELECT m.ends INTO v_kept_since FROM session.months_of('audit_records') m
     WHERE m.starts IS NULL;
    DELETE FROM session.audit_events e
     WHERE e.ctid = ANY (ARRAY(
         SELECT o.ctid FROM session.audit_events o
          WHERE o.filed_at < v_kept_since
            AND NOT EXISTS (SELECT FROM session.audit_records_earlier r
                             WHERE r.tenant_id = o.tenant_id AND r.event_id = o.event_id)
          LIMIT p_limit
     ));
    GET DIAGNOSTICS v_pruned = ROW_COUNT;
    RETURN v_pruned;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_audit_events(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_audit_events(integer) TO meshwright_session;

-- What was recorded before goes into its months.
CREATE TEMPORARY TABLE filed ON COMMIT DROP AS
SELECT tenant_id, sequence,
       max(time) OVER (PARTITION BY tenant_id ORDER BY sequence) AS filed_at
  FROM audit_records_whole;
SELECT make_audit_months(3, least((SELECT max(filed_at) FROM filed), now() + interval '2 years'));
INSERT INTO audit_records
SELECT r.tenant_id, r.sequence, r.event_id, r.time, f.filed_at, r.actor, r.action, r.resource,
       r.outcome, r.source, r.request_id, r.details, r.previous_hash, r.hash
  FROM audit_records_whole r JOIN filed f USING (tenant_id, sequence);
INSERT INTO audit_events SELECT tenant_id, event_id, filed_at FROM audit_records;
UPDATE audit_heads h
   SET filed_at = (SELECT max(f.filed_at) FROM filed f WHERE f.tenant_id = h.tenant_id)
 WHERE EXISTS (SELECT FROM filed f WHERE f.tenant_id = h.tenant_id);
DROP TABLE audit_records_whole;
