-- What was said: sessions, their messages by month, their contexts.

CREATE TABLE sessions (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    title text NOT NULL,
    agent text NOT NULL,
    knowledge_base_ids text[] NOT NULL,
    metadata jsonb NOT NULL,
    -- Also the sequence of the newest message: the row's lock is what keeps sequences gapless.
    message_count bigint NOT NULL DEFAULT 0,
    context_version bigint NOT NULL DEFAULT 0,
    -- Counts changes by UpdateSession; the etag. Messages do not move it.
    revision bigint NOT NULL DEFAULT 1,
    archived boolean NOT NULL DEFAULT false,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Never goes back, not even when the clock does: messages are ordered by it.
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, session_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);
CREATE INDEX sessions_last_used
    ON sessions (tenant_id, user_id, update_time DESC, session_id DESC);
SELECT protect_tenants('sessions');

CREATE TABLE contexts (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    data jsonb NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, session_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE CASCADE,
    CONSTRAINT contexts_size CHECK (octet_length(data::text) <= 262144)
);
SELECT protect_tenants('contexts');

-- One row a committed turn, as long as its session lives.
CREATE TABLE turn_commits (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    turn_id uuid NOT NULL,
    message_id uuid NOT NULL,
    context_version bigint NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, session_id, turn_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE CASCADE
);
SELECT protect_tenants('turn_commits');

CREATE TABLE messages (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    create_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    message_id uuid NOT NULL,
    turn_id uuid,
    role text NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    -- A meshwright.session.v1.StoredMessage with message, citations and usage, nothing else.
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, session_id, create_time, sequence),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE CASCADE
) PARTITION BY RANGE (create_time);
SELECT protect_tenants('messages');
