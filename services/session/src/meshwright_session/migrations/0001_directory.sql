-- Who exists: tenants, their users, and the API keys that act as users.

-- Gives a table with tenant_id the two policies that every such table has. Row-level security is
-- forced, so it binds the owner too, who passes by a policy of its own.
CREATE FUNCTION protect_tenants(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    EXECUTE format(
        $policy$
        CREATE POLICY tenant_isolation ON %s
            USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
            WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        $policy$,
        p_table
    );
    EXECUTE format(
        'CREATE POLICY owner_access ON %s TO meshwright_owner USING (true) WITH CHECK (true)',
        p_table
    );
END
$function$;

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{1,64}$'),
    display_name text NOT NULL,
    plan text NOT NULL CHECK (plan IN ('starter', 'professional', 'enterprise')),
    suspended boolean NOT NULL DEFAULT false,
    -- The user made together with the tenant; a repeated CreateTenant answers with it.
    first_owner_id uuid NOT NULL,
    -- Null when the tenant was made without a request id. The digest is of the request's body.
    create_request_id text UNIQUE,
    create_request_digest bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    CHECK ((create_request_id IS NULL) = (create_request_digest IS NULL))
);
SELECT protect_tenants('tenants');

CREATE TABLE users (
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL,
    name text NOT NULL,
    email text NOT NULL DEFAULT '',
    roles text[] NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT users_name UNIQUE (tenant_id, name)
);
SELECT protect_tenants('users');

CREATE TABLE api_keys (
    tenant_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    user_id uuid NOT NULL,
    label text NOT NULL,
    prefix text NOT NULL,
    -- Only the digest is kept: a copy of this table opens no door.
    key_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    -- Empty: all permissions of the user.
    permissions text[] NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz,
    revoke_time timestamptz,
    PRIMARY KEY (tenant_id, api_key_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);
CREATE INDEX api_keys_newest ON api_keys (tenant_id, create_time DESC, api_key_id DESC);
CREATE INDEX api_keys_user ON api_keys (tenant_id, user_id);
SELECT protect_tenants('api_keys');

-- What calls with a request id have made, so that a repeated call makes nothing new. Rows are
-- dropped after the retention that the settings name.
CREATE TABLE requests (
    tenant_id uuid NOT NULL,
    subject text NOT NULL,
    operation text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    -- Ids of what was made, in order.
    made uuid[] NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subject, operation, request_id)
);
SELECT protect_tenants('requests');

-- The doors across tenants. Each answers one narrow question.

-- An API key by the SHA-256 of its text: the only way from a credential to its tenant.
CREATE FUNCTION find_api_key(p_key_sha256 bytea)
RETURNS TABLE (
    tenant_id uuid, api_key_id uuid, user_id uuid, roles text[], permissions text[],
    expire_time timestamptz, usable boolean, suspended boolean
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.tenant_id, k.api_key_id, k.user_id, u.roles, k.permissions, k.expire_time,
           k.revoke_time IS NULL AND NOT u.disabled
               AND (k.expire_time IS NULL OR k.expire_time > now()),
           t.suspended
      FROM session.api_keys k
      JOIN session.users u ON u.tenant_id = k.tenant_id AND u.user_id = k.user_id
      JOIN session.tenants t ON t.tenant_id = k.tenant_id
     WHERE k.key_sha256 = p_key_sha256;
END;
REVOKE EXECUTE ON FUNCTION find_api_key(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key(bytea) TO meshwright_session;

-- The tenant that a repeated CreateTenant has made before, by its request id.
CREATE FUNCTION find_tenant_request(p_request_id text)
RETURNS TABLE (tenant_id uuid, first_owner_id uuid, digest bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.tenant_id, t.first_owner_id, t.create_request_digest
      FROM session.tenants t
     WHERE t.create_request_id = p_request_id;
END;
REVOKE EXECUTE ON FUNCTION find_tenant_request(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_tenant_request(text) TO meshwright_session;

-- Drops records of requests older than so many hours, of all tenants; says how many.
CREATE FUNCTION prune_requests(p_hours integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.requests WHERE create_time < now() - make_interval(hours => p_hours);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_requests(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_requests(integer) TO meshwright_session;
