-- Erasures of users and tenants: what was asked for, how far it is, the receipt. A row outlives
-- its subject: it holds ids and counts, and it is what late events of the subject are known by.

CREATE TABLE erasures (
    tenant_id uuid NOT NULL,
    erasure_id uuid NOT NULL,
    -- The user; null: the tenant.
    user_id uuid,
    state text NOT NULL DEFAULT 'erasing' CHECK (state IN ('erasing', 'settling', 'completed')),
    requested_by text NOT NULL,
    keep_documents boolean NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    complete_time timestamptz,
    -- Whoever works on it holds this epoch; one that is older writes nothing.
    epoch bigint NOT NULL DEFAULT 0,
    leased_until timestamptz,
    -- Tries since something was gained.
    attempts integer NOT NULL DEFAULT 0,
    last_error text NOT NULL DEFAULT '',
    -- Canonical JSON, as text: what was signed, to the letter.
    receipt text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, erasure_id),
    CHECK ((state = 'completed') = (complete_time IS NOT NULL)),
    CHECK ((state = 'completed') = (receipt <> ''))
);
SELECT protect_tenants('erasures');
-- A subject is erased once: whoever asks again gets what was begun.
CREATE UNIQUE INDEX erasures_user ON erasures (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX erasures_tenant ON erasures (tenant_id) WHERE user_id IS NULL;
CREATE INDEX erasures_due ON erasures (due_time) WHERE state <> 'completed';
CREATE INDEX erasures_age ON erasures (complete_time) WHERE state = 'completed';

CREATE TABLE erasure_stores (
    tenant_id uuid NOT NULL,
    erasure_id uuid NOT NULL,
    service text NOT NULL,
    store text NOT NULL,
    -- In the order in which they were named first.
    "number" integer NOT NULL,
    removed_count bigint NOT NULL,
    remaining_count bigint NOT NULL,
    PRIMARY KEY (tenant_id, erasure_id, service, store),
    FOREIGN KEY (tenant_id, erasure_id) REFERENCES erasures ON DELETE CASCADE
);
SELECT protect_tenants('erasure_stores');

-- Sessions of users that are being erased: what a cache still holds of one is found by them when the
-- sessions are gone. Dropped when the erasure is completed.
CREATE TABLE erasure_sessions (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, user_id, session_id)
);
SELECT protect_tenants('erasure_sessions');

-- When nothing was left of the tenant but this row: a tombstone, without a name.
ALTER TABLE tenants ADD COLUMN erase_time timestamptz;

-- As before, but without tombstones.
CREATE OR REPLACE FUNCTION list_tenants(p_name text, p_after text, p_limit integer)
RETURNS SETOF tenants
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT t.* FROM session.tenants t
     WHERE t.slug > p_after AND t.erase_time IS NULL
       AND (p_name = '' OR t.slug = p_name OR t.tenant_id::text = p_name)
     ORDER BY t.slug
     LIMIT p_limit
$function$;

-- Door across tenants: a worker takes due erasures of anybody, and learns only which.
CREATE FUNCTION claim_erasures(p_lease_seconds double precision, p_most integer)
RETURNS TABLE (tenant_id uuid, erasure_id uuid, epoch bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    UPDATE session.erasures AS e
       SET epoch = e.epoch + 1, attempts = e.attempts + 1,
           leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
      FROM (SELECT due.tenant_id, due.erasure_id FROM session.erasures AS due
             WHERE due.state <> 'completed' AND due.due_time <= clock_timestamp()
               AND (due.leased_until IS NULL OR due.leased_until < clock_timestamp())
             ORDER BY due.due_time
             LIMIT p_most
               FOR UPDATE SKIP LOCKED) AS chosen
     WHERE e.tenant_id = chosen.tenant_id AND e.erasure_id = chosen.erasure_id
    RETURNING e.tenant_id, e.erasure_id, e.epoch
$function$;
REVOKE EXECUTE ON FUNCTION claim_erasures(double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_erasures(double precision, integer) TO meshwright_session;

-- Door across tenants: the tenants of which something is being erased, for caches to forget them.
CREATE FUNCTION erasing_tenants() RETURNS TABLE (tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT DISTINCT e.tenant_id FROM session.erasures AS e WHERE e.state <> 'completed'
$function$;
REVOKE EXECUTE ON FUNCTION erasing_tenants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erasing_tenants() TO meshwright_session;

-- Drops completed erasures older than so many days, of all tenants; says how many.
CREATE FUNCTION prune_erasures(p_days integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.erasures
     WHERE state = 'completed' AND complete_time < now() - make_interval(days => p_days);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_erasures(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_erasures(integer) TO meshwright_session;

-- The head of a tenant's notifications goes with the tenant, and with nothing else.
CREATE FUNCTION erase_notification_head() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_erased bigint;
BEGIN
    DELETE FROM session.notification_heads
     WHERE tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid;
    GET DIAGNOSTICS v_erased = ROW_COUNT;
    RETURN v_erased;
END
$function$;
REVOKE EXECUTE ON FUNCTION erase_notification_head() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_notification_head() TO meshwright_session;

-- What a user consumed stays for the bill, under a name that is nobody's: these move it there.
-- Up to `p_most` rows of the ledger at once; the sums whole, for one day and model they may meet.
CREATE FUNCTION anonymise_sums(p_user text, p_nobody text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    v_usage bigint;
    v_tasks bigint;
BEGIN
    WITH gone AS (
        DELETE FROM session.usage_daily WHERE tenant_id = v_tenant AND user_id = p_user RETURNING *
    )
    INSERT INTO session.usage_daily AS d (
        tenant_id, day, user_id, model, feature, call_count, estimated_count, prompt_tokens,
        completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd)
    SELECT tenant_id, day, p_nobody, model, feature, call_count, estimated_count, prompt_tokens,
           completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd
      FROM gone ORDER BY day, model, feature
    ON CONFLICT (tenant_id, day, user_id, model, feature) DO UPDATE
       SET call_count = d.call_count + excluded.call_count,
           estimated_count = d.estimated_count + excluded.estimated_count,
           prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
           completion_tokens = d.completion_tokens + excluded.completion_tokens,
           cached_tokens = d.cached_tokens + excluded.cached_tokens,
           reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
           cost_micro_usd = d.cost_micro_usd + excluded.cost_micro_usd;
    GET DIAGNOSTICS v_usage = ROW_COUNT;
    WITH gone AS (
        DELETE FROM session.task_daily WHERE tenant_id = v_tenant AND user_id = p_user RETURNING *
    )
    INSERT INTO session.task_daily AS d (
        tenant_id, day, user_id, agent, state, task_count, total_tokens, cost_micro_usd,
        duration_milliseconds)
    SELECT tenant_id, day, p_nobody, agent, state, task_count, total_tokens, cost_micro_usd,
           duration_milliseconds
      FROM gone ORDER BY day, agent, state
    ON CONFLICT (tenant_id, day, user_id, agent, state) DO UPDATE
       SET task_count = d.task_count + excluded.task_count,
           total_tokens = d.total_tokens + excluded.total_tokens,
           cost_micro_usd = d.cost_micro_usd + excluded.cost_micro_usd,
           duration_milliseconds = d.duration_milliseconds + excluded.duration_milliseconds;
    GET DIAGNOSTICS v_tasks = ROW_COUNT;
    RETURN v_usage + v_tasks;
END
$function$;
REVOKE EXECUTE ON FUNCTION anonymise_sums(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION anonymise_sums(text, text) TO meshwright_session;
