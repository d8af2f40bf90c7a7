-- What is remembered of users beyond a session. This is the truth; an index of vectors follows it.

CREATE TABLE memories (
    tenant_id uuid NOT NULL,
    -- A UUID of version 7: ids sort by the time they were made.
    memory_id uuid NOT NULL,
    user_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fact', 'preference', 'summary')),
    origin text NOT NULL CHECK (origin IN ('user', 'model', 'untrusted')),
    -- Sealed: text, topic and metadata as JSON.
    content bytea NOT NULL,
    -- Digests keyed by tenant and mixed with the user: of what two have in common that say the
    -- same, and of the topic. Null: about nothing in particular.
    sameness bytea NOT NULL,
    topic bytea,
    -- Where it was learned; the session may be gone.
    session_id uuid,
    turn_id uuid,
    confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    superseded_by uuid,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    expire_time timestamptz,
    PRIMARY KEY (tenant_id, memory_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
) PARTITION BY LIST (tenant_id);
CREATE INDEX memories_newest ON memories (tenant_id, user_id, memory_id);
CREATE INDEX memories_sameness ON memories (tenant_id, user_id, sameness)
    WHERE superseded_by IS NULL;
CREATE INDEX memories_topic ON memories (tenant_id, user_id, topic)
    WHERE superseded_by IS NULL AND topic IS NOT NULL;
CREATE INDEX memories_session ON memories (tenant_id, session_id) WHERE session_id IS NOT NULL;
SELECT place_by_tenant('memories');
SELECT encryption.declare_sealed('memories', 'content', 'memory_id');

-- Memories whose entry in the index may not be what their row says. Made in the transaction of the
-- change; ended by whoever brought the entry in line, if the memory did not change meanwhile.
CREATE TABLE memory_index_work (
    tenant_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    user_id uuid NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    -- Somebody holds it until then.
    available_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, memory_id)
);
CREATE INDEX memory_index_work_due ON memory_index_work (available_time);
CREATE INDEX memory_index_work_user ON memory_index_work (tenant_id, user_id);
SELECT protect_tenants('memory_index_work');

-- Whoever removes a memory, and however, its vector goes after it. Work that somebody holds stays
-- held: what they write last is looked at again after them.
CREATE FUNCTION note_memory_gone() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO session.memory_index_work AS w (tenant_id, memory_id, user_id)
    VALUES (OLD.tenant_id, OLD.memory_id, OLD.user_id)
    ON CONFLICT (tenant_id, memory_id) DO UPDATE SET epoch = w.epoch + 1;
    RETURN NULL;
END
$function$;
REVOKE EXECUTE ON FUNCTION note_memory_gone() FROM PUBLIC;
CREATE TRIGGER memory_gone AFTER DELETE ON memories
    FOR EACH ROW WHEN (current_setting('app.moving', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION note_memory_gone();

-- Door across tenants: a worker takes due work of anybody, and learns only what to look at.
CREATE FUNCTION claim_memory_index_work(p_lease_seconds double precision, p_limit integer)
RETURNS TABLE (tenant_id uuid, memory_id uuid, user_id uuid, epoch bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE session.memory_index_work AS w
       SET available_time = now() + make_interval(secs => p_lease_seconds)
      FROM (SELECT d.tenant_id, d.memory_id
              FROM session.memory_index_work AS d
             WHERE d.available_time <= now()
             ORDER BY d.available_time
             LIMIT p_limit
               FOR UPDATE SKIP LOCKED) AS due
     WHERE w.tenant_id = due.tenant_id AND w.memory_id = due.memory_id
    RETURNING w.tenant_id, w.memory_id, w.user_id, w.epoch;
END;
REVOKE EXECUTE ON FUNCTION claim_memory_index_work(double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_memory_index_work(double precision, integer)
    TO meshwright_session;
