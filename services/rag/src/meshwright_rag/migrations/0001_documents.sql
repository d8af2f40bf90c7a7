-- Knowledge bases, documents with their versions and passages, and the background work on them.

CREATE TABLE knowledge_bases (
    tenant_id       uuid NOT NULL,
    id              uuid NOT NULL,
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    description     text NOT NULL DEFAULT '' CHECK (char_length(description) <= 2000),
    -- Empty, and the length null, until the first vectors come: then they never change.
    embedding_model text NOT NULL DEFAULT '',
    vector_length   integer CHECK (vector_length > 0),
    request_id      text CHECK (char_length(request_id) BETWEEN 1 AND 128),
    created_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX knowledge_bases_name
    ON knowledge_bases (tenant_id, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX knowledge_bases_request
    ON knowledge_bases (tenant_id, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE documents (
    tenant_id         uuid NOT NULL,
    id                uuid NOT NULL,
    knowledge_base_id uuid NOT NULL,
    name              text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    media_type        text NOT NULL,
    size_bytes        bigint NOT NULL CHECK (size_bytes > 0),
    sha256            text NOT NULL CHECK (char_length(sha256) = 64),
    object_key        text NOT NULL,
    version           integer NOT NULL DEFAULT 1 CHECK (version > 0),
    metadata          jsonb NOT NULL DEFAULT '{}',
    state             text NOT NULL DEFAULT 'pending'
                      CHECK (state IN ('pending', 'indexing', 'ready', 'failed', 'deleted')),
    failure_reason    text NOT NULL DEFAULT '',
    failure_message   text NOT NULL DEFAULT '',
    stage             text NOT NULL DEFAULT 'stored',
    chunks_done       integer NOT NULL DEFAULT 0,
    chunks_total      integer NOT NULL DEFAULT 0,
    page_count        integer NOT NULL DEFAULT 0,
    -- Passages of the index that answers.
    chunk_count       integer NOT NULL DEFAULT 0,
    -- The index that is wanted: being built, or the one that answers.
    generation        uuid NOT NULL,
    -- The index that answers. Null: none yet.
    live_generation   uuid,
    uploaded_by       text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, knowledge_base_id) REFERENCES knowledge_bases (tenant_id, id),
    CHECK ((state = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK (state <> 'ready' OR live_generation = generation)
);
CREATE UNIQUE INDEX documents_name
    ON documents (tenant_id, knowledge_base_id, name) WHERE deleted_at IS NULL;
CREATE INDEX documents_content
    ON documents (tenant_id, knowledge_base_id, sha256) WHERE deleted_at IS NULL;
CREATE INDEX documents_newest ON documents (tenant_id, knowledge_base_id, id);

CREATE TABLE document_versions (
    tenant_id   uuid NOT NULL,
    document_id uuid NOT NULL,
    version     integer NOT NULL,
    sha256      text NOT NULL,
    size_bytes  bigint NOT NULL,
    media_type  text NOT NULL,
    object_key  text NOT NULL,
    request_id  text CHECK (char_length(request_id) BETWEEN 1 AND 128),
    uploaded_by text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id, version),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX document_versions_request
    ON document_versions (tenant_id, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE passages (
    tenant_id    uuid NOT NULL,
    document_id  uuid NOT NULL,
    generation   uuid NOT NULL,
    ordinal      integer NOT NULL CHECK (ordinal >= 0),
    id           uuid NOT NULL,
    text         text NOT NULL,
    page         integer CHECK (page > 0),
    start_offset bigint NOT NULL,
    end_offset   bigint NOT NULL CHECK (end_offset > start_offset),
    heading_path text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, document_id, generation, ordinal),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id)
);

-- The embedded full-text index: positions of terms as jieba cuts them, written by the service.
-- Each row also holds its knowledge base as a term, so that one GIN search is confined to it.
CREATE TABLE passage_terms (
    tenant_id   uuid NOT NULL,
    document_id uuid NOT NULL,
    generation  uuid NOT NULL,
    ordinal     integer NOT NULL,
    terms       tsvector NOT NULL,
    term_count  integer NOT NULL CHECK (term_count > 0),
    PRIMARY KEY (tenant_id, document_id, generation, ordinal)
) WITH (
    -- Keeps the terms (2 KB) beside their row, not compressed: every search reads many of them.
    toast_tuple_target = 8160
);
ALTER TABLE passage_terms ALTER COLUMN terms SET STORAGE EXTERNAL;
CREATE INDEX passage_terms_terms ON passage_terms USING gin (terms);

CREATE TABLE work (
    tenant_id    uuid NOT NULL,
    kind         text NOT NULL
                 CHECK (kind IN ('index', 'erase_document', 'erase_knowledge_base', 'discard_object')),
    subject_id   uuid NOT NULL,
    -- Index: the generation to build. A new one ends the lease of whoever builds the old one.
    generation   uuid,
    object_key   text,
    attempts     integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz,
    epoch        bigint NOT NULL DEFAULT 0,
    last_error   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, subject_id)
);
CREATE INDEX work_due ON work (available_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['knowledge_bases', 'documents', 'document_versions', 'passages',
                                'passage_terms', 'work']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_isolation ON %I
            USING (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)
            WITH CHECK (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)',
            name);
        EXECUTE format('CREATE POLICY owner_access ON %I TO meshwright_owner
            USING (true) WITH CHECK (true)', name);
    END LOOP;
END
$$;

-- Door across tenants: a worker takes due work of anybody, and learns only what to work on.
CREATE FUNCTION claim_work(wanted text[], lease_seconds double precision, most integer)
RETURNS TABLE (tenant_id uuid, kind text, subject_id uuid, epoch bigint, attempts integer)
LANGUAGE sql SECURITY DEFINER SET search_path = rag, pg_temp
AS $$
    UPDATE work AS w
       SET leased_until = now() + make_interval(secs => lease_seconds),
           epoch = w.epoch + 1,
           attempts = w.attempts + 1
      FROM (SELECT d.tenant_id, d.kind, d.subject_id
              FROM work AS d
             WHERE d.available_at <= now()
               AND (d.leased_until IS NULL OR d.leased_until < now())
               AND d.kind = ANY (wanted)
             ORDER BY d.available_at
             LIMIT most
               FOR UPDATE SKIP LOCKED) AS due
     WHERE (w.tenant_id, w.kind, w.subject_id) = (due.tenant_id, due.kind, due.subject_id)
    RETURNING w.tenant_id, w.kind, w.subject_id, w.epoch, w.attempts
$$;
REVOKE ALL ON FUNCTION claim_work FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_work TO meshwright_rag;

-- Full-text search of the tenant that is set. It runs as the owner because the planner may not use
-- a GIN index below row-level security (`@@` is not leakproof); it names the tenant itself and can
-- reach no other.
CREATE FUNCTION search_terms(
    knowledge_bases uuid[], only_documents uuid[], holding jsonb,
    any_term tsquery, each_term tsquery[], each_pair tsquery[], most integer)
RETURNS TABLE (document_id uuid, generation uuid, ordinal integer, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = rag, pg_temp
AS $$
    WITH live AS MATERIALIZED (
        SELECT d.id, d.live_generation, d.chunk_count
          FROM documents AS d
         WHERE d.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
           AND d.knowledge_base_id = ANY (knowledge_bases)
           AND d.live_generation IS NOT NULL
           AND d.deleted_at IS NULL
           AND d.metadata @> holding
           AND (cardinality(only_documents) = 0 OR d.id = ANY (only_documents))
    ), matched AS MATERIALIZED (
        SELECT p.document_id, p.generation, p.ordinal, p.terms, p.term_count
          FROM passage_terms AS p
          JOIN live ON live.id = p.document_id AND live.live_generation = p.generation
         WHERE p.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
           AND p.terms @@ any_term
    ), size AS MATERIALIZED (
        SELECT greatest(sum(live.chunk_count), 1)::double precision AS passages,
               (SELECT greatest(avg(matched.term_count), 1) FROM matched)::double precision AS length
          FROM live
    ), asked AS MATERIALIZED (
        SELECT query, number, false AS is_pair
          FROM unnest(each_term) WITH ORDINALITY AS term (query, number)
         UNION ALL
        SELECT query, -number, true FROM unnest(each_pair) WITH ORDINALITY AS pair (query, number)
    ), found AS MATERIALIZED (
        -- How much of each term a passage holds. ts_rank of a single term rises with its frequency
        -- and levels off, as in BM25; terms of headings (A) count more than terms of the text (D).
        -- Words that stand together in question and text are worth about another occurrence.
        SELECT m.document_id, m.generation, m.ordinal, m.term_count, a.number,
               CASE WHEN NOT a.is_pair THEN ts_rank('{0.5, 0.5, 0.5, 1.0}', m.terms, a.query)
                    WHEN m.terms @@ a.query THEN 0.3
                    ELSE 0 END AS amount
          FROM matched AS m CROSS JOIN asked AS a
    ), weighted AS MATERIALIZED (
        -- Rare terms say more: the weight of BM25.
        SELECT term.number,
               ln(1 + (size.passages - term.matches + 0.5) / (term.matches + 0.5)) AS weight
          FROM (SELECT f.number, count(*) AS matches FROM found AS f
                 WHERE f.amount > 0 GROUP BY f.number) AS term
         CROSS JOIN size
    )
    SELECT f.document_id, f.generation, f.ordinal,
           sum(w.weight * f.amount) / (0.75 + 0.25 * f.term_count / size.length) AS score
      FROM found AS f
      JOIN weighted AS w ON w.number = f.number
     CROSS JOIN size
     WHERE f.amount > 0
     GROUP BY f.document_id, f.generation, f.ordinal, f.term_count, size.length
     ORDER BY score DESC, f.document_id, f.ordinal
     LIMIT most
$$;
REVOKE ALL ON FUNCTION search_terms FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_terms TO meshwright_rag;
