-- What a tenant's users have said and were told is partitioned by tenant, so that it can lie in a
-- schema of the tenant's own. The register (tenants, users, keys, request ids) stays one for all.

-- As before, and no error when the table is protected already.
CREATE OR REPLACE FUNCTION protect_tenants(p_table regclass) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS 'SELECT events.protect_tenants(p_table)';

-- A new table of content is made PARTITION BY LIST (tenant_id) and given to this at once; see
-- events.place_by_tenant, which also divides a table that was made otherwise.
CREATE FUNCTION place_by_tenant(p_table regclass, p_then text DEFAULT '') RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS 'SELECT events.place_by_tenant(p_table, p_then)';

-- Whom others refer to comes first.
SELECT place_by_tenant('sessions');
SELECT place_by_tenant('contexts');
SELECT place_by_tenant('turn_commits');
SELECT place_by_tenant('messages');
SELECT place_by_tenant('notifications');
SELECT place_by_tenant('notification_reads');

-- As before, in every placement: each has its own months.
CREATE OR REPLACE FUNCTION make_partitions(p_months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC'
AS $function$
DECLARE
    v_parent regclass;
    v_month timestamptz;
    v_last timestamptz := date_trunc('month', now()) + make_interval(months => p_months_ahead);
    v_made integer := 0;
BEGIN
    IF p_months_ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months ahead must be 0 to 24' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('meshwright.session.partitions'));
    FOR v_parent IN
        SELECT ranges FROM events.range_tables('session.messages') AS ranges
         UNION ALL
        SELECT ranges FROM events.range_tables('session.usage_ledger') AS ranges
    LOOP
        -- The month after the newest partition, so that a service that slept leaves no gap.
        SELECT to_timestamp(max(right(c.relname, 7)), 'YYYY_MM') + interval '1 month'
          INTO v_month
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = v_parent
           AND c.relname ~ '_\d{4}_\d\d$';
        IF v_month IS NULL THEN
            v_month := date_trunc('month', now());
            PERFORM session.add_partition(v_parent, 'earlier', NULL, v_month);
            v_made := v_made + 1;
        END IF;
        WHILE v_month <= v_last LOOP
            PERFORM session.add_partition(
                v_parent, to_char(v_month, 'YYYY_MM'), v_month, v_month + interval '1 month'
            );
            v_made := v_made + 1;
            v_month := v_month + interval '1 month';
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$function$;

-- Attaches the partition `<table>_<period>` with rows from p_from (null: the beginning) to p_to,
-- exclusive, beside its parent. Attaching a finished table locks the parent less than creating one
-- in place. Nobody but the owner may use it directly; row-level security binds it all the same.
DROP FUNCTION add_partition(text, text, timestamptz, timestamptz);
CREATE FUNCTION add_partition(
    p_parent regclass, p_period text, p_from timestamptz, p_to timestamptz
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $function$
DECLARE
    v_leaf text;
BEGIN
    SELECT format('%I.%I', n.nspname, regexp_replace(c.relname, '_shared$', '') || '_' || p_period)
      INTO v_leaf
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_parent;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', v_leaf, p_parent);
    PERFORM events.close_to_services(v_leaf::regclass);
    PERFORM events.protect_tenants(v_leaf::regclass);
    EXECUTE format(
        'ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%L)',
        p_parent, v_leaf, CASE WHEN p_from IS NULL THEN 'MINVALUE' ELSE quote_literal(p_from) END,
        p_to
    );
END
$function$;

-- The last step of a tenant's erasure: drops the tenant's own schema, if it has one, once nothing is
-- in it any more. Does nothing for a tenant that is not being deleted. Says whether it dropped one.
CREATE FUNCTION drop_empty_placement(p_tenant_id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $function$
BEGIN
    RETURN EXISTS (SELECT FROM session.tenants t
                    WHERE t.tenant_id = p_tenant_id AND t.state = 'deleting')
       AND events.drop_schema_of(p_tenant_id, true);
END
$function$;
REVOKE EXECUTE ON FUNCTION drop_empty_placement(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_empty_placement(uuid) TO meshwright_session;

-- Messages of a session between two moments and two sequences, all included, in no order. A function
-- so that its own plan is made with the moments at hand, for the months between them: a plan for the
-- whole statement would be made for every month, and made anew each time beside other placements.
CREATE FUNCTION messages_between(
    p_tenant_id uuid, p_session_id uuid, p_from timestamptz, p_to timestamptz,
    p_first bigint, p_last bigint
) RETURNS TABLE (
    session_id uuid, create_time timestamptz, sequence bigint, message_id uuid, turn_id uuid,
    content bytea
)
LANGUAGE plpgsql STABLE ROWS 50 SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT m.session_id, m.create_time, m.sequence, m.message_id, m.turn_id, m.content
          FROM session.messages AS m
         WHERE m.tenant_id = p_tenant_id AND m.session_id = p_session_id
           AND m.create_time BETWEEN p_from AND p_to
           AND m.sequence BETWEEN p_first AND p_last;
END
$function$;
GRANT EXECUTE ON FUNCTION
    messages_between(uuid, uuid, timestamptz, timestamptz, bigint, bigint) TO meshwright_session;
