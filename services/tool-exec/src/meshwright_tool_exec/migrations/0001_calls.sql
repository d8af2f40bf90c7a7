-- The effect ledger: one row a call, written before the tool runs, completed once.
CREATE TABLE tool_exec.calls (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step integer NOT NULL CHECK (step >= 0),
    call_index integer NOT NULL CHECK (call_index >= 0),
    tool text NOT NULL,
    arguments_sha256 bytea NOT NULL CHECK (octet_length(arguments_sha256) = 32),
    effect text NOT NULL CHECK (effect IN ('read_only', 'idempotent', 'non_idempotent')),
    subject text NOT NULL,
    -- The run that may write the outcome: a newer run takes the call over (fencing).
    run_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'prepared' CHECK (state IN ('prepared', 'done')),
    result_json text,
    is_error boolean NOT NULL DEFAULT false,
    truncated boolean NOT NULL DEFAULT false,
    duration_milliseconds bigint NOT NULL DEFAULT 0,
    citations_json text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, task_id, step, call_index),
    CHECK ((state = 'done') = (result_json IS NOT NULL))
);

CREATE INDEX calls_by_age ON tool_exec.calls (tenant_id, created_at DESC);

ALTER TABLE tool_exec.calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE tool_exec.calls FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tool_exec.calls
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON tool_exec.calls TO meshwright_owner
    USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON tool_exec.calls TO meshwright_tool_exec;
