-- Turns begun in one step; contexts sealed, with their versions kept; copies of them outside.

ALTER TABLE sessions
    -- Sequence of the last message that was summarised.
    ADD summarised_sequence bigint NOT NULL DEFAULT 0,
    -- Committed turns behind it.
    ADD open_turns integer NOT NULL DEFAULT 0,
    -- When the context's version moved last; null at version 0.
    ADD context_time timestamptz;

-- A row is made when a turn begins, and committed when it has a message_id.
ALTER TABLE turn_commits
    ALTER message_id DROP NOT NULL,
    ALTER context_version DROP NOT NULL,
    -- The user's message; null for turns of clients that appended it themselves.
    ADD question_id uuid,
    ADD question_sequence bigint;

-- A zero byte stands before what is not sealed yet: that is done right after the migrations.
ALTER TABLE contexts DROP CONSTRAINT contexts_size;
ALTER TABLE contexts
    ALTER data TYPE bytea USING '\x00'::bytea || convert_to(data::text, 'UTF8');
-- Every version of a context that is kept. The current one has no last_version.
ALTER TABLE contexts
    -- The version that wrote the data, and the last one that has it: turns move a context's version
    -- on without changing it.
    ADD version bigint,
    ADD last_version bigint,
    ADD replace_time timestamptz,
    -- Nothing was written before it.
    ADD is_first boolean NOT NULL DEFAULT false,
    -- The first one that was replaced in a window of time: it outlives those that follow it.
    ADD opens_window boolean NOT NULL DEFAULT false,
    ADD schema_version integer NOT NULL DEFAULT 1,
    -- A copy lies in the object store.
    ADD exported boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT contexts_size CHECK (octet_length(data) <= 300000);
UPDATE contexts c
   SET version = s.context_version
  FROM sessions s
 WHERE s.tenant_id = c.tenant_id AND s.session_id = c.session_id;
UPDATE sessions s
   SET context_time = c.update_time
  FROM contexts c
 WHERE s.tenant_id = c.tenant_id AND s.session_id = c.session_id;
ALTER TABLE contexts DROP CONSTRAINT contexts_pkey;
ALTER TABLE contexts ADD PRIMARY KEY (tenant_id, session_id, version);
CREATE UNIQUE INDEX contexts_current
    ON contexts (tenant_id, session_id) WHERE last_version IS NULL;
CREATE INDEX contexts_to_export ON contexts (update_time)
 WHERE last_version IS NULL AND NOT exported;
CREATE INDEX contexts_age ON contexts (replace_time) WHERE last_version IS NOT NULL;
SELECT encryption.declare_sealed('contexts', 'data', 'session_id', 'version');

-- What lies in the object store. No reference to the session: whoever removes the object looks
-- for rows whose session is gone.
CREATE TABLE context_exports (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    version bigint NOT NULL,
    last_version bigint NOT NULL,
    schema_version integer NOT NULL,
    size_bytes integer NOT NULL,
    sha256 text NOT NULL,
    -- When the version was written.
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, session_id, version)
);
SELECT protect_tenants('context_exports');
SELECT encryption.declare_objects('context_exports', 'create_time');
CREATE INDEX context_exports_age ON context_exports (create_time);

-- The doors across tenants.

-- Contexts without a copy in the object store, those that wait longest first.
CREATE FUNCTION contexts_to_export(p_limit integer)
RETURNS TABLE (tenant_id uuid, session_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.tenant_id, c.session_id
      FROM session.contexts c
     WHERE c.last_version IS NULL AND NOT c.exported
     ORDER BY c.update_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION contexts_to_export(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION contexts_to_export(integer) TO meshwright_session;

-- Copies that are older than so many days and not of a current version, or whose session is gone.
CREATE FUNCTION context_exports_to_drop(p_days integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, session_id uuid, version bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT e.tenant_id, e.session_id, e.version
      FROM session.context_exports e
     WHERE (
               e.create_time < now() - make_interval(days => p_days)
               AND NOT EXISTS (
                   SELECT FROM session.contexts c
                    WHERE c.tenant_id = e.tenant_id AND c.session_id = e.session_id
                      AND c.version = e.version AND c.last_version IS NULL
               )
           )
        OR NOT EXISTS (SELECT FROM session.sessions s
                        WHERE s.tenant_id = e.tenant_id AND s.session_id = e.session_id)
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION context_exports_to_drop(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION context_exports_to_drop(integer, integer) TO meshwright_session;

-- Drops versions that were replaced more than so many days ago, of all tenants; says how many.
CREATE FUNCTION prune_contexts(p_days integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.contexts
     WHERE last_version IS NOT NULL AND replace_time < now() - make_interval(days => p_days);
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_contexts(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_contexts(integer) TO meshwright_session;
