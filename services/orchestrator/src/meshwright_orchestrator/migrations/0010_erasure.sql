-- The door by which tasks are erased: rows of tasks and journals go through doors only. It reaches
-- the tenant that is set, and no other.

-- Deletes up to `most` tasks of the current tenant, or those of `of_user`, with their journals, in
-- whatever state. Whoever works on one finds its lease gone and stops. Says how many.
CREATE FUNCTION orchestrator.erase_tasks(of_user text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    chosen uuid[];
BEGIN
    SELECT array_agg(found.task_id) INTO chosen FROM (
        SELECT t.task_id FROM orchestrator.tasks AS t
         WHERE t.tenant_id = mine AND (of_user = '' OR t.subject = of_user)
         LIMIT most
           FOR UPDATE SKIP LOCKED) AS found;
    DELETE FROM orchestrator.steps AS s
     WHERE s.tenant_id = mine AND s.task_id = ANY (chosen);
    DELETE FROM orchestrator.transitions AS s
     WHERE s.tenant_id = mine AND s.task_id = ANY (chosen);
    DELETE FROM orchestrator.tasks AS t
     WHERE t.tenant_id = mine AND t.task_id = ANY (chosen);
    RETURN coalesce(cardinality(chosen), 0);
END
$$;

REVOKE ALL ON FUNCTION orchestrator.erase_tasks(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orchestrator.erase_tasks(text, integer) TO meshwright_orchestrator;
