-- Calls are partitioned by tenant, so that they can lie in a schema of the tenant's own.
SELECT events.place_by_tenant('tool_exec.calls');
