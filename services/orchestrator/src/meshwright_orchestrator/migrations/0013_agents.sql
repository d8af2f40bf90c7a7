-- Agents that tenants define: a head that says who gets new tasks, and versions that never change.
CREATE TABLE orchestrator.agents (
    tenant_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    -- What it is good for, as sealed JSON.
    description bytea NOT NULL,
    newest integer NOT NULL DEFAULT 0 CHECK (newest >= 0),
    -- Share of new tasks by version, in percent; versions without one are left out.
    shares jsonb NOT NULL DEFAULT '{}',
    -- Type of the newest version in use.
    type text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE orchestrator.agent_versions (
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    -- AgentDefinition, and why it was made, as sealed JSON.
    definition bytea NOT NULL,
    comment bytea NOT NULL,
    -- Keyed: equal for equal definitions only.
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    type text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name, version),
    FOREIGN KEY (tenant_id, name) REFERENCES orchestrator.agents ON DELETE CASCADE
);

-- Which version a request_id made, for as long as somebody may repeat it.
CREATE TABLE orchestrator.agent_requests (
    tenant_id uuid NOT NULL,
    subject text NOT NULL,
    request_id text NOT NULL CHECK (length(request_id) BETWEEN 1 AND 128),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    name text NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, subject, request_id)
);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['agents', 'agent_versions', 'agent_requests'] LOOP
        EXECUTE format('ALTER TABLE orchestrator.%s ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('ALTER TABLE orchestrator.%s FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format($sql$
            CREATE POLICY tenant_isolation ON orchestrator.%s
                USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
                WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        $sql$, v_table);
        EXECUTE format($sql$
            CREATE POLICY owner_access ON orchestrator.%s TO meshwright_owner
                USING (true) WITH CHECK (true)
        $sql$, v_table);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON orchestrator.%s TO meshwright_orchestrator',
            v_table);
    END LOOP;
END
$do$;

SELECT encryption.declare_sealed('orchestrator.agents', 'description', 'name');
SELECT encryption.declare_sealed('orchestrator.agent_versions', 'definition', 'name', 'version');
SELECT encryption.declare_sealed('orchestrator.agent_versions', 'comment', 'name', 'version');

SELECT events.place_by_tenant('orchestrator.agents');
SELECT events.place_by_tenant('orchestrator.agent_versions');
SELECT events.place_by_tenant('orchestrator.agent_requests');
