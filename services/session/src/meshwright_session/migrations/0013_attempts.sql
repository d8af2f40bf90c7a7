-- The ledger has requests, not calls: each with its number, and what budgets count for it. What was
-- repeated by the platform or lost is counted and not charged: sums have only what is charged.

ALTER TABLE usage_ledger
    ADD COLUMN number integer NOT NULL DEFAULT 1,
    ADD COLUMN repeated_by_platform boolean NOT NULL DEFAULT false,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    -- Null: as many as the request consumed.
    ADD COLUMN counted_tokens bigint CHECK (counted_tokens >= 0),
    ADD COLUMN counted_micro_usd bigint CHECK (counted_micro_usd >= 0);

ALTER TABLE usage_calls
    ADD COLUMN number integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT usage_calls_pkey,
    ADD PRIMARY KEY (tenant_id, task_id, step, attempt, operation, number);

ALTER TABLE usage_daily
    ADD COLUMN counted_tokens bigint,
    ADD COLUMN counted_micro_usd bigint;
UPDATE usage_daily
   SET counted_tokens = prompt_tokens + completion_tokens, counted_micro_usd = cost_micro_usd;
ALTER TABLE usage_daily
    ALTER COLUMN counted_tokens SET NOT NULL,
    ALTER COLUMN counted_micro_usd SET NOT NULL;

ALTER TABLE tenants
    -- Agreed with the tenant. Null: the plan's. 0: none.
    ADD COLUMN max_cost_micro_usd_per_day bigint CHECK (max_cost_micro_usd_per_day >= 0);

CREATE OR REPLACE FUNCTION anonymise_sums(p_user text, p_nobody text) RETURNS bigint
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
        completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd, counted_tokens,
        counted_micro_usd)
    SELECT tenant_id, day, p_nobody, model, feature, call_count, estimated_count, prompt_tokens,
           completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd, counted_tokens,
           counted_micro_usd
      FROM gone ORDER BY day, model, feature
    ON CONFLICT (tenant_id, day, user_id, model, feature) DO UPDATE
       SET call_count = d.call_count + excluded.call_count,
           estimated_count = d.estimated_count + excluded.estimated_count,
           prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
           completion_tokens = d.completion_tokens + excluded.completion_tokens,
           cached_tokens = d.cached_tokens + excluded.cached_tokens,
           reasoning_tokens = d.reasoning_tokens + excluded.reasoning_tokens,
           cost_micro_usd = d.cost_micro_usd + excluded.cost_micro_usd,
           counted_tokens = d.counted_tokens + excluded.counted_tokens,
           counted_micro_usd = d.counted_micro_usd + excluded.counted_micro_usd;
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
