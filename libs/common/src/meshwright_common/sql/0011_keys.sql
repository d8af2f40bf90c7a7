-- Keys of tenants, shared by all services: whoever seals content of a tenant finds its key here.
-- What stands here is wrapped by a master key that the database never sees.
CREATE SCHEMA encryption;
GRANT USAGE ON SCHEMA encryption TO meshwright_services;

CREATE TABLE encryption.tenant_keys (
    tenant_id uuid NOT NULL,
    -- seal: a data key. blind: the secret behind digests that are compared; it is never replaced.
    purpose text NOT NULL CHECK (purpose IN ('seal', 'blind')),
    version integer NOT NULL CHECK (version >= 1),
    -- The id of the master key that wraps it.
    master_key text NOT NULL CHECK (length(master_key) BETWEEN 1 AND 64),
    -- Null when it was destroyed.
    wrapped bytea,
    -- How often something was sealed with it, about: counted once a minute by each process.
    seals bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- From then on it seals. Before, every process learns of it.
    usable_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Null: as it was made with the tenant.
    changed_at timestamptz,
    -- When all rows were last found to be sealed by it, or by it anew.
    resealed_at timestamptz,
    destroyed_at timestamptz,
    PRIMARY KEY (tenant_id, purpose, version),
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);

CREATE INDEX tenant_keys_changes ON encryption.tenant_keys (changed_at)
    WHERE changed_at IS NOT NULL;

ALTER TABLE encryption.tenant_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE encryption.tenant_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON encryption.tenant_keys
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON encryption.tenant_keys TO meshwright_owner
    USING (true) WITH CHECK (true);

-- A key that is there is changed by the doors and by operators alone.
GRANT SELECT, INSERT ON encryption.tenant_keys TO meshwright_services;

-- Which columns hold sealed content, and which columns name their rows: how content is found that
-- an old key has sealed. Written by the migrations that make such columns.
CREATE TABLE encryption.sealed_columns (
    relation text NOT NULL,
    sealed_column text NOT NULL,
    row_id text[] NOT NULL CHECK (cardinality(row_id) >= 1),
    -- Some rows hold plain content behind a byte of zero: they are older than the column.
    has_plain boolean NOT NULL,
    PRIMARY KEY (relation, sealed_column)
);

-- Tables whose rows stand for sealed objects outside of PostgreSQL, which are never sealed anew, with
-- the column that says when an object was made: what may have been sealed by which key.
CREATE TABLE encryption.sealed_objects (
    relation text PRIMARY KEY,
    time_column text NOT NULL
);

CREATE FUNCTION encryption.declare_sealed(
    relation regclass, sealed_column text, VARIADIC row_id text[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    qualified text;
    has_plain boolean;
BEGIN
    SELECT n.nspname || '.' || c.relname INTO qualified
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = relation;
    IF NOT EXISTS (
        SELECT FROM pg_attribute a
         WHERE a.attrelid = relation AND a.attname = sealed_column
           AND a.atttypid = 'bytea'::regtype AND NOT a.attisdropped)
    THEN
        RAISE EXCEPTION '% has no column % of type bytea', qualified, sealed_column;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %s WHERE substring(%I FROM 1 FOR 1) = ''\x00'')',
        relation, sealed_column) INTO has_plain;
    INSERT INTO encryption.sealed_columns (relation, sealed_column, row_id, has_plain)
    VALUES (qualified, sealed_column, declare_sealed.row_id, has_plain);
END
$$;

CREATE FUNCTION encryption.declare_objects(relation regclass, time_column text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO encryption.sealed_objects (relation, time_column)
    SELECT n.nspname || '.' || c.relname, a.attname
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = declare_objects.time_column
     WHERE c.oid = declare_objects.relation
        ON CONFLICT ON CONSTRAINT sealed_objects_pkey
        DO UPDATE SET time_column = excluded.time_column;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% has no column %', relation, time_column;
    END IF;
END
$$;

-- Doors. None gives away a key.

-- Tenants whose keys were changed lately, each with its last change.
CREATE FUNCTION encryption.changed_tenants(within_seconds double precision)
RETURNS TABLE (tenant_id uuid, changed_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.tenant_id, max(k.changed_at)
      FROM encryption.tenant_keys k
     WHERE k.changed_at > clock_timestamp() - make_interval(secs => within_seconds)
     GROUP BY k.tenant_id
$$;

-- Add the next data key of a tenant. False: somebody else has, or the tenant's keys are destroyed.
CREATE FUNCTION encryption.add_key(
    of_tenant uuid, new_version integer, new_master_key text, new_wrapped bytea,
    usable_after_seconds double precision
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The row that each tenant has once: whoever changes its keys takes turns here.
    PERFORM FROM encryption.tenant_keys k
      WHERE k.tenant_id = of_tenant AND k.purpose = 'blind' AND k.wrapped IS NOT NULL
        FOR UPDATE;
    IF NOT FOUND OR new_version <> (
        SELECT max(k.version) + 1 FROM encryption.tenant_keys k
         WHERE k.tenant_id = of_tenant AND k.purpose = 'seal')
    THEN
        RETURN false;
    END IF;
    INSERT INTO encryption.tenant_keys
        (tenant_id, purpose, version, master_key, wrapped, usable_at, changed_at)
    VALUES (of_tenant, 'seal', new_version, new_master_key, new_wrapped,
        clock_timestamp() + make_interval(secs => usable_after_seconds), clock_timestamp());
    RETURN true;
END
$$;

CREATE FUNCTION encryption.count_seals(tenant_ids uuid[], versions integer[], counts bigint[])
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE encryption.tenant_keys AS k
       SET seals = k.seals + free.seals
      FROM (
        SELECT counted.tenant_id, counted.version, mine.seals
          FROM unnest(tenant_ids, versions, counts) AS mine (tenant_id, version, seals)
          JOIN encryption.tenant_keys AS counted
            ON counted.tenant_id = mine.tenant_id AND counted.purpose = 'seal'
               AND counted.version = mine.version
         -- In one order, so that processes that count at the same time do not wait in a circle.
         ORDER BY counted.tenant_id, counted.version
           FOR UPDATE OF counted) AS free
     WHERE k.tenant_id = free.tenant_id AND k.purpose = 'seal' AND k.version = free.version
$$;

-- Destroy all keys of a tenant, for good: its rows stay, so that nobody makes it new ones.
CREATE FUNCTION encryption.destroy_keys(of_tenant uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO encryption.tenant_keys AS k
        (tenant_id, purpose, version, master_key, wrapped, changed_at, destroyed_at)
    VALUES (of_tenant, 'blind', 1, 'none', NULL, clock_timestamp(), clock_timestamp())
    ON CONFLICT (tenant_id, purpose, version) DO UPDATE
       SET wrapped = NULL, changed_at = clock_timestamp(), destroyed_at = clock_timestamp()
     WHERE k.wrapped IS NOT NULL;
    UPDATE encryption.tenant_keys AS k
       SET wrapped = NULL, changed_at = clock_timestamp(), destroyed_at = clock_timestamp()
     WHERE k.tenant_id = of_tenant AND k.wrapped IS NOT NULL;
$$;

REVOKE ALL ON FUNCTION encryption.declare_sealed(regclass, text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION encryption.declare_objects(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION encryption.changed_tenants(double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION encryption.add_key(uuid, integer, text, bytea, double precision)
    FROM PUBLIC;
REVOKE ALL ON FUNCTION encryption.count_seals(uuid[], integer[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION encryption.destroy_keys(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION encryption.changed_tenants(double precision) TO meshwright_services;
GRANT EXECUTE ON FUNCTION encryption.add_key(uuid, integer, text, bytea, double precision)
    TO meshwright_services;
GRANT EXECUTE ON FUNCTION encryption.count_seals(uuid[], integer[], bigint[])
    TO meshwright_services;
GRANT EXECUTE ON FUNCTION encryption.destroy_keys(uuid) TO meshwright_session;
