-- Monthly partitions of messages and usage_ledger, made ahead of time, without a gap.

-- Makes what is missing up to so many months after this one; says how many it made. Called now and
-- by the service's housekeeping: a month that nobody prepared could not be written to.
CREATE FUNCTION make_partitions(p_months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC'
AS $function$
DECLARE
    v_parent text;
    v_name text;
    v_month timestamptz;
    v_last timestamptz := date_trunc('month', now()) + make_interval(months => p_months_ahead);
    v_made integer := 0;
BEGIN
    IF p_months_ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months ahead must be 0 to 24' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('meshwright.session.partitions'));
    FOREACH v_parent IN ARRAY ARRAY['messages', 'usage_ledger'] LOOP
        -- The month after the newest partition, so that a service that slept leaves no gap.
        SELECT to_timestamp(max(right(c.relname, 7)), 'YYYY_MM') + interval '1 month'
          INTO v_month
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = ('session.' || v_parent)::regclass
           AND c.relname ~ '_\d{4}_\d\d$';
        IF v_month IS NULL THEN
            v_month := date_trunc('month', now());
            PERFORM session.add_partition(v_parent, v_parent || '_earlier', NULL, v_month);
            v_made := v_made + 1;
        END IF;
        WHILE v_month <= v_last LOOP
            v_name := v_parent || '_' || to_char(v_month, 'YYYY_MM');
            PERFORM session.add_partition(v_parent, v_name, v_month, v_month + interval '1 month');
            v_made := v_made + 1;
            v_month := v_month + interval '1 month';
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$function$;
REVOKE EXECUTE ON FUNCTION make_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partitions(integer) TO meshwright_session;

-- Attaches a partition with rows from p_from (null: the beginning) to p_to, exclusive. Attaching a
-- finished table locks the parent less than creating one in place. Nobody but the owner may use it
-- directly; row-level security binds it all the same.
CREATE FUNCTION add_partition(p_parent text, p_name text, p_from timestamptz, p_to timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $function$
BEGIN
    EXECUTE format('CREATE TABLE session.%I (LIKE session.%I INCLUDING ALL)', p_name, p_parent);
    EXECUTE format('REVOKE ALL ON session.%I FROM meshwright_session', p_name);
    PERFORM session.protect_tenants(format('session.%I', p_name)::regclass);
    EXECUTE format(
        'ALTER TABLE session.%I ATTACH PARTITION session.%I FOR VALUES FROM (%s) TO (%L)',
        p_parent, p_name, CASE WHEN p_from IS NULL THEN 'MINVALUE' ELSE quote_literal(p_from) END,
        p_to
    );
END
$function$;

SELECT make_partitions(3);
