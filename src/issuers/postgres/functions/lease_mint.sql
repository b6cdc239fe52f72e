    here constant text := server_identity();
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    told constant text := format('countersign deployment=%s lease=lse_%s request=%s database=%s server=%s agent=%s',
        deployment, substr(handle, 5), request, current_database(), here, agent);
    problem record;
    making text;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '3s', true);
    IF (length(handle) = 30 AND handle ~ '^jit_[0-9a-z]{26}$' AND deployment ~ '^[0-9a-f]{16}$'
        AND request ~ '^[0-9a-z_]{1,64}$' AND length(agent) BETWEEN 1 AND 256 AND agent !~ '[[:cntrl:]]'
        AND verifier ~ '^SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'
        AND cardinality(groups) BETWEEN 0 AND 16 AND jsonb_typeof(rows) = 'object' AND cardinality(unbound) BETWEEN 0 AND 64
        AND array_position(groups, NULL) IS NULL AND array_position(unbound, NULL) IS NULL
        AND cardinality(limits) = 4 AND limits[1] BETWEEN 1 AND 10 AND 1 <= ALL (limits) AND 3600 >= ALL (limits)
        AND valid_until > clock_timestamp() AND valid_until < clock_timestamp() + longest AND mint_until IS NOT NULL) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'bad_argument', DETAIL = 'what was asked for is nothing a lease can be';
    END IF;
    IF here IS DISTINCT FROM server THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'target_changed', DETAIL = format('this is %s', here);
    END IF;
    -- Held to the end of the transaction, so that whoever ends this lease sees a mint that is still under way.
    IF clock_timestamp() > mint_until OR NOT pg_try_advisory_xact_lock(hashtextextended(handle, 0)) THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'too_late', DETAIL = 'the time for this mint is over; nothing was minted';
    END IF;
    SELECT p.code, p.words INTO problem FROM scope_problems(groups, as_role, ARRAY(SELECT jsonb_object_keys(rows)), unbound) p LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = problem.code, DETAIL = problem.words;
    END IF;

    making := format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT PASSWORD %L VALID UNTIL %L CONNECTION LIMIT %s; '
        'ALTER ROLE %1$I SET statement_timeout = ''%5$ss''; ALTER ROLE %1$I SET idle_in_transaction_session_timeout = ''%6$ss''; '
        'ALTER ROLE %1$I SET idle_session_timeout = ''%7$ss''; COMMENT ON ROLE %1$I IS %8$L',
        handle, verifier, valid_until, limits[1], limits[2], limits[3], limits[4], told);
    IF cardinality(groups) > 0 THEN
        making := making || format('; GRANT %s TO %I%s', (SELECT string_agg(quote_ident(g), ', ') FROM unnest(groups) g), handle,
            CASE WHEN modern THEN ' WITH ADMIN FALSE, INHERIT TRUE, SET FALSE' END);
    END IF;
    IF as_role IS NOT NULL THEN
        -- That its sessions act as it is said by the lease itself: no function with rights of its own can.
        making := making || format('; GRANT %I TO %I%s', as_role, handle,
            CASE WHEN modern THEN ' WITH ADMIN FALSE, INHERIT TRUE, SET TRUE' END);
    END IF;
    PERFORM as_minter(handle, making);
    INSERT INTO lease (handle, role, deployment, roles, as_role, before) VALUES (handle, to_regrole(handle), deployment, groups, as_role,
        CASE WHEN as_role IS NOT NULL THEN ARRAY(SELECT scope_fingerprint(as_role)) END);
    INSERT INTO lease_scope (role_name, key, value) SELECT handle, r.key, r.value FROM jsonb_each_text(rows) r;
    IF clock_timestamp() > mint_until THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'too_late', DETAIL = 'the time for this mint was over when it was made; rolled back';
    END IF;
END
