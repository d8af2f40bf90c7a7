-- The embedded vector index. It exists only where the server has pgvector; elsewhere another
-- vector index is configured. The length of a vector belongs to its knowledge base, so the column
-- has none; searches are exact.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        RAISE NOTICE 'pgvector is not installed: no embedded vector index';
        RETURN;
    END IF;

    CREATE TABLE passage_vectors (
        tenant_id   uuid NOT NULL,
        document_id uuid NOT NULL,
        generation  uuid NOT NULL,
        ordinal     integer NOT NULL,
        embedding   vector NOT NULL,
        PRIMARY KEY (tenant_id, document_id, generation, ordinal)
    );
    ALTER TABLE passage_vectors ENABLE ROW LEVEL SECURITY;
    ALTER TABLE passage_vectors FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON passage_vectors
        USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
    CREATE POLICY owner_access ON passage_vectors TO meshwright_owner
        USING (true) WITH CHECK (true);
END
$$;
