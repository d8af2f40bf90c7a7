-- Tenants as operators handle them: states, agreed limits, what is counted, who was told.

ALTER TABLE tenants
    ADD COLUMN state text NOT NULL DEFAULT 'active'
        CHECK (state IN ('active', 'suspended', 'deleting')),
    -- Limits agreed with the tenant. Null: the plan's. 0: none.
    ADD COLUMN max_sessions bigint CHECK (max_sessions >= 0),
    ADD COLUMN max_tokens_per_day bigint CHECK (max_tokens_per_day >= 0),
    ADD COLUMN max_documents bigint CHECK (max_documents >= 0),
    ADD COLUMN max_storage_bytes bigint CHECK (max_storage_bytes >= 0),
    ADD COLUMN max_concurrent_turns integer CHECK (max_concurrent_turns >= 0),
    ADD COLUMN allowed_models text[];
UPDATE tenants SET state = 'suspended' WHERE suspended;

CREATE OR REPLACE FUNCTION find_api_key(p_key_sha256 bytea)
RETURNS TABLE (
    tenant_id uuid, api_key_id uuid, user_id uuid, roles text[], permissions text[],
    expire_time timestamptz, usable boolean, suspended boolean
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.tenant_id, k.api_key_id, k.user_id, u.roles, k.permissions, k.expire_time,
           k.revoke_time IS NULL AND NOT u.disabled
               AND (k.expire_time IS NULL OR k.expire_time > now()),
           t.state <> 'active'
      FROM session.api_keys k
      JOIN session.users u ON u.tenant_id = k.tenant_id AND u.user_id = k.user_id
      JOIN session.tenants t ON t.tenant_id = k.tenant_id
     WHERE k.key_sha256 = p_key_sha256;
END;
ALTER TABLE tenants DROP COLUMN suspended;

-- A door across tenants: which there are, by slug, after a slug; or the one of a slug or an id.
CREATE FUNCTION list_tenants(p_name text, p_after text, p_limit integer) RETURNS SETOF tenants
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT t.* FROM session.tenants t
     WHERE t.slug > p_after AND (p_name = '' OR t.slug = p_name OR t.tenant_id::text = p_name)
     ORDER BY t.slug
     LIMIT p_limit
$function$;
REVOKE EXECUTE ON FUNCTION list_tenants(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION list_tenants(text, text, integer) TO meshwright_session;

-- Sessions of tenants whose sessions are limited. Without a row they are counted when one is made.
CREATE TABLE session_counts (
    tenant_id uuid PRIMARY KEY,
    sessions bigint NOT NULL CHECK (sessions >= 0)
);
SELECT protect_tenants('session_counts');

-- Called before a session is stored, in its transaction. Counts it, unless the tenant has as many
-- as it may have. A limit of 0 is none, and nothing is counted: sessions of such tenants do not
-- wait for each other.
CREATE FUNCTION try_admit_session(
    p_tenant_id uuid, p_starter bigint, p_professional bigint, p_enterprise bigint,
    OUT used bigint, OUT most bigint, OUT plan text, OUT admitted boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    SELECT t.plan, coalesce(t.max_sessions, CASE t.plan WHEN 'starter' THEN p_starter
                                            WHEN 'professional' THEN p_professional
                                            ELSE p_enterprise END)
      INTO plan, most
      FROM session.tenants t WHERE t.tenant_id = p_tenant_id;
    IF coalesce(most, 0) = 0 THEN
        -- Whoever counts (below) waits until this session is there to be counted.
        PERFORM FROM session.tenants t WHERE t.tenant_id = p_tenant_id FOR KEY SHARE;
        DELETE FROM session.session_counts c WHERE c.tenant_id = p_tenant_id;
        used := 0;
        most := 0;
        admitted := true;
        RETURN;
    END IF;
    LOOP
        UPDATE session.session_counts c SET sessions = c.sessions + 1
         WHERE c.tenant_id = p_tenant_id AND c.sessions < most
        RETURNING c.sessions INTO used;
        admitted := FOUND;
        EXIT WHEN admitted;
        SELECT c.sessions INTO used FROM session.session_counts c WHERE c.tenant_id = p_tenant_id;
        EXIT WHEN FOUND;
        PERFORM FROM session.tenants t WHERE t.tenant_id = p_tenant_id FOR UPDATE;
        INSERT INTO session.session_counts (tenant_id, sessions)
        SELECT p_tenant_id, count(*) FROM session.sessions s WHERE s.tenant_id = p_tenant_id
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$function$;

-- Does as try_admit_session, or raises MQ001 with what is used, the limit and the plan as its
-- detail.
CREATE FUNCTION admit_session(
    p_tenant_id uuid, p_starter bigint, p_professional bigint, p_enterprise bigint,
    OUT used bigint, OUT most bigint, OUT plan text
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_admitted boolean;
BEGIN
    SELECT a.used, a.most, a.plan, a.admitted INTO used, most, plan, v_admitted
      FROM session.try_admit_session(p_tenant_id, p_starter, p_professional, p_enterprise) a;
    IF NOT v_admitted THEN
        RAISE EXCEPTION 'the tenant has as many sessions as it may have'
              USING ERRCODE = 'MQ001', DETAIL = format('%s %s %s', used, most, plan);
    END IF;
END
$function$;

GRANT EXECUTE ON FUNCTION admit_session(uuid, bigint, bigint, bigint) TO meshwright_session;
GRANT EXECUTE ON FUNCTION try_admit_session(uuid, bigint, bigint, bigint) TO meshwright_session;

-- Whatever removes sessions, their users' removal included, takes them off the count.
CREATE FUNCTION uncount_sessions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_gone record;
BEGIN
    FOR v_gone IN SELECT g.tenant_id, count(*) AS sessions FROM gone g GROUP BY g.tenant_id LOOP
        -- Waits for whoever counts them just now, and sees that count then.
        PERFORM FROM session.tenants t WHERE t.tenant_id = v_gone.tenant_id FOR KEY SHARE;
        UPDATE session.session_counts c SET sessions = c.sessions - v_gone.sessions
         WHERE c.tenant_id = v_gone.tenant_id;
    END LOOP;
    RETURN NULL;
END
$function$;
CREATE TRIGGER sessions_uncounted AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION uncount_sessions();

-- Which shares of a quota the tenant's administrators were told about on which UTC day.
CREATE TABLE quota_alerts (
    tenant_id uuid NOT NULL,
    quota text NOT NULL,
    day date NOT NULL,
    percent integer NOT NULL,
    PRIMARY KEY (tenant_id, quota, day, percent)
);
SELECT protect_tenants('quota_alerts');
