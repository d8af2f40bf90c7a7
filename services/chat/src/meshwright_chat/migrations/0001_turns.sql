-- Turns: who asked what, who works on it, and how it ended.
CREATE TABLE chat.turns (
    tenant_id uuid NOT NULL,
    turn_id uuid NOT NULL,
    session_id uuid NOT NULL,
    subject text NOT NULL,
    -- Principal the turn acts for: kind, permissions, roles. Never a credential.
    owner jsonb NOT NULL,
    agent text NOT NULL,
    model text NOT NULL DEFAULT '',
    knowledge_base_ids text[] NOT NULL DEFAULT '{}',
    question text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 128),
    request_sha256 bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    state text NOT NULL DEFAULT 'running'
        CHECK (state IN ('running', 'completed', 'failed', 'cancelled')),
    attempt integer NOT NULL DEFAULT 1,
    lease_epoch integer NOT NULL DEFAULT 1,
    lease_expires_at timestamptz NOT NULL,
    task_id uuid,
    answer text NOT NULL DEFAULT '',
    citations jsonb NOT NULL DEFAULT '[]',
    usage jsonb NOT NULL DEFAULT '{}',
    message_id uuid,
    context_version bigint NOT NULL DEFAULT 0,
    error_reason text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    error_retryable boolean NOT NULL DEFAULT false,
    cancelled_by text NOT NULL DEFAULT '',
    last_sequence bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, turn_id),
    CHECK ((state = 'running') = (ended_at IS NULL))
);

-- One running turn a session.
CREATE UNIQUE INDEX turns_running ON chat.turns (tenant_id, session_id) WHERE state = 'running';
CREATE UNIQUE INDEX turns_request ON chat.turns (tenant_id, subject, request_id)
    WHERE request_id <> '';
CREATE INDEX turns_of_session ON chat.turns (tenant_id, session_id, turn_id DESC);
CREATE INDEX turns_leases ON chat.turns (lease_expires_at) WHERE state = 'running';

ALTER TABLE chat.turns ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.turns FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON chat.turns
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON chat.turns TO meshwright_owner
    USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON chat.turns TO meshwright_chat;

-- Doors across tenants, for the process itself. They touch leases only.

CREATE FUNCTION chat.renew_leases(
    tenant_ids uuid[], turn_ids uuid[], epochs integer[], seconds double precision
) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE chat.turns AS t
    SET lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
    FROM unnest(tenant_ids, turn_ids, epochs) AS mine (tenant_id, turn_id, epoch)
    WHERE t.tenant_id = mine.tenant_id AND t.turn_id = mine.turn_id
        AND t.lease_epoch = mine.epoch AND t.state = 'running'
    RETURNING t.turn_id
$$;

CREATE FUNCTION chat.take_over_turns(max_turns integer, seconds double precision)
RETURNS TABLE (tenant_id uuid, turn_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE chat.turns AS t
    SET attempt = t.attempt + 1, lease_epoch = t.lease_epoch + 1,
        lease_expires_at = clock_timestamp() + make_interval(secs => seconds)
    FROM (
        SELECT lost.tenant_id, lost.turn_id FROM chat.turns AS lost
        WHERE lost.state = 'running' AND lost.lease_expires_at < clock_timestamp()
        ORDER BY lost.lease_expires_at
        LIMIT max_turns
        FOR UPDATE SKIP LOCKED
    ) AS chosen
    WHERE t.tenant_id = chosen.tenant_id AND t.turn_id = chosen.turn_id
    RETURNING t.tenant_id, t.turn_id
$$;

REVOKE ALL ON FUNCTION chat.renew_leases(uuid[], uuid[], integer[], double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION chat.take_over_turns(integer, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.renew_leases(uuid[], uuid[], integer[], double precision)
    TO meshwright_chat;
GRANT EXECUTE ON FUNCTION chat.take_over_turns(integer, double precision) TO meshwright_chat;
