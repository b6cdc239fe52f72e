    keeper constant text := prefix || '_keeper';
    super constant boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    function record;
    owner text;
BEGIN
    FOR function IN SELECT p.oid::regprocedure AS name, p.proname, p.prosrc FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident(prefix)) LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function.name);
        owner := CASE WHEN function.proname ~ '^as_minter_[0-9]+$' THEN prefix || substr(function.proname, 3) ELSE keeper END;
        IF owner <> keeper THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', function.name, keeper);
        END IF;
        -- A new owner must be able to create where its function is.
        IF NOT super AND owner <> keeper THEN
            EXECUTE format('GRANT CREATE ON SCHEMA %I TO %I', prefix, owner);
        END IF;
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', function.name, owner);
        IF NOT super AND owner <> keeper THEN
            EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM %I', prefix, owner);
        END IF;
    END LOOP;
    FOR function IN SELECT p.oid::regprocedure AS name FROM pg_proc p LEFT JOIN previous_functions b ON b.name = p.oid::regprocedure::text
        WHERE p.pronamespace = to_regnamespace(quote_ident(prefix)) AND b.body IS DISTINCT FROM p.prosrc AND p.proname !~ '^as_minter_' LOOP
        RAISE NOTICE 'made function %', function.name;
    END LOOP;
    IF NOT super THEN
        FOR owner IN SELECT rolname FROM pg_roles WHERE rolname = keeper OR starts_with(rolname, prefix || '_minter_') LOOP
            EXECUTE format('REVOKE %I FROM CURRENT_USER', owner);
        END LOOP;
    END IF;
END
