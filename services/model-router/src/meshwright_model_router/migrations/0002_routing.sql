-- What tenants add to the operator's configuration: deployments, policies, prices.

-- Which tenants changed something, and in which transaction: replicas read what is new since the
-- oldest transaction that was running when they read last, so no late commit is skipped. Its row
-- is locked first by every change: changes of a tenant take turns.
CREATE TABLE model_router.routing_changes (
    tenant_id uuid NOT NULL PRIMARY KEY,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX routing_changes_by_age ON model_router.routing_changes (changed);

CREATE TABLE model_router.routing_deployments (
    tenant_id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_.-]{1,64}$'),
    model text NOT NULL CHECK (char_length(model) BETWEEN 1 AND 128),
    provider text NOT NULL,
    provider_model text NOT NULL,
    base_url text NOT NULL,
    credential_name text NOT NULL,
    disabled boolean NOT NULL,
    priority integer NOT NULL CHECK (priority BETWEEN 1 AND 100),
    weight integer NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    requests_per_minute integer NOT NULL CHECK (requests_per_minute >= 0),
    tokens_per_minute bigint NOT NULL CHECK (tokens_per_minute >= 0),
    concurrent_requests integer NOT NULL CHECK (concurrent_requests >= 0),
    context_window integer NOT NULL CHECK (context_window >= 0),
    capabilities text[] NOT NULL,
    embedding_dimensions integer NOT NULL CHECK (embedding_dimensions >= 0),
    -- Counts changes; the etag.
    revision bigint NOT NULL DEFAULT 1,
    -- SHA-256 of who asked by which request id, and of what was asked; null: no request id.
    request_key bytea,
    request_digest bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    -- Removed ones stay: their prices explain what calls did cost.
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, deployment_id)
);
CREATE UNIQUE INDEX routing_deployments_name
    ON model_router.routing_deployments (tenant_id, name) WHERE delete_time IS NULL;
CREATE UNIQUE INDEX routing_deployments_request
    ON model_router.routing_deployments (tenant_id, request_key) WHERE request_key IS NOT NULL;

CREATE TABLE model_router.routing_prices (
    tenant_id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    effective_time timestamptz NOT NULL,
    -- Millionths of a US dollar for a million tokens.
    prompt_micro_usd bigint NOT NULL CHECK (prompt_micro_usd >= 0),
    cached_micro_usd bigint NOT NULL CHECK (cached_micro_usd >= 0),
    completion_micro_usd bigint NOT NULL CHECK (completion_micro_usd >= 0),
    PRIMARY KEY (tenant_id, deployment_id, effective_time),
    FOREIGN KEY (tenant_id, deployment_id)
        REFERENCES model_router.routing_deployments (tenant_id, deployment_id)
);

CREATE TABLE model_router.routing_policies (
    tenant_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    models text[] NOT NULL,
    strategy text NOT NULL,
    sticky_by_session boolean NOT NULL,
    fallback_models text[] NOT NULL,
    max_attempts integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 5),
    hedge_after_seconds double precision CHECK (hedge_after_seconds > 0),
    consecutive_failures integer NOT NULL CHECK (consecutive_failures BETWEEN 1 AND 100),
    error_rate double precision NOT NULL CHECK (error_rate > 0 AND error_rate <= 1),
    cool_down_seconds double precision NOT NULL CHECK (cool_down_seconds > 0),
    revision bigint NOT NULL DEFAULT 1,
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['changes', 'deployments', 'prices', 'policies'] LOOP
        EXECUTE format('ALTER TABLE model_router.routing_%s ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('ALTER TABLE model_router.routing_%s FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format($sql$
            CREATE POLICY tenant_isolation ON model_router.routing_%s
                USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
                WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        $sql$, v_table);
        EXECUTE format($sql$
            CREATE POLICY owner_access ON model_router.routing_%s TO meshwright_owner
                USING (true) WITH CHECK (true)
        $sql$, v_table);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON model_router.routing_%s'
            ' TO meshwright_model_router', v_table);
    END LOOP;
END
$do$;

-- Notes the change, whoever makes it: a call, an erasure, a hand.
CREATE FUNCTION model_router.note_routing_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO model_router.routing_changes (tenant_id)
    VALUES (coalesce(NEW.tenant_id, OLD.tenant_id))
    ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id();
    RETURN NULL;
END
$function$;
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON model_router.routing_deployments
    FOR EACH ROW EXECUTE FUNCTION model_router.note_routing_change();
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON model_router.routing_prices
    FOR EACH ROW EXECUTE FUNCTION model_router.note_routing_change();
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON model_router.routing_policies
    FOR EACH ROW EXECUTE FUNCTION model_router.note_routing_change();

-- The door across tenants: what tenants have that changed something in `p_since` or later.
CREATE FUNCTION model_router.routing_since(p_since xid8)
RETURNS TABLE (tenant_id uuid, deployments jsonb, prices jsonb, policies jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id,
           (SELECT coalesce(jsonb_agg(to_jsonb(d)), '[]')
              FROM model_router.routing_deployments d
             WHERE d.tenant_id = c.tenant_id AND d.delete_time IS NULL),
           (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]')
              FROM model_router.routing_prices p
              JOIN model_router.routing_deployments d
                ON d.tenant_id = p.tenant_id AND d.deployment_id = p.deployment_id
             WHERE p.tenant_id = c.tenant_id AND d.delete_time IS NULL),
           (SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]')
              FROM model_router.routing_policies r
             WHERE r.tenant_id = c.tenant_id)
      FROM model_router.routing_changes c
     WHERE c.changed >= p_since;
END;
REVOKE EXECUTE ON FUNCTION model_router.routing_since(xid8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION model_router.routing_since(xid8) TO meshwright_model_router;
