-- Tasks and their journals are partitioned by tenant, so that they can lie in a schema of the
-- tenant's own.

-- PostgreSQL 15 and 16 know no identity in partitions.
ALTER TABLE orchestrator.transitions ALTER COLUMN "number" DROP IDENTITY;
CREATE SEQUENCE orchestrator.transition_numbers;
SELECT setval('orchestrator.transition_numbers', coalesce(max("number"), 0) + 1, false)
  FROM orchestrator.transitions;
ALTER TABLE orchestrator.transitions
    ALTER COLUMN "number" SET DEFAULT nextval('orchestrator.transition_numbers');

SELECT events.place_by_tenant('orchestrator.tasks');
SELECT events.place_by_tenant('orchestrator.steps');
SELECT events.place_by_tenant('orchestrator.transitions');

-- A tenant with tasks that wait or run is not moved: the doors write their leases together with
-- those of others, who would be refused with them.
CREATE FUNCTION orchestrator.tenant_is_busy(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM orchestrator.tasks AS t
                    WHERE t.tenant_id = p_tenant_id AND t.ended_at IS NULL)
$$;
