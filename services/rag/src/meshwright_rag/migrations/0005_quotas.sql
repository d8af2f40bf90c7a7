-- What a tenant stores, counted at every upload of one whose documents or bytes are limited.
CREATE INDEX documents_use ON documents (tenant_id) INCLUDE (size_bytes) WHERE deleted_at IS NULL;

-- Which shares of a quota the tenant's administrators were told about on which UTC day.
CREATE TABLE quota_alerts (
    tenant_id uuid NOT NULL,
    quota     text NOT NULL,
    day       date NOT NULL,
    percent   integer NOT NULL,
    PRIMARY KEY (tenant_id, quota, day, percent)
);
ALTER TABLE quota_alerts ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_alerts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON quota_alerts
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON quota_alerts TO meshwright_owner USING (true) WITH CHECK (true);
