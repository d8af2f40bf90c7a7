-- Turns are partitioned by tenant, so that they can lie in a schema of the tenant's own.
SELECT events.place_by_tenant('chat.turns');

-- A tenant with running turns is not moved: the doors write their leases together with those of
-- others, who would be refused with them.
CREATE FUNCTION chat.tenant_is_busy(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM chat.turns AS t
                    WHERE t.tenant_id = p_tenant_id AND t.state = 'running')
$$;
