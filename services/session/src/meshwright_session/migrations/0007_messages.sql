-- Messages at size: content and titles sealed, words to search for, months that are dropped whole,
-- sessions that branch, and sessions that lie in the archive.

-- A reference from messages to sessions would lock `sessions` whenever a month is dropped. Whoever
-- removes a session removes its messages in the same transaction.
DO $do$
DECLARE
    v_table regclass;
    v_name text;
BEGIN
    FOR v_table, v_name IN
        SELECT c.conrelid, c.conname
          FROM pg_constraint c, pg_partition_tree('session.messages') t
         WHERE c.conrelid = t.relid AND c.contype = 'f' AND c.conparentid = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', v_table, v_name);
    END LOOP;
END
$do$;

-- Sequences have no gaps, so a page is a range of them: found by the index alone, however long its
-- session. Time comes last, because each month's key needs it.
DO $do$
DECLARE
    v_name text;
BEGIN
    SELECT conname INTO STRICT v_name FROM pg_constraint
     WHERE conrelid = 'session.messages'::regclass AND contype = 'p';
    EXECUTE format('ALTER TABLE session.messages DROP CONSTRAINT %I', v_name);
    EXECUTE format('ALTER TABLE session.messages ADD CONSTRAINT %I '
                   'PRIMARY KEY (tenant_id, session_id, sequence, create_time)', v_name);
END
$do$;

-- Digests of the words of a message, keyed by its tenant and mixed with its user: equal words of two
-- users look different. They lie in the message's row, so they go with its month.
ALTER TABLE messages ADD COLUMN words text[] NOT NULL DEFAULT '{}';
CREATE INDEX messages_words ON messages USING gin (words);

-- A zero byte stands before what is not sealed yet: that is done right after the migrations.
UPDATE messages SET content = '\x00'::bytea || content;

ALTER TABLE sessions
    -- Sealed. Null: none.
    ALTER COLUMN title DROP NOT NULL,
    ALTER COLUMN title TYPE bytea USING '\x00'::bytea || convert_to(nullif(title, ''), 'UTF8'),
    -- Where its first messages were copied from; the last of them, by its sequence there.
    ADD COLUMN parent_session_id uuid,
    ADD COLUMN branch_sequence bigint NOT NULL DEFAULT 0,
    -- When it last came back from the archive. Whoever brought it back wants it for a while.
    ADD COLUMN restore_time timestamptz;

SELECT encryption.declare_sealed('messages', 'content', 'message_id');
SELECT encryption.declare_sealed('sessions', 'title', 'session_id');

-- Found by age: those that go to the archive, and those that are past the retention.
CREATE INDEX sessions_idle ON sessions (update_time) WHERE NOT archived AND message_count > 0;
CREATE INDEX sessions_at_rest ON sessions (update_time) WHERE archived OR message_count = 0;
CREATE INDEX turn_commits_age ON turn_commits USING brin (create_time);

-- Every object that was ever begun for an archived session has a row here, before it exists and
-- until it is gone. Without a session: nobody needs it. Without a digest: not finished.
CREATE TABLE session_archives (
    tenant_id uuid NOT NULL,
    archive_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid,
    create_time timestamptz NOT NULL DEFAULT now(),
    sha256 bytea CHECK (octet_length(sha256) = 32),
    size_bytes bigint,
    message_count bigint,
    oldest_message_time timestamptz,
    PRIMARY KEY (tenant_id, archive_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE SET NULL (session_id)
) PARTITION BY LIST (tenant_id);
SELECT place_by_tenant('session_archives');
-- A key that may have sealed an object stays for as long as the object does.
SELECT encryption.declare_objects('session_archives', 'create_time');
CREATE UNIQUE INDEX session_archives_session
    ON session_archives (tenant_id, session_id) WHERE sha256 IS NOT NULL;
CREATE INDEX session_archives_user ON session_archives (tenant_id, user_id);
CREATE INDEX session_archives_loose
    ON session_archives (create_time) WHERE session_id IS NULL OR sha256 IS NULL;
CREATE INDEX session_archives_age
    ON session_archives (oldest_message_time) WHERE sha256 IS NOT NULL;

-- The beginning of the oldest month that is kept: this one and so many before it.
CREATE FUNCTION kept_since(p_months integer) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
BEGIN ATOMIC
    SELECT date_trunc('month', now()) - make_interval(months => p_months);
END;

GRANT EXECUTE ON FUNCTION kept_since(integer) TO meshwright_session;

-- The months of a table, wherever in the tree they lie. Null bounds: from the beginning.
CREATE FUNCTION months_of(p_table text)
RETURNS TABLE (month regclass, parent regclass, starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $function$
    SELECT t.relid, t.parentrelid, (bounds.parts)[1]::timestamptz, (bounds.parts)[2]::timestamptz
      FROM pg_partition_tree(('session.' || p_table)::regclass) t
      JOIN pg_class c ON c.oid = t.relid,
           LATERAL (SELECT regexp_match(
               pg_get_expr(c.relpartbound, c.oid),
               $$FROM \((?:'([^']+)'|MINVALUE)\) TO \('([^']+)'\)$$
           ) AS parts) bounds
     WHERE t.isleaf AND bounds.parts IS NOT NULL
$function$;
GRANT EXECUTE ON FUNCTION months_of(text) TO meshwright_session;

-- Drops the oldest month that ends before the oldest one kept; says its name, null when there is
-- none. It needs the table for itself for a moment, and waits for that so briefly that nobody who
-- writes behind it notices; 'busy' then: ask again.
CREATE FUNCTION drop_month(p_table text, p_months integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '40ms' SET timezone = 'UTC'
AS $function$
DECLARE
    v_month regclass;
    v_name text;
BEGIN
    IF p_table NOT IN ('messages', 'usage_ledger') OR p_months < 1 THEN
        RAISE EXCEPTION 'no months of % are dropped', p_table USING ERRCODE = '22023';
    END IF;
    -- One at a time; nobody waits for another one's turn.
    IF NOT pg_try_advisory_xact_lock(hashtext('meshwright.session.drop_month')) THEN
        RETURN 'busy';
    END IF;
    SELECT m.month INTO v_month
      FROM session.months_of(p_table) m
     WHERE m.ends <= session.kept_since(p_months)
     ORDER BY m.ends, m.month::text
     LIMIT 1;
    IF v_month IS NULL THEN
        RETURN NULL;
    END IF;
    v_name := v_month::text;
    BEGIN
        EXECUTE format('DROP TABLE %s', v_name);
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'busy';
    END;
    RETURN v_name;
END
$function$;
REVOKE EXECUTE ON FUNCTION drop_month(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_month(text, integer) TO meshwright_session;

-- From when on messages of a tenant can be written: earlier months were dropped. 1970: from ever.
CREATE FUNCTION messages_since(p_tenant uuid) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH places AS (
        SELECT i.inhrelid, pg_get_expr(c.relpartbound, c.oid) AS bound
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'session.messages'::regclass
    ), place AS (
        SELECT coalesce(
            (SELECT inhrelid FROM places WHERE bound LIKE '%IN (%''' || p_tenant || '''%'),
            (SELECT inhrelid FROM places WHERE bound = 'DEFAULT'),
            'session.messages'::regclass::oid
        ) AS oid
    )
    SELECT min(coalesce(m.starts, 'epoch'))
      FROM session.months_of('messages') m, place WHERE m.parent = place.oid
$function$;
GRANT EXECUTE ON FUNCTION messages_since(uuid) TO meshwright_session;

-- Removes records of turns that were committed before the oldest month kept; says how many.
CREATE FUNCTION prune_turn_commits(p_months integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_dropped bigint;
BEGIN
    DELETE FROM session.turn_commits
     WHERE (tenant_id, session_id, turn_id) IN (
         SELECT tenant_id, session_id, turn_id FROM session.turn_commits
          WHERE create_time < session.kept_since(p_months) LIMIT p_limit
     );
    GET DIAGNOSTICS v_dropped = ROW_COUNT;
    RETURN v_dropped;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_turn_commits(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_turn_commits(integer, integer) TO meshwright_session;

-- Removes what is known of model calls before the oldest month kept; says how many. Their ids are
-- UUIDs of version 7, which begin with the millisecond and so are found by the index of ids.
CREATE FUNCTION prune_usage_calls(p_months integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_tenant uuid;
    v_first uuid := rpad(
        lpad(to_hex((extract(epoch FROM session.kept_since(p_months)) * 1000)::bigint), 12, '0'),
        32, '0'
    )::uuid;
    v_dropped bigint;
    v_all bigint := 0;
BEGIN
    FOR v_tenant IN SELECT tenant_id FROM session.tenants LOOP
        DELETE FROM session.usage_calls
         WHERE tenant_id = v_tenant AND event_id IN (
             SELECT event_id FROM session.usage_calls
              WHERE tenant_id = v_tenant AND event_id < v_first
                AND substr(event_id::text, 15, 1) = '7'
              ORDER BY event_id LIMIT p_limit - v_all
         );
        GET DIAGNOSTICS v_dropped = ROW_COUNT;
        v_all := v_all + v_dropped;
        EXIT WHEN v_all >= p_limit;
    END LOOP;
    RETURN v_all;
END
$function$;
REVOKE EXECUTE ON FUNCTION prune_usage_calls(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_usage_calls(integer, integer) TO meshwright_session;

-- Sessions nobody has touched for so many days, longest first: for the archive.
CREATE FUNCTION find_idle_sessions(p_days integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, user_id uuid, session_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.tenant_id, s.user_id, s.session_id
      FROM session.sessions s
     WHERE NOT s.archived AND s.message_count > 0
       AND s.update_time < now() - make_interval(days => p_days)
       AND coalesce(s.restore_time, '-infinity') < now() - make_interval(days => p_days)
     ORDER BY s.update_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION find_idle_sessions(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_idle_sessions(integer, integer) TO meshwright_session;

-- Sessions nobody has touched since before the oldest month kept: no message of theirs is left.
CREATE FUNCTION find_expired_sessions(p_months integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, user_id uuid, session_id uuid, update_time timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.tenant_id, s.user_id, s.session_id, s.update_time
      FROM session.sessions s
     WHERE s.update_time < session.kept_since(p_months)
       AND ((NOT s.archived AND s.message_count > 0) OR (s.archived OR s.message_count = 0))
     ORDER BY s.update_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION find_expired_sessions(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_expired_sessions(integer, integer) TO meshwright_session;

-- Archived sessions of which a message is older than the oldest month kept.
CREATE FUNCTION find_outgrown_archives(p_months integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, user_id uuid, session_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.tenant_id, a.user_id, a.session_id
      FROM session.session_archives a
     WHERE a.oldest_message_time < session.kept_since(p_months)
       AND a.sha256 IS NOT NULL AND a.session_id IS NOT NULL
     ORDER BY a.oldest_message_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION find_outgrown_archives(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_outgrown_archives(integer, integer) TO meshwright_session;

-- Archives that nobody needs, or that nobody finished within so many minutes.
CREATE FUNCTION find_loose_archives(p_minutes integer, p_limit integer)
RETURNS TABLE (tenant_id uuid, user_id uuid, archive_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT a.tenant_id, a.user_id, a.archive_id
      FROM session.session_archives a
     WHERE (a.session_id IS NULL OR a.sha256 IS NULL)
       AND (a.session_id IS NULL OR a.create_time < now() - make_interval(mins => p_minutes))
     ORDER BY a.create_time
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION find_loose_archives(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_loose_archives(integer, integer) TO meshwright_session;

-- Messages of the tenant that is set that hold all the words, newest first. It runs as the owner
-- because the planner may not use a GIN index below row-level security (`@>` is not leakproof); it
-- names the tenant itself and can reach no other.
CREATE FUNCTION search_messages(
    p_user uuid, p_words text[], p_session uuid,
    p_time timestamptz, p_after_session uuid, p_sequence bigint, p_limit integer)
RETURNS TABLE (
    session_id uuid, create_time timestamptz, sequence bigint, message_id uuid, turn_id uuid,
    content bytea
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT m.session_id, m.create_time, m.sequence, m.message_id, m.turn_id, m.content
      FROM session.messages m
      JOIN session.sessions s ON s.tenant_id = m.tenant_id AND s.session_id = m.session_id
     WHERE m.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
       AND s.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
       AND s.user_id = p_user
       AND m.words @> p_words
       AND (p_session IS NULL OR m.session_id = p_session)
       AND m.create_time <= p_time
       AND (m.create_time, m.session_id, m.sequence) < (p_time, p_after_session, p_sequence)
     ORDER BY m.create_time DESC, m.session_id DESC, m.sequence DESC
     LIMIT p_limit;
END;
REVOKE EXECUTE ON FUNCTION search_messages FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_messages TO meshwright_session;
