-- What a tenant uploaded, and the indexes of it, is partitioned by tenant, so that it can lie in a
-- schema of the tenant's own. The queue of work names documents and holds nothing of them: it stays
-- one for all, because workers draw from it across tenants.
SELECT events.place_by_tenant('knowledge_bases');
SELECT events.place_by_tenant('documents');
SELECT events.place_by_tenant('document_versions');
SELECT events.place_by_tenant('passages');
SELECT events.place_by_tenant('passage_terms');

DO $$
BEGIN
    IF to_regclass('rag.passage_vectors') IS NOT NULL THEN
        PERFORM events.place_by_tenant('rag.passage_vectors');
    END IF;
END
$$;

-- A tenant whose documents are being worked on is not moved: its work would fail, and count that.
CREATE FUNCTION tenant_is_busy(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM rag.work AS w
                    WHERE w.tenant_id = p_tenant_id AND w.leased_until > now())
$$;

-- As before, and nothing of a tenant that moves just now.
CREATE OR REPLACE FUNCTION claim_work(wanted text[], lease_seconds double precision, most integer)
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
               AND NOT events.is_moving(d.tenant_id)
             ORDER BY d.available_at
             LIMIT most
               FOR UPDATE SKIP LOCKED) AS due
     WHERE (w.tenant_id, w.kind, w.subject_id) = (due.tenant_id, due.kind, due.subject_id)
    RETURNING w.tenant_id, w.kind, w.subject_id, w.epoch, w.attempts
$$;
