-- One row a request to a provider, not one a call: retries, fallbacks and restarts count on. Each is
-- in the budgets of one day, with what these count for it.

ALTER TABLE model_router.model_usage
    ADD COLUMN number integer NOT NULL DEFAULT 1 CHECK (number >= 1),
    -- Counted by budgets and charged to nobody: the platform repeated it.
    ADD COLUMN repeated_by_platform boolean NOT NULL DEFAULT false,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    -- Told apart from every other request, also from one of the same name.
    ADD COLUMN reservation_id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN budget_day date,
    -- By the clock that the tenant's reservations share.
    ADD COLUMN reserved_at_milliseconds bigint,
    ADD COLUMN counted_tokens bigint CHECK (counted_tokens >= 0),
    ADD COLUMN counted_micro_usd bigint CHECK (counted_micro_usd >= 0),
    DROP CONSTRAINT model_usage_operation_check,
    ADD CONSTRAINT model_usage_operation_check
        CHECK (operation IN ('generate', 'embed', 'rerank', 'moderate')),
    DROP CONSTRAINT model_usage_outcome_check,
    ADD CONSTRAINT model_usage_outcome_check
        CHECK (outcome IN ('completed', 'cancelled', 'failed', 'lost')),
    DROP CONSTRAINT model_usage_pkey,
    ADD PRIMARY KEY (tenant_id, task_id, step, attempt, operation, number);

UPDATE model_router.model_usage
   SET budget_day = (recorded_at AT TIME ZONE 'UTC')::date,
       reserved_at_milliseconds = (extract(epoch FROM recorded_at) * 1000)::bigint,
       counted_tokens = prompt_tokens + completion_tokens,
       counted_micro_usd = cost_micro_usd;

ALTER TABLE model_router.model_usage
    ALTER COLUMN reservation_id DROP DEFAULT,
    ALTER COLUMN budget_day SET NOT NULL,
    ALTER COLUMN reserved_at_milliseconds SET NOT NULL,
    ALTER COLUMN counted_tokens SET NOT NULL,
    ALTER COLUMN counted_micro_usd SET NOT NULL;

CREATE UNIQUE INDEX model_usage_by_reservation
    ON model_router.model_usage (tenant_id, reservation_id);
CREATE INDEX model_usage_by_budget ON model_router.model_usage (tenant_id, budget_day);

-- Whose budgets of which day were counted in Redis. A day that is here and not there was lost
-- there, with what calls hold that may still run: see adapters/budget_truth.py.
CREATE TABLE model_router.budget_days (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (tenant_id, day)
);

-- What a replica may give out while Redis is away: the parts of a budget that it took for itself,
-- and what its running calls hold. `scope`: "tenant", or the user's fingerprint.
CREATE TABLE model_router.budget_shares (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    scope text NOT NULL,
    replica uuid NOT NULL,
    tokens bigint NOT NULL CHECK (tokens >= 0),
    micro_usd bigint NOT NULL CHECK (micro_usd >= 0),
    -- Told again and again while the replica lives and Redis is away.
    told_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, day, scope, replica)
);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['budget_days', 'budget_shares'] LOOP
        EXECUTE format('ALTER TABLE model_router.%I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('ALTER TABLE model_router.%I FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format(
            'CREATE POLICY tenant_isolation ON model_router.%I'
            ' USING (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)'
            ' WITH CHECK (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)',
            v_table
        );
        EXECUTE format(
            'CREATE POLICY owner_access ON model_router.%I TO meshwright_owner'
            ' USING (true) WITH CHECK (true)', v_table
        );
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON model_router.%I TO meshwright_model_router',
            v_table
        );
    END LOOP;
END
$do$;
