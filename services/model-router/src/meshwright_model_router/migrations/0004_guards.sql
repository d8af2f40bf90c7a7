-- Guards that tenants add to the operator's.

-- Which tenants changed something, and in which transaction, as for routing (0002).
CREATE TABLE model_router.guard_changes (
    tenant_id uuid NOT NULL PRIMARY KEY,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX guard_changes_by_age ON model_router.guard_changes (changed);

CREATE TABLE model_router.guards (
    tenant_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    definition jsonb NOT NULL,
    -- Counts changes; the etag.
    revision bigint NOT NULL DEFAULT 1,
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['guard_changes', 'guards'] LOOP
        EXECUTE format('ALTER TABLE model_router.%s ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('ALTER TABLE model_router.%s FORCE ROW LEVEL SECURITY', v_table);
        EXECUTE format($sql$
            CREATE POLICY tenant_isolation ON model_router.%s
                USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
                WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        $sql$, v_table);
        EXECUTE format($sql$
            CREATE POLICY owner_access ON model_router.%s TO meshwright_owner
                USING (true) WITH CHECK (true)
        $sql$, v_table);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON model_router.%s TO meshwright_model_router',
            v_table);
    END LOOP;
END
$do$;

-- Notes the change, whoever makes it: a call, an erasure, a hand.
CREATE FUNCTION model_router.note_guard_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO model_router.guard_changes (tenant_id)
    VALUES (coalesce(NEW.tenant_id, OLD.tenant_id))
    ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id();
    RETURN NULL;
END
$function$;
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON model_router.guards
    FOR EACH ROW EXECUTE FUNCTION model_router.note_guard_change();

-- The door across tenants: the guards of tenants that changed one in `p_since` or later.
CREATE FUNCTION model_router.guards_since(p_since xid8)
RETURNS TABLE (tenant_id uuid, guards jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id,
           (SELECT coalesce(jsonb_agg(to_jsonb(g)), '[]')
              FROM model_router.guards g WHERE g.tenant_id = c.tenant_id)
      FROM model_router.guard_changes c
     WHERE c.changed >= p_since;
END;
REVOKE EXECUTE ON FUNCTION model_router.guards_since(xid8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION model_router.guards_since(xid8) TO meshwright_model_router;
