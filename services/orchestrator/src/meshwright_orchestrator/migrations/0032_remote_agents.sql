-- Agents that joined from outside: what they are good for, where their programs run, and which of
-- these works on which task. Shared by all processes.
CREATE TABLE orchestrator.remote_agents (
    tenant_id uuid NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,64}$'),
    -- What it is good for, as sealed JSON.
    description bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Its last registration: an agent that is about to be joined is not forgotten.
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE orchestrator.agent_instances (
    tenant_id uuid NOT NULL,
    agent_instance_id uuid NOT NULL,
    agent text NOT NULL CHECK (agent ~ '^[a-z0-9_-]{1,64}$'),
    address text NOT NULL CHECK (length(address) BETWEEN 3 AND 300),
    state text NOT NULL DEFAULT 'online'
        CHECK (state IN ('online', 'draining', 'unknown', 'offline')),
    -- Counts its streams of heartbeats: the newest one alone may write.
    stream_epoch bigint NOT NULL DEFAULT 0,
    weight smallint NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100),
    -- How far it is from its next turn (smooth weighted round robin).
    turn bigint NOT NULL DEFAULT 0,
    cpu_free double precision NOT NULL DEFAULT 0,
    memory_free double precision NOT NULL DEFAULT 0,
    pending_tasks integer NOT NULL DEFAULT 0,
    error_rate double precision NOT NULL DEFAULT 0,
    max_concurrent_tasks integer NOT NULL CHECK (max_concurrent_tasks BETWEEN 1 AND 1000),
    labels jsonb NOT NULL DEFAULT '{}',
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz,
    -- Registration or last heartbeat.
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, agent_instance_id)
);
CREATE UNIQUE INDEX agent_instances_place
    ON orchestrator.agent_instances (tenant_id, agent, address) WHERE state <> 'offline';
CREATE INDEX agent_instances_seen ON orchestrator.agent_instances (seen_at);

-- Which instance works on a task. One that took a task over asks the same instance again.
CREATE TABLE orchestrator.agent_assignments (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    agent_instance_id uuid NOT NULL,
    -- What the instance calls the task. Empty until it said so.
    remote_task_id text NOT NULL DEFAULT '' CHECK (length(remote_task_id) <= 128),
    -- The instance has ended it: there is nothing to cancel.
    ended boolean NOT NULL DEFAULT false,
    assigned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, task_id)
);
CREATE INDEX agent_assignments_of_instance
    ON orchestrator.agent_assignments (tenant_id, agent_instance_id);

DO $do$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['remote_agents', 'agent_instances', 'agent_assignments'] LOOP
        PERFORM events.protect_tenants(format('orchestrator.%I', v_table)::regclass);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON orchestrator.%I TO meshwright_orchestrator',
            v_table);
    END LOOP;
END
$do$;

SELECT encryption.declare_sealed('orchestrator.remote_agents', 'description', 'name');
SELECT events.place_by_tenant('orchestrator.remote_agents');

-- The doors across tenants, for the process itself. Each row is changed by one process alone.

-- Instances that were silent for too long, in the state that they have by that now.
CREATE FUNCTION orchestrator.silence_agents(
    unknown_seconds double precision, offline_seconds double precision, most integer
) RETURNS TABLE (
    agent_instance_id uuid, agent text, state text, weight smallint, cpu_free double precision,
    memory_free double precision, pending_tasks integer, error_rate double precision
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH silent AS (
        SELECT i.tenant_id, i.agent_instance_id FROM orchestrator.agent_instances AS i
         WHERE i.state <> 'offline'
           AND i.seen_at < clock_timestamp() - make_interval(
                secs => CASE i.state WHEN 'unknown' THEN offline_seconds ELSE unknown_seconds END)
         ORDER BY i.seen_at LIMIT most
           FOR UPDATE SKIP LOCKED)
    UPDATE orchestrator.agent_instances AS i
       SET state = CASE WHEN i.seen_at < clock_timestamp() - make_interval(secs => offline_seconds)
                        THEN 'offline' ELSE 'unknown' END
      FROM silent
     WHERE i.tenant_id = silent.tenant_id AND i.agent_instance_id = silent.agent_instance_id
    RETURNING i.agent_instance_id, i.agent, i.state, i.weight, i.cpu_free, i.memory_free,
        i.pending_tasks, i.error_rate
$$;

-- Forget instances that left long ago, and agents that have none any more.
CREATE FUNCTION orchestrator.forget_agents(kept_seconds double precision) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM orchestrator.agent_instances AS i
     WHERE i.state = 'offline'
       AND i.seen_at < clock_timestamp() - make_interval(secs => kept_seconds);
    DELETE FROM orchestrator.remote_agents AS a
     WHERE a.updated_at < clock_timestamp() - make_interval(secs => kept_seconds)
       AND NOT EXISTS (SELECT FROM orchestrator.agent_instances AS i
                        WHERE i.tenant_id = a.tenant_id AND i.agent = a.name);
$$;

-- Assignments of tasks that have ended, removed, with where to cancel what goes on there.
CREATE FUNCTION orchestrator.take_ended_assignments(most integer)
RETURNS TABLE (tenant_id uuid, task_id uuid, remote_task_id text, ended boolean, address text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH over AS (
        SELECT a.tenant_id, a.task_id FROM orchestrator.agent_assignments AS a
         WHERE NOT EXISTS (SELECT FROM orchestrator.tasks AS t
                            WHERE t.tenant_id = a.tenant_id AND t.task_id = a.task_id
                              AND t.ended_at IS NULL)
         LIMIT most
           FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM orchestrator.agent_assignments AS a USING over
         WHERE a.tenant_id = over.tenant_id AND a.task_id = over.task_id
        RETURNING a.tenant_id, a.task_id, a.agent_instance_id, a.remote_task_id, a.ended)
    SELECT r.tenant_id, r.task_id, r.remote_task_id, r.ended OR i.address IS NULL,
           coalesce(i.address, '')
      FROM removed AS r
      LEFT JOIN orchestrator.agent_instances AS i
        ON i.tenant_id = r.tenant_id AND i.agent_instance_id = r.agent_instance_id
       AND i.state <> 'offline'
$$;

-- For the metrics: how many instances of each name and state, and how loaded they are.
CREATE FUNCTION orchestrator.count_agents()
RETURNS TABLE (agent text, state text, instances bigint, weight bigint, pending bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.agent, i.state, count(*), sum(i.weight), sum(i.pending_tasks)
      FROM orchestrator.agent_instances AS i
     WHERE i.state <> 'offline'
     GROUP BY i.agent, i.state ORDER BY i.agent, i.state LIMIT 1000
$$;

DO $do$
DECLARE
    v_door text;
BEGIN
    FOREACH v_door IN ARRAY ARRAY[
        'silence_agents(double precision, double precision, integer)',
        'forget_agents(double precision)', 'take_ended_assignments(integer)', 'count_agents()'
    ] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION orchestrator.%s FROM PUBLIC', v_door);
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION orchestrator.%s TO meshwright_orchestrator', v_door);
    END LOOP;
END
$do$;
