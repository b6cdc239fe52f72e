#variable_conflict use_column
DECLARE
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    here constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    -- Ours, and fenced already: what is live is not touched.
    ended constant oid := (SELECT oid FROM pg_roles WHERE rolname = lease_handle::name AND lease_handle ~ '^jit_[0-9a-z]{26}$' AND NOT rolcanlogin
        AND starts_with(shobj_description(oid, 'pg_authid'), format('countersign deployment=%s ', lease_deployment)));
    kept lease%ROWTYPE;
    granter constant text := left(current_user, -length('keeper')) || 'granter';
    lenders text[];
    one text;
    made text[];
    parts text[] := '{}';
    behind text[] := '{}';
BEGIN
    IF ended IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '500ms', true);
    SELECT * INTO kept FROM lease WHERE handle = lease_handle;
    IF (SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.dbid = here
        AND (r.oid = ended OR NOT modern AND r.rolname = ANY (kept.roles))) > 500 THEN
        RETURN QUERY SELECT true, 'it made very many objects; they are dropped some at a time, those that can be';
        RETURN;
    END IF;
    IF kept.as_role IS NOT NULL THEN
        behind := scope_disarm(lease_handle, kept.as_role, kept.before);
    END IF;
    PERFORM as_minter(lease_handle, format('GRANT %I TO CURRENT_USER%s', lease_handle, CASE WHEN modern THEN ' WITH INHERIT TRUE, SET TRUE' END));
    IF NOT modern THEN
        -- Here a lease could act as its groups, which owned nothing when it was made.
        FOREACH one IN ARRAY COALESCE(kept.roles, '{}') LOOP
            PERFORM as_minter(lease_handle, format('REASSIGN OWNED BY %I TO %I', one, lease_handle));
        END LOOP;
    END IF;
    BEGIN
        -- What other leases granted it is taken back with their rights, which the minters have through the granter until the end of this block.
        lenders := ARRAY(SELECT DISTINCT r.rolname::text
            FROM pg_shdepend a JOIN pg_shdepend o ON o.dbid = here AND o.classid = a.classid AND o.objid = a.objid AND o.deptype = 'o' AND o.refobjid <> ended
            JOIN pg_roles r ON r.oid = o.refobjid AND r.rolname ~ '^jit_[0-9a-z]{26}$'
            WHERE a.refclassid = 'pg_authid'::regclass AND a.refobjid = ended AND a.deptype = 'a' AND a.dbid = here);
        FOREACH one IN ARRAY lenders LOOP
            PERFORM as_minter(one, format('GRANT %I TO %I%s', one, granter, CASE WHEN modern THEN ' WITH INHERIT TRUE, SET FALSE' END));
        END LOOP;
        made := ARRAY(SELECT format('dropped %s %s', i.type, i.identity) FROM pg_shdepend o, pg_identify_object(o.classid, o.objid, 0) i
            WHERE o.refclassid = 'pg_authid'::regclass AND o.refobjid = ended AND o.deptype = 'o' AND o.dbid = here);
        BEGIN
            PERFORM as_minter(lease_handle, format('DROP OWNED BY %I', lease_handle));
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RETURN QUERY SELECT true, format('%s is not this lease''s and needs something it made: drop or change it', what) FROM lease_dependents(ended) WHERE blocks;
            IF FOUND THEN
                -- As it was: the rights that were lent go with the block.
                RAISE object_in_use;
            END IF;
            parts := ARRAY(SELECT 'dropped ' || what FROM lease_dependents(ended));
            PERFORM as_minter(lease_handle, format('DROP OWNED BY %I CASCADE', lease_handle));
        END;
        FOREACH one IN ARRAY lenders LOOP
            PERFORM as_minter(one, format('REVOKE %I FROM %I', one, granter));
        END LOOP;
    EXCEPTION WHEN object_in_use THEN
        RETURN;
    WHEN lock_not_available THEN
        -- Another lease that works with what this one made does not hold up its end.
        RETURN QUERY SELECT DISTINCT true, format('%s holds a lock on %s%s', COALESCE('a session of ' || quote_ident(r.rolname), 'a prepared transaction'),
                pg_describe_object(o.classid, o.objid, 0), CASE WHEN starts_with(r.rolname, 'jit_') AND pg_terminate_backend(k.pid) THEN ' and was ended; tried again' END)
            FROM pg_shdepend o JOIN pg_locks k ON k.database = here AND k.granted
                AND (k.classid = o.classid AND k.objid = o.objid OR o.classid = 'pg_class'::regclass AND k.relation = o.objid)
            LEFT JOIN pg_stat_get_activity(NULL) a ON a.pid = k.pid LEFT JOIN pg_roles r ON r.oid = a.usesysid
            WHERE o.refclassid = 'pg_authid'::regclass AND o.refobjid = ended AND o.deptype = 'o' AND o.dbid = here AND k.pid IS DISTINCT FROM pg_backend_pid();
        IF NOT FOUND THEN
            RETURN QUERY SELECT true, SQLERRM;
        END IF;
        RETURN;
    WHEN query_canceled OR insufficient_privilege OR undefined_function THEN
        RETURN QUERY SELECT true, SQLERRM;
        RETURN;
    END;
    RETURN QUERY SELECT true, format('somebody else granted the lease something on %1$s: REVOKE ALL ON %1$s FROM %2$I',
            CASE a.classid WHEN 'pg_class'::regclass THEN 'TABLE' ELSE upper(i.type) END || ' ' || i.identity, lease_handle)
        FROM pg_shdepend a, pg_identify_object(a.classid, a.objid, 0) i
        WHERE a.refclassid = 'pg_authid'::regclass AND a.refobjid = ended AND a.deptype = 'a' AND a.dbid IN (0, here);
    behind := behind || made || parts;
    IF behind <> '{}' THEN
        -- In a database it was not minted for there is no row yet.
        INSERT INTO lease (handle, role, deployment, residue, ended_at) VALUES (lease_handle, ended, lease_deployment, behind, clock_timestamp())
            ON CONFLICT (handle) DO UPDATE SET residue = lease.residue || ARRAY(SELECT f FROM unnest(excluded.residue) f WHERE f <> ALL (lease.residue));
        RETURN QUERY SELECT false, f FROM unnest(behind) f;
    END IF;
END
