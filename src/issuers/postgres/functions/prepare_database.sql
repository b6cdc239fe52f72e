    keeper constant text := prefix || '_keeper';
    one text;
BEGIN
    IF current_database() <> here THEN
        RAISE EXCEPTION 'these statements are for database %, this is %', here, current_database();
    END IF;
    -- To give something to an owner takes a member of it, unless it takes a superuser. It is undone at the end.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR one IN SELECT rolname FROM pg_roles WHERE rolname = keeper OR starts_with(rolname, prefix || '_minter_') LOOP
            EXECUTE format('GRANT %I TO CURRENT_USER%s', one,
                CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' END);
        END LOOP;
    END IF;
    -- New roles reach what PUBLIC reaches: do this in every database of the cluster.
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', here);
    FOREACH one IN ARRAY broker || roles LOOP
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', here, one);
    END LOOP;
    -- Somebody without our rights may have made a schema of this name, and left anything in it: a trigger would run as the keeper.
    SELECT DISTINCT r.rolname INTO one FROM (
            SELECT nspowner FROM pg_namespace WHERE nspname = prefix
            UNION SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(prefix))
            UNION SELECT proowner FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(prefix))
            UNION SELECT typowner FROM pg_type WHERE typnamespace = to_regnamespace(quote_ident(prefix))) o (owner)
        JOIN pg_roles r ON r.oid = o.owner
        WHERE NOT (r.rolsuper OR r.rolname IN (keeper, current_user) OR starts_with(r.rolname, prefix || '_minter_')) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema % exists and has something of role %, whom it must not belong to: look at it and drop it, then run this again', prefix, one;
    END IF;
    IF to_regnamespace(quote_ident(prefix)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', prefix);
        RAISE NOTICE 'made schema %', prefix;
    END IF;
    EXECUTE format('ALTER SCHEMA %I OWNER TO %I', prefix, keeper);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO PUBLIC', prefix);
    EXECUTE format('SET LOCAL search_path = pg_catalog, %I, pg_temp', prefix);
    -- What there is of leases, and what was left of them. Nobody but the keeper reads it.
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I.lease (handle text PRIMARY KEY, role oid NOT NULL, deployment text NOT NULL, '
        'minted_at timestamptz NOT NULL DEFAULT clock_timestamp(), ended_at timestamptz, roles text[], as_role text, before text[], '
        'residue text[] NOT NULL DEFAULT ''{}'', elsewhere text[] NOT NULL DEFAULT ''{}'') WITH (fillfactor = 70)', prefix);
    EXECUTE format('ALTER TABLE %I.lease OWNER TO %I', prefix, keeper);
    -- Which rows a lease may see: read by policies, each session seeing its own.
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I.lease_scope (role_name text NOT NULL, key text NOT NULL, value text NOT NULL, PRIMARY KEY (role_name, key))', prefix);
    EXECUTE format('ALTER TABLE %I.lease_scope OWNER TO %I', prefix, keeper);
    EXECUTE format('ALTER TABLE %I.lease_scope ENABLE ROW LEVEL SECURITY', prefix);
    EXECUTE format('GRANT SELECT ON %I.lease_scope TO PUBLIC', prefix);
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = format('%I.lease_scope', prefix)::regclass AND polname = 'own_rows') THEN
        EXECUTE format('CREATE POLICY own_rows ON %I.lease_scope FOR SELECT USING (role_name = SESSION_USER)', prefix);
    END IF;
    -- The functions are made anew below, in the same transaction; at its end it is told which of them changed.
    CREATE TEMPORARY TABLE previous_functions ON COMMIT DROP AS
        SELECT p.oid::regprocedure::text AS name, p.prosrc AS body FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident(prefix));
    FOR one IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident(prefix)) LOOP
        EXECUTE format('DROP ROUTINE %s', one);
    END LOOP;
END
