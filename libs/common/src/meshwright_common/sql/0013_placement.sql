-- Where the rows of a tenant lie. A table of tenants' content is partitioned by tenant_id: its
-- default partition `<table>_shared` holds everybody, and a tenant with a schema of its own has
-- partitions there, `tenant_<32 digits of its id>.<schema>_<table>`. Queries, policies, doors across
-- tenants and later migrations name the parent and work on all of them alike.
--
-- Foreign keys between such tables stay inside a placement: they lie on the partitions, from one
-- shared partition to another, and within a tenant's schema. A check costs what it costs without
-- partitions, and rows can be moved and attached without a look at anybody else's.
--
-- A row is deleted from the shared partition when it moves, and lives on: triggers FOR EACH ROW on
-- DELETE have WHEN (current_setting('app.moving', true) IS DISTINCT FROM 'on').

-- Forces row-level security with the two policies that every table with tenant_id has. Idempotent.
CREATE FUNCTION events.protect_tenants(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    IF NOT EXISTS (SELECT FROM pg_policy
                    WHERE polrelid = p_table AND polname = 'tenant_isolation') THEN
        EXECUTE format(
            $policy$
            CREATE POLICY tenant_isolation ON %s
                USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
                WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
            $policy$,
            p_table
        );
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy
                    WHERE polrelid = p_table AND polname = 'owner_access') THEN
        EXECUTE format(
            'CREATE POLICY owner_access ON %s TO meshwright_owner USING (true) WITH CHECK (true)',
            p_table
        );
    END IF;
END
$function$;

-- The schema that a tenant has of its own, whether or not it has one.
CREATE FUNCTION events.schema_of_tenant(p_tenant uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN 'tenant_' || replace(p_tenant::text, '-', '');

-- Whether a table is partitioned by tenant.
CREATE FUNCTION events.is_placed(p_table regclass) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN EXISTS (
    SELECT FROM pg_partitioned_table p
      JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
     WHERE p.partrelid = p_table AND p.partstrat = 'l' AND a.attname = 'tenant_id'
);

-- The default partition of a table that is partitioned by tenant; null before there is one.
CREATE FUNCTION events.shared_of(p_table regclass) RETURNS regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN (SELECT nullif(partdefid, 0)::regclass FROM pg_partitioned_table
         WHERE partrelid = p_table);

-- The tables that are partitioned by range among a table, and the partitions of one that is
-- partitioned by tenant: whoever makes or drops periods goes through all of them.
CREATE FUNCTION events.range_tables(p_table regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
    SELECT p.partrelid::regclass
      FROM pg_partitioned_table p
     WHERE p.partstrat = 'r'
       AND (p.partrelid = p_table
            OR p.partrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = p_table))
     ORDER BY p.partrelid
$function$;

-- Partitions a table by tenant; what it holds becomes its default partition, and no row moves. For
-- a table that is partitioned so already it makes the default partition, so it belongs right after
-- CREATE TABLE … PARTITION BY LIST (tenant_id), and `p_then` may divide that partition further:
-- 'RANGE (create_time)'. Also after adding a foreign key to such a table. Privileges stay those of
-- the parent, and nobody but the owner reaches a partition directly.
CREATE FUNCTION events.place_by_tenant(p_table regclass, p_then text DEFAULT '') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_schema text;
    v_name text;
    v_parent regclass := p_table;
    v_tenant uuid;
    v_placed regclass;
BEGIN
    SELECT n.nspname, c.relname INTO v_schema, v_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_table;
    IF NOT events.is_placed(p_table) THEN
        v_parent := events.divide_by_tenant(p_table);
    ELSIF events.shared_of(p_table) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %I.%I PARTITION OF %s DEFAULT %s',
            v_schema, v_name || '_shared', p_table,
            CASE WHEN p_then = '' THEN '' ELSE 'PARTITION BY ' || p_then END
        );
        PERFORM events.protect_tenants(p_table);
        PERFORM events.protect_tenants(events.shared_of(p_table));
        PERFORM events.close_to_services(events.shared_of(p_table));
        PERFORM events.keep_references_inside(p_table);
        -- Nothing is in it yet, so tenants with their own schema get their partition at once.
        FOR v_tenant IN SELECT substr(nspname, 8)::uuid FROM pg_namespace
                         WHERE nspname ~ '^tenant_[0-9a-f]{32}$' LOOP
            v_placed := events.make_placed(p_table, v_tenant);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%L)',
                           p_table, v_placed, v_tenant);
        END LOOP;
    END IF;
    PERFORM events.keep_references_inside(v_parent);
END
$function$;

-- Nobody but the owner uses a partition directly.
CREATE FUNCTION events.close_to_services(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_role text;
BEGIN
    FOR v_role IN SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                                       ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                    FROM pg_class c, aclexplode(c.relacl) AS a
                   WHERE c.oid = p_table AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', p_table, v_role);
    END LOOP;
END
$function$;

-- Puts a parent, partitioned by tenant, over a table, under the table's name and with its indexes,
-- checks, triggers and privileges; the table becomes `<table>_shared`. Returns the parent.
CREATE FUNCTION events.divide_by_tenant(p_table regclass) RETURNS regclass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_schema text;
    v_name text;
    v_parent regclass;
    v_definitions text[];
    v_triggers text[];
    v_one record;
    v_definition text;
BEGIN
    SELECT n.nspname, c.relname INTO v_schema, v_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_table;
    v_triggers := ARRAY(SELECT pg_get_triggerdef(oid) FROM pg_trigger
                         WHERE tgrelid = p_table AND NOT tgisinternal ORDER BY tgname);
    v_definitions := ARRAY(
        SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s',
                      v_schema, v_name, conname, pg_get_constraintdef(oid))
          FROM pg_constraint
         WHERE conrelid = p_table
           AND (contype IN ('p', 'u')
                OR (contype = 'f' AND NOT events.is_placed(events.placed_parent(confrelid))))
         ORDER BY contype DESC, conname
    ) || ARRAY(
        SELECT replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
          FROM pg_index
         WHERE indrelid = p_table
           AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid
                              AND conrelid = p_table)
         ORDER BY indexrelid
    );
    FOR v_one IN SELECT tgname FROM pg_trigger WHERE tgrelid = p_table AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', v_one.tgname, p_table);
    END LOOP;
    -- The names are the parent's from now on.
    FOR v_one IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  WHERE i.indrelid = p_table LOOP
        EXECUTE format('ALTER INDEX %I.%I RENAME TO %I',
                       v_schema, v_one.relname, left(v_one.relname, 56) || '_shared');
    END LOOP;
    EXECUTE format('ALTER TABLE %s RENAME TO %I', p_table, v_name || '_shared');
    EXECUTE format(
        'CREATE TABLE %I.%I (LIKE %I.%I INCLUDING COMMENTS INCLUDING COMPRESSION'
        ' INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE)'
        ' PARTITION BY LIST (tenant_id)',
        v_schema, v_name, v_schema, v_name || '_shared'
    );
    v_parent := format('%I.%I', v_schema, v_name)::regclass;
    PERFORM events.protect_tenants(v_parent);
    FOREACH v_definition IN ARRAY v_definitions LOOP
        EXECUTE v_definition;
    END LOOP;
    PERFORM events.close_to_services(v_parent);
    FOR v_one IN SELECT a.privilege_type, pg_get_userbyid(a.grantee) AS role
                   FROM pg_class c, aclexplode(c.relacl) AS a
                  WHERE c.oid = p_table AND a.grantee NOT IN (0, c.relowner) LOOP
        EXECUTE format('GRANT %s ON %s TO %I', v_one.privilege_type, v_parent, v_one.role);
    END LOOP;
    PERFORM events.close_to_services(p_table);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I DEFAULT',
                   v_parent, v_schema, v_name || '_shared');
    FOREACH v_definition IN ARRAY v_triggers LOOP
        EXECUTE v_definition;
    END LOOP;
    RETURN v_parent;
END
$function$;

-- The table above a partition by tenant; any other table is its own.
CREATE FUNCTION events.placed_parent(p_table regclass) RETURNS regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN coalesce(
    (SELECT inhparent::regclass FROM pg_inherits
      WHERE inhrelid = p_table AND events.is_placed(inhparent)),
    p_table
);

-- Where the references of a partition go: to the partition of the same placement.
CREATE FUNCTION events.reference_inside(p_constraint oid, p_partition regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_named regclass;
    v_parent regclass;
    v_target regclass;
BEGIN
    SELECT confrelid INTO v_named FROM pg_constraint WHERE oid = p_constraint;
    v_parent := events.placed_parent(v_named);
    v_target := v_named;
    IF events.is_placed(v_parent) THEN
        SELECT i.inhrelid INTO v_target
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
          JOIN pg_class mine ON mine.oid = p_partition
         WHERE i.inhparent = v_parent AND c.relnamespace = mine.relnamespace;
        IF v_target IS NULL THEN
            SELECT c.oid INTO v_target
              FROM pg_class mine
              JOIN pg_class c ON c.relnamespace = mine.relnamespace
              JOIN pg_class parent ON parent.oid = v_parent
              JOIN pg_namespace n ON n.oid = parent.relnamespace
             WHERE mine.oid = p_partition AND c.relname = n.nspname || '_' || parent.relname;
        END IF;
        IF v_target IS NULL THEN
            RAISE EXCEPTION '% is not placed where % is', v_parent, p_partition
                USING ERRCODE = '55000';
        END IF;
    END IF;
    RETURN replace(pg_get_constraintdef(p_constraint), format('REFERENCES %s(', v_named),
                   format('REFERENCES %s(', v_target));
END
$function$;

-- Moves a table's foreign keys to other tables that are partitioned by tenant to the partitions.
CREATE FUNCTION events.keep_references_inside(p_table regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_key record;
    v_definitions text[];
    v_definition text;
BEGIN
    FOR v_key IN SELECT oid, conname FROM pg_constraint
                  WHERE conrelid = p_table AND contype = 'f' AND conparentid = 0
                    AND events.is_placed(events.placed_parent(confrelid)) LOOP
        v_definitions := ARRAY(
            SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', inhrelid::regclass, v_key.conname,
                          events.reference_inside(v_key.oid, inhrelid))
              FROM pg_inherits WHERE inhparent = p_table
        );
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', p_table, v_key.conname);
        FOREACH v_definition IN ARRAY v_definitions LOOP
            EXECUTE v_definition;
        END LOOP;
    END LOOP;
END
$function$;

-- Makes the table of one tenant for a table that is partitioned by tenant, in the tenant's schema,
-- like the shared partition in all that counts, not attached yet. Returns it. Idempotent.
CREATE FUNCTION events.make_placed(p_table regclass, p_tenant uuid) RETURNS regclass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_shared regclass := events.shared_of(p_table);
    v_schema text := events.schema_of_tenant(p_tenant);
    v_name text;
    v_placed regclass;
    v_options text;
    v_definition text;
BEGIN
    SELECT n.nspname || '_' || c.relname INTO v_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_table;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', v_schema);
    v_placed := to_regclass(format('%I.%I', v_schema, v_name));
    IF v_placed IS NOT NULL THEN
        RETURN v_placed;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I.%I (LIKE %s INCLUDING ALL, CONSTRAINT its_tenant CHECK (tenant_id = %L))%s',
        v_schema, v_name, p_table, p_tenant,
        coalesce(' PARTITION BY ' || pg_get_partkeydef(v_shared), '')
    );
    v_placed := format('%I.%I', v_schema, v_name)::regclass;
    PERFORM events.protect_tenants(v_placed);
    SELECT array_to_string(reloptions, ', ') INTO v_options FROM pg_class WHERE oid = v_shared;
    IF v_options <> '' THEN
        EXECUTE format('ALTER TABLE %s SET (%s)', v_placed, v_options);
    END IF;
    FOR v_definition IN
        SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', v_placed, conname,
                      events.reference_inside(oid, v_placed))
          FROM pg_constraint
         WHERE contype = 'f' AND conparentid = 0 AND conrelid IN (v_shared, p_table) LOOP
        EXECUTE v_definition;
    END LOOP;
    PERFORM events.copy_periods(v_shared, v_placed);
    RETURN v_placed;
END
$function$;

-- Gives a table that is partitioned by range the periods that another has and it has not.
CREATE FUNCTION events.copy_periods(p_from regclass, p_to regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_leaf record;
    v_schema text;
    v_prefix text;
BEGIN
    SELECT n.nspname, c.relname INTO v_schema, v_prefix
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_to;
    FOR v_leaf IN
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds,
               regexp_replace(p.relname, '_shared$', '') AS parent
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
          JOIN pg_class p ON p.oid = i.inhparent
         WHERE i.inhparent = p_from
           AND NOT EXISTS (SELECT FROM pg_inherits mine JOIN pg_class m ON m.oid = mine.inhrelid
                            WHERE mine.inhparent = p_to
                              AND pg_get_expr(m.relpartbound, m.oid)
                                = pg_get_expr(c.relpartbound, c.oid))
         ORDER BY c.relname LOOP
        EXECUTE format('CREATE TABLE %I.%I PARTITION OF %s %s', v_schema,
                       v_prefix || substr(v_leaf.relname, length(v_leaf.parent) + 1),
                       p_to, v_leaf.bounds);
        PERFORM events.protect_tenants(
            format('%I.%I', v_schema,
                   v_prefix || substr(v_leaf.relname, length(v_leaf.parent) + 1))::regclass
        );
    END LOOP;
END
$function$;

-- The steps of moving a tenant into its own schema (storage/placement.py puts them together). All
-- of them take tables whose foreign keys refer to each other, those that are referred to first.

-- The constraint that keeps new rows of a tenant out of the shared partitions while it moves.
CREATE FUNCTION events.moving_name(p_tenant uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN 'moving_' || events.schema_of_tenant(p_tenant);

-- Whether writes of the tenant are held up just now, in some table: queues give out nothing of it.
CREATE FUNCTION events.is_moving(p_tenant uuid) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_constraint WHERE conname = events.moving_name(p_tenant));

-- Makes the tenant's tables anew. What was made before and is not attached holds copies at most.
CREATE FUNCTION events.prepare_placed(p_tables regclass[], p_tenant uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_table regclass;
    v_placed regclass;
BEGIN
    -- Those that refer to others go first.
    FOR i IN REVERSE cardinality(p_tables) .. 1 LOOP
        v_placed := events.placed_of(p_tables[i], p_tenant);
        IF v_placed IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = v_placed) THEN
            EXECUTE format('DROP TABLE %s', v_placed);
        END IF;
    END LOOP;
    FOREACH v_table IN ARRAY p_tables LOOP
        PERFORM events.make_placed(v_table, p_tenant);
    END LOOP;
END
$function$;

-- The table that a tenant has for one that is partitioned by tenant, attached or not; or null.
CREATE FUNCTION events.placed_of(p_table regclass, p_tenant uuid) RETURNS regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT placed.oid::regclass
      FROM pg_class parent
      JOIN pg_namespace n ON n.oid = parent.relnamespace
      JOIN pg_namespace own ON own.nspname = events.schema_of_tenant(p_tenant)
      JOIN pg_class placed
        ON placed.relnamespace = own.oid AND placed.relname = n.nspname || '_' || parent.relname
     WHERE parent.oid = p_table
);

-- From its commit on no row of the tenant is added or changed in the shared partitions. False, and
-- nothing done, when the tables' own schema says that the tenant has work under way that must not
-- be refused: its function `tenant_is_busy`, if it has one.
CREATE FUNCTION events.hold_writes(p_tables regclass[], p_tenant uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_table regclass;
    v_shared regclass;
    v_schema text;
    v_busy boolean := false;
BEGIN
    FOREACH v_table IN ARRAY p_tables LOOP
        v_shared := events.shared_of(v_table);
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = v_shared
                          AND conname = events.moving_name(p_tenant)) THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (tenant_id <> %L) NOT VALID',
                           v_shared, events.moving_name(p_tenant), p_tenant);
        END IF;
    END LOOP;
    SELECT n.nspname INTO v_schema
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = p_tables[1];
    IF to_regprocedure(format('%I.tenant_is_busy(uuid)', v_schema)) IS NOT NULL THEN
        EXECUTE format('SELECT %I.tenant_is_busy($1)', v_schema) INTO v_busy USING p_tenant;
    END IF;
    IF v_busy THEN
        PERFORM events.release_writes(p_tables, p_tenant);
    END IF;
    RETURN NOT v_busy;
END
$function$;

-- Undoes `hold_writes`. Idempotent.
CREATE FUNCTION events.release_writes(p_tables regclass[], p_tenant uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_table regclass;
BEGIN
    FOREACH v_table IN ARRAY p_tables LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I',
                       events.shared_of(v_table), events.moving_name(p_tenant));
    END LOOP;
END
$function$;

-- The tables with rows of their own in a shared partition: itself, or its periods.
CREATE FUNCTION events.leaves_of(p_table regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
    SELECT relid FROM pg_partition_tree(p_table) WHERE isleaf ORDER BY relid
$function$;

-- Copies up to so many rows of the tenant, in the order of the primary key, beginning after a key
-- (as text; null: at the beginning). Returns how many, and the last key.
CREATE FUNCTION events.copy_rows(
    p_table regclass, p_tenant uuid, p_after text[], p_most integer,
    OUT copied bigint, OUT last_key text[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
-- In the order of the key: the planner thinks that a tenant has few rows, and would sort all that
-- are left, each time.
SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $function$
DECLARE
    v_columns text;
    v_key text;
    v_key_text text;
    v_after text;
    v_condition text := '';
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO v_columns
      FROM pg_attribute
     WHERE attrelid = p_table AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place),
           string_agg(quote_ident(a.attname) || '::text', ', ' ORDER BY k.place),
           string_agg(format('%L::%s', p_after[k.place],
                             format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY k.place)
      INTO v_key, v_key_text, v_after
      FROM pg_constraint c
     CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
     WHERE c.conrelid = p_table AND c.contype = 'p';
    IF p_after IS NOT NULL THEN
        v_condition := format('AND (%s) > (%s)', v_key, v_after);
    END IF;
    EXECUTE format(
        $copy$
        WITH chosen AS (
            SELECT %1$s FROM %2$s WHERE tenant_id = $1 %3$s ORDER BY %4$s LIMIT $2
        ), copied AS (
            INSERT INTO %5$s (%1$s) SELECT %1$s FROM chosen RETURNING 1
        )
        SELECT (SELECT count(*) FROM copied),
               (SELECT ARRAY[%6$s] FROM chosen ORDER BY %7$s LIMIT 1)
        $copy$,
        v_columns, events.shared_of(p_table), v_condition, v_key,
        events.placed_of(p_table, p_tenant), v_key_text, replace(v_key, ',', ' DESC,') || ' DESC'
    ) INTO copied, last_key USING p_tenant, p_most;
END
$function$;

-- Takes the tenant's rows out of the shared partitions, once they are copied. Rows that were deleted
-- since go from the copy too; rows that go at this very moment raise serialization_failure.
CREATE FUNCTION events.leave_shared(p_tables regclass[], p_tenant uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_key text;
    v_deleted bigint;
    v_copied bigint;
    v_all bigint := 0;
BEGIN
    PERFORM set_config('app.moving', 'on', true);
    FOR i IN REVERSE cardinality(p_tables) .. 1 LOOP
        SELECT string_agg(format('copy.%1$I = original.%1$I', a.attname), ' AND ')
          INTO v_key
          FROM pg_constraint c
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
         WHERE c.conrelid = p_tables[i] AND c.contype = 'p';
        EXECUTE format(
            'DELETE FROM %s AS copy WHERE NOT EXISTS'
            ' (SELECT FROM %s AS original WHERE original.tenant_id = $1 AND %s)',
            events.placed_of(p_tables[i], p_tenant), events.shared_of(p_tables[i]), v_key
        ) USING p_tenant;
        EXECUTE format('DELETE FROM %s WHERE tenant_id = $1', events.shared_of(p_tables[i]))
          USING p_tenant;
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
        EXECUTE format('SELECT count(*) FROM %s', events.placed_of(p_tables[i], p_tenant))
           INTO v_copied;
        IF v_deleted <> v_copied THEN
            RAISE EXCEPTION 'rows of % were deleted meanwhile', p_tables[i]
                USING ERRCODE = 'serialization_failure';
        END IF;
        v_all := v_all + v_deleted;
    END LOOP;
    PERFORM set_config('app.moving', '', true);
    RETURN v_all;
END
$function$;

-- Attaches the tenant's tables. The parents are locked first: a statement that was planned before
-- would look for the tenant in the shared partition only, where nothing is left. Nothing is scanned:
-- constraints prove on both sides what the partitions' bounds say.
CREATE FUNCTION events.attach_placed(p_tables regclass[], p_tenant uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_table regclass;
BEGIN
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE',
                   array_to_string(p_tables, ', ONLY '));
    FOREACH v_table IN ARRAY p_tables LOOP
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%L)',
                       v_table, events.placed_of(v_table, p_tenant), p_tenant);
    END LOOP;
    PERFORM events.release_writes(p_tables, p_tenant);
END
$function$;

-- Drops a tenant's own schema with all that is in it, or only if no table holds a row; says whether
-- it dropped one. Parents are locked in one order, and before anything is dropped.
CREATE FUNCTION events.drop_schema_of(p_tenant uuid, p_only_empty boolean DEFAULT false)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    v_schema text := events.schema_of_tenant(p_tenant);
    v_parents text;
    v_table regclass;
    v_holds boolean;
BEGIN
    SELECT string_agg(i.inhparent::regclass::text, ', ONLY ' ORDER BY i.inhparent) INTO v_parents
      FROM pg_class c
      JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.relnamespace = to_regnamespace(v_schema) AND events.is_placed(i.inhparent);
    IF v_parents <> '' THEN
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', v_parents);
    END IF;
    IF to_regnamespace(v_schema) IS NULL THEN
        RETURN false;
    END IF;
    IF p_only_empty THEN
        FOR v_table IN SELECT oid FROM pg_class
                        WHERE relnamespace = to_regnamespace(v_schema) AND relkind = 'r' LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v_table) INTO v_holds;
            IF v_holds THEN
                RETURN false;
            END IF;
        END LOOP;
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', v_schema);
    RETURN true;
END
$function$;
