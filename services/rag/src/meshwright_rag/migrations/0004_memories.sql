-- The embedded index of memories, where the server has pgvector: vectors alone, for the texts are
-- kept by session. A vector says which model made it: those of another one are not compared.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        RAISE NOTICE 'pgvector is not installed: no embedded index of memories';
        RETURN;
    END IF;

    CREATE TABLE memory_vectors (
        tenant_id uuid NOT NULL,
        memory_id uuid NOT NULL,
        user_id   uuid NOT NULL,
        model     text NOT NULL,
        embedding vector NOT NULL,
        PRIMARY KEY (tenant_id, memory_id)
    ) PARTITION BY LIST (tenant_id);
    CREATE INDEX memory_vectors_user ON memory_vectors (tenant_id, user_id);
    PERFORM events.place_by_tenant('memory_vectors');
END
$$;
