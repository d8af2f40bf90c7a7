-- Addresses that are told what happens, and what is told to them.
CREATE TABLE webhooks (
    tenant_id uuid NOT NULL,
    -- A UUID of version 7: ids sort by the time they were made.
    webhook_id uuid NOT NULL,
    -- Sealed, as the secrets are: what stands in an address may be one.
    url bytea NOT NULL,
    description text NOT NULL,
    event_types text[] NOT NULL,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_expires_at timestamptz,
    disabled boolean NOT NULL DEFAULT false,
    disabled_reason text NOT NULL DEFAULT '',
    -- Since when every attempt failed.
    failing_since timestamptz,
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, webhook_id)
) PARTITION BY LIST (tenant_id);
SELECT place_by_tenant('webhooks');
SELECT encryption.declare_sealed('webhooks', 'url', 'webhook_id');
SELECT encryption.declare_sealed('webhooks', 'secret', 'webhook_id');
SELECT encryption.declare_sealed('webhooks', 'previous_secret', 'webhook_id');

-- One message for one webhook, made in the transaction that notes its event as seen.
CREATE TABLE webhook_deliveries (
    tenant_id uuid NOT NULL,
    delivery_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    -- Id of the event.
    message_id uuid NOT NULL,
    -- Whom the message is about; empty: nobody.
    user_id text NOT NULL,
    event_type text NOT NULL,
    -- Sealed: the body as it is sent.
    body bytea NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    -- Due then; while somebody tries, when the attempt counts as lost.
    next_attempt_at timestamptz DEFAULT clock_timestamp(),
    last_status integer NOT NULL DEFAULT 0,
    last_error text NOT NULL DEFAULT '',
    last_duration_milliseconds integer NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    end_time timestamptz,
    PRIMARY KEY (tenant_id, delivery_id),
    UNIQUE (tenant_id, webhook_id, message_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE,
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'pending') = (end_time IS NULL))
) PARTITION BY LIST (tenant_id);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (tenant_id, webhook_id, delivery_id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant_id, webhook_id, next_attempt_at)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (end_time) WHERE end_time IS NOT NULL;
SELECT place_by_tenant('webhook_deliveries');
SELECT encryption.declare_sealed('webhook_deliveries', 'body', 'delivery_id');

-- A door across tenants, for the process itself: deliveries that are due, of each webhook the
-- oldest few, so that what piles up for one does not hide the others. It writes nothing.
CREATE FUNCTION due_webhook_deliveries(p_most integer, p_per_webhook integer)
RETURNS TABLE (tenant_id uuid, webhook_id uuid, delivery_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT due.tenant_id, due.webhook_id, due.delivery_id
      FROM (SELECT DISTINCT d.tenant_id, d.webhook_id FROM session.webhook_deliveries d
             WHERE d.state = 'pending' AND d.next_attempt_at <= clock_timestamp()) AS waiting,
           LATERAL (SELECT d.tenant_id, d.webhook_id, d.delivery_id
                      FROM session.webhook_deliveries d
                     WHERE d.tenant_id = waiting.tenant_id AND d.webhook_id = waiting.webhook_id
                       AND d.state = 'pending' AND d.next_attempt_at <= clock_timestamp()
                     ORDER BY d.next_attempt_at LIMIT p_per_webhook) AS due
     LIMIT p_most
$function$;

-- Drops deliveries that ended more than so many days ago, of all tenants; says how many.
CREATE FUNCTION prune_webhook_deliveries(p_days integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.webhook_deliveries
     WHERE end_time < now() - make_interval(days => p_days);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION due_webhook_deliveries(integer, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION prune_webhook_deliveries(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION due_webhook_deliveries(integer, integer) TO meshwright_session;
GRANT EXECUTE ON FUNCTION prune_webhook_deliveries(integer) TO meshwright_session;
