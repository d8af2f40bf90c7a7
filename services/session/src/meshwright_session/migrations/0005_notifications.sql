-- What users are told, and how tasks ended.

-- The last number given out in each tenant. Its row lock lets the writers of a tenant commit in
-- the order of their numbers, so that whoever read up to one misses nothing below it later.
CREATE TABLE notification_heads (
    tenant_id uuid PRIMARY KEY,
    sequence bigint NOT NULL
);
SELECT protect_tenants('notification_heads');
REVOKE DELETE ON notification_heads FROM meshwright_session;

CREATE TABLE notifications (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL,
    -- Id of its event: told again, it is there already.
    notification_id uuid NOT NULL,
    -- Empty: for the tenant's administrators.
    user_id text NOT NULL,
    kind text NOT NULL,
    title text NOT NULL,
    resource text NOT NULL,
    details jsonb NOT NULL,
    -- When it happened. Never in the future, whatever the teller's clock said.
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, notification_id)
);
CREATE INDEX notifications_user ON notifications (tenant_id, user_id, sequence);
CREATE INDEX notifications_age ON notifications (tenant_id, create_time);
SELECT protect_tenants('notifications');

-- Who has read what: those for administrators are read by each of them.
CREATE TABLE notification_reads (
    tenant_id uuid NOT NULL,
    reader_id text NOT NULL,
    sequence bigint NOT NULL,
    read_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, reader_id, sequence),
    FOREIGN KEY (tenant_id, sequence) REFERENCES notifications ON DELETE CASCADE
);
CREATE INDEX notification_reads_of ON notification_reads (tenant_id, sequence);
SELECT protect_tenants('notification_reads');

-- Drops notifications older than so many days, of all tenants; says how many.
CREATE FUNCTION prune_notifications(p_days integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.notifications WHERE create_time < now() - make_interval(days => p_days);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_notifications(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_notifications(integer) TO meshwright_session;

-- Tasks that ended, by UTC day; each is counted in the transaction that notes its event as seen.
CREATE TABLE task_daily (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    user_id text NOT NULL,
    agent text NOT NULL,
    state text NOT NULL,
    task_count bigint NOT NULL,
    total_tokens bigint NOT NULL,
    cost_micro_usd bigint NOT NULL,
    duration_milliseconds bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, user_id, agent, state)
);
CREATE INDEX task_daily_user ON task_daily (tenant_id, user_id, day);
SELECT protect_tenants('task_daily');
