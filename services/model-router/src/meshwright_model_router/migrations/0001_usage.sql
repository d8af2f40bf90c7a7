-- One row a model call, written when it ends, together with its event.
CREATE TABLE model_router.model_usage (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step integer NOT NULL CHECK (step >= 1),
    attempt integer NOT NULL CHECK (attempt >= 1),
    operation text NOT NULL CHECK (operation IN ('generate', 'embed')),
    user_id text NOT NULL,
    session_id text NOT NULL,
    feature text NOT NULL,
    model text NOT NULL,
    deployment text NOT NULL,
    provider text NOT NULL,
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    cached_tokens bigint NOT NULL CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
    reasoning_tokens bigint NOT NULL CHECK (reasoning_tokens BETWEEN 0 AND completion_tokens),
    cost_micro_usd bigint NOT NULL CHECK (cost_micro_usd >= 0),
    estimated boolean NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('completed', 'cancelled', 'failed')),
    first_token_milliseconds bigint NOT NULL CHECK (first_token_milliseconds >= 0),
    duration_milliseconds bigint NOT NULL CHECK (duration_milliseconds >= 0),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, task_id, step, attempt, operation)
);

CREATE INDEX model_usage_by_age ON model_router.model_usage (tenant_id, recorded_at DESC);

ALTER TABLE model_router.model_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_router.model_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON model_router.model_usage
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON model_router.model_usage TO meshwright_owner
    USING (true) WITH CHECK (true);

GRANT SELECT, INSERT ON model_router.model_usage TO meshwright_model_router;
