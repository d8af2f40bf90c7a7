-- What was consumed and what was done: the usage ledger by month, and the audit log.

CREATE TABLE usage_ledger (
    tenant_id uuid NOT NULL,
    -- When the call ended. Never in the future, whatever the reporter's clock said.
    time timestamptz NOT NULL,
    event_id uuid NOT NULL,
    user_id text NOT NULL,
    session_id text NOT NULL,
    feature text NOT NULL,
    operation text NOT NULL,
    model text NOT NULL,
    deployment text NOT NULL,
    provider text NOT NULL,
    outcome text NOT NULL,
    task_id text NOT NULL,
    step integer NOT NULL,
    attempt integer NOT NULL,
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    cached_tokens bigint NOT NULL CHECK (cached_tokens >= 0),
    reasoning_tokens bigint NOT NULL CHECK (reasoning_tokens >= 0),
    cost_micro_usd bigint NOT NULL CHECK (cost_micro_usd >= 0),
    estimated boolean NOT NULL,
    first_token_milliseconds bigint NOT NULL,
    duration_milliseconds bigint NOT NULL,
    PRIMARY KEY (tenant_id, time, event_id)
) PARTITION BY RANGE (time);
CREATE INDEX usage_ledger_user ON usage_ledger (tenant_id, user_id, time, event_id);
SELECT protect_tenants('usage_ledger');

-- Which calls are in the ledger: a unique key across months, which partitions cannot have.
CREATE TABLE usage_calls (
    tenant_id uuid NOT NULL,
    task_id text NOT NULL,
    step integer NOT NULL,
    attempt integer NOT NULL,
    operation text NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, task_id, step, attempt, operation),
    UNIQUE (tenant_id, event_id)
);
SELECT protect_tenants('usage_calls');

-- Sums of the ledger by UTC day; written in the ledger row's transaction.
CREATE TABLE usage_daily (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    user_id text NOT NULL,
    model text NOT NULL,
    feature text NOT NULL,
    call_count bigint NOT NULL,
    estimated_count bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_micro_usd bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, user_id, model, feature)
);
CREATE INDEX usage_daily_user ON usage_daily (tenant_id, user_id, day);
SELECT protect_tenants('usage_daily');

-- The end of each tenant's chain. Its row lock keeps the sequence gapless.
CREATE TABLE audit_heads (
    tenant_id uuid PRIMARY KEY,
    sequence bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
SELECT protect_tenants('audit_heads');
REVOKE DELETE ON audit_heads FROM meshwright_session;

CREATE TABLE audit_records (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    event_id uuid NOT NULL,
    time timestamptz NOT NULL,
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
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, event_id)
);
CREATE INDEX audit_records_time ON audit_records (tenant_id, time);
CREATE INDEX audit_records_actor ON audit_records (tenant_id, actor, sequence);
SELECT protect_tenants('audit_records');
-- The service can add to the log, and neither change nor remove what is in it.
REVOKE UPDATE, DELETE ON audit_records FROM meshwright_session;
