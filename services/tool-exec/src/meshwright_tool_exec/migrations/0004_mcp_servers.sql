-- MCP servers of tenants, what they offered when they were asked last, and who watches over them.

-- Which tenants changed something, and in which transaction: replicas read what is new since the
-- oldest transaction that was running when they read last, so no late commit is skipped. Its row
-- is locked first by every change: changes of a tenant take turns.
CREATE TABLE tool_exec.mcp_changes (
    tenant_id uuid NOT NULL PRIMARY KEY,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX mcp_changes_by_age ON tool_exec.mcp_changes (changed);

CREATE TABLE tool_exec.mcp_servers (
    tenant_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,32}$'),
    description text NOT NULL CHECK (char_length(description) <= 2000),
    -- Programs are named by the operator's configuration alone.
    transport text NOT NULL CHECK (transport IN ('streamable_http', 'sse')),
    url text NOT NULL CHECK (char_length(url) BETWEEN 1 AND 2048),
    -- Another one after each change of address, credential or trust.
    generation uuid NOT NULL,
    credential_kind text NOT NULL
        CHECK (credential_kind IN ('none', 'bearer', 'header', 'oauth_client')),
    -- Sealed JSON.
    credential bytea,
    trusts_annotations boolean NOT NULL,
    approves_first boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('connecting', 'ready', 'unavailable', 'unauthorized')),
    failure text NOT NULL CHECK (char_length(failure) <= 500),
    protocol_version text NOT NULL,
    -- Definitions with their hashes, and which of them are approved.
    tools jsonb NOT NULL,
    -- Keyed digests of who asked by which request id, and of what was asked; null: no request id.
    request_key bytea,
    request_digest bytea,
    -- The replica that watches over it, and until when.
    keeper uuid,
    kept_until timestamptz,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    refresh_time timestamptz,
    PRIMARY KEY (tenant_id, name),
    CHECK ((credential_kind = 'none') = (credential IS NULL))
);
CREATE UNIQUE INDEX mcp_servers_request
    ON tool_exec.mcp_servers (tenant_id, request_key) WHERE request_key IS NOT NULL;
SELECT encryption.declare_sealed('tool_exec.mcp_servers', 'credential', 'name');

ALTER TABLE tool_exec.mcp_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE tool_exec.mcp_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tool_exec.mcp_changes
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON tool_exec.mcp_changes TO meshwright_owner
    USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON tool_exec.mcp_changes TO meshwright_tool_exec;

ALTER TABLE tool_exec.mcp_servers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tool_exec.mcp_servers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tool_exec.mcp_servers
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON tool_exec.mcp_servers TO meshwright_owner
    USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON tool_exec.mcp_servers TO meshwright_tool_exec;

-- Notes the change, whoever makes it: a call, an erasure, a hand. Who watches is no change.
CREATE FUNCTION tool_exec.note_mcp_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO tool_exec.mcp_changes (tenant_id)
    VALUES (coalesce(NEW.tenant_id, OLD.tenant_id))
    ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id();
    RETURN NULL;
END
$function$;
CREATE TRIGGER note_change
    AFTER INSERT OR DELETE OR UPDATE OF
        description, transport, url, generation, credential_kind, credential, trusts_annotations,
        approves_first, state, failure, protocol_version, tools, refresh_time
    ON tool_exec.mcp_servers
    FOR EACH ROW EXECUTE FUNCTION tool_exec.note_mcp_change();

-- The door across tenants: the servers of tenants that changed one in `p_since` or later.
CREATE FUNCTION tool_exec.mcp_servers_since(p_since xid8)
RETURNS TABLE (tenant_id uuid, servers jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id,
           (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]')
              FROM tool_exec.mcp_servers s WHERE s.tenant_id = c.tenant_id)
      FROM tool_exec.mcp_changes c
     WHERE c.changed >= p_since;
END;
REVOKE EXECUTE ON FUNCTION tool_exec.mcp_servers_since(xid8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tool_exec.mcp_servers_since(xid8) TO meshwright_tool_exec;

-- The door for watching: goes on with what a replica keeps, takes what nobody does; says what it
-- keeps now. `p_most` are taken at a time, so that replicas that start together share. A lease is
-- written anew when half of it is over.
CREATE FUNCTION tool_exec.keep_mcp_servers(p_keeper uuid, p_seconds double precision, p_most integer)
RETURNS TABLE (tenant_id uuid, name text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH free AS (
        SELECT s.tenant_id, s.name FROM tool_exec.mcp_servers s
         WHERE s.kept_until IS NULL OR s.kept_until < clock_timestamp()
         LIMIT p_most FOR UPDATE SKIP LOCKED
    )
    UPDATE tool_exec.mcp_servers AS s
       SET keeper = p_keeper, kept_until = clock_timestamp() + make_interval(secs => p_seconds)
     WHERE (s.keeper = p_keeper AND s.kept_until >= clock_timestamp()
            AND s.kept_until < clock_timestamp() + make_interval(secs => p_seconds / 2))
        OR (s.tenant_id, s.name) IN (SELECT f.tenant_id, f.name FROM free f);
    SELECT s.tenant_id, s.name FROM tool_exec.mcp_servers s
     WHERE s.keeper = p_keeper AND s.kept_until >= clock_timestamp();
END;
REVOKE EXECUTE ON FUNCTION tool_exec.keep_mcp_servers(uuid, double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tool_exec.keep_mcp_servers(uuid, double precision, integer)
    TO meshwright_tool_exec;

-- Gives back what a replica keeps: it ends.
CREATE FUNCTION tool_exec.leave_mcp_servers(p_keeper uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE tool_exec.mcp_servers SET keeper = NULL, kept_until = NULL WHERE keeper = p_keeper;
END;
REVOKE EXECUTE ON FUNCTION tool_exec.leave_mcp_servers(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tool_exec.leave_mcp_servers(uuid) TO meshwright_tool_exec;
