    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    keeper constant text := prefix || '_keeper';
    granter constant text := prefix || '_granter';
    minter text;
    one text;
    made integer := 0;
BEGIN
    -- The broker: it may call our functions and do nothing else. Set its password with \password.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = broker) THEN
        EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s', broker, connections);
        RAISE NOTICE 'made role %, which has no password yet', broker;
    END IF;
    -- The keeper: owns our functions and tables, ends sessions. Nobody can log in as it.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = keeper) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', keeper);
        RAISE NOTICE 'made role %', keeper;
    END IF;
    EXECUTE format('GRANT pg_signal_backend TO %I', keeper);
    -- The granter: may pass on what leases are members of, and does not use it.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = granter) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', granter);
        RAISE NOTICE 'made role %', granter;
    END IF;
    -- The minters: make and drop leases. Many of them, because each is made a member of every role it makes.
    FOR number IN 0 .. minters - 1 LOOP
        minter := format('%s_minter_%s', prefix, lpad(number::text, 3, '0'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = minter);
        EXECUTE format('CREATE ROLE %I NOLOGIN CREATEROLE', minter);
        EXECUTE format('GRANT %I TO %I%s', granter, minter, CASE WHEN modern THEN ' WITH INHERIT TRUE, SET FALSE' END);
        made := made + 1;
    END LOOP;
    IF made > 0 THEN
        RAISE NOTICE 'made % roles %_minter_…', made, prefix;
    END IF;
    FOREACH one IN ARRAY roles LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = one) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', one);
            RAISE NOTICE 'made role %: grant it what leases may do', one;
        END IF;
        IF NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = to_regrole(quote_ident(one)) AND m.member = to_regrole(quote_ident(granter)) AND m.admin_option) THEN
            EXECUTE format('GRANT %I TO %I WITH %s', one, granter, CASE WHEN modern THEN 'ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE 'ADMIN OPTION' END);
            RAISE NOTICE 'leases may be given %', one;
        END IF;
    END LOOP;
END
