-- Ends the sessions and refuses new ones: with one statement for all leases of a minter, and each lease by itself where that
-- did not work. A row for each that could not be fenced.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    began constant timestamptz := clock_timestamp();
    role oid;
    theirs text[];
    single text[] := '{}';
BEGIN
    IF split_part(here, ' ', 2) <> split_part(server, ' ', 2) THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'target_changed', DETAIL = format('this is %s', here);
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '100ms', true), lease_kill(handles, deployment);
    -- The record is asked of these leases alone, whatever the planner believes of how many roles there are.
    FOR theirs IN SELECT m.theirs FROM lease_minters(ARRAY(SELECT h FROM unnest(handles) h WHERE h ~ '^jit_[0-9a-z]{26}$'
        AND starts_with(shobj_description(to_regrole(h), 'pg_authid'), format('countersign deployment=%s ', deployment)))) m LOOP
        BEGIN
            IF cardinality(theirs) > 1 AND clock_timestamp() < began + interval '2 s' THEN
                PERFORM as_minter(theirs[1], string_agg(format('ALTER ROLE %I NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL ''-infinity''', t), '; ')) FROM unnest(theirs) t;
            ELSE
                single := single || theirs;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            single := single || theirs;
        END;
    END LOOP;
    FOREACH unfenced IN ARRAY single LOOP
        role := to_regrole(unfenced);
        -- Who fights has some time, and many who fight have little more together: the others wait for this to end.
        PERFORM set_config('lock_timeout', CASE WHEN clock_timestamp() < began + interval '4 s' THEN '500ms' ELSE '1ms' END, true);
        BEGIN
            PERFORM as_minter(unfenced, format('ALTER ROLE %I NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL ''-infinity''', unfenced));
        EXCEPTION WHEN OTHERS THEN
            words := SQLERRM;
            RETURN NEXT;
            -- A transaction it prepared may hold its role as it is; what it is a member of it cannot hold. Without that it has what everybody has.
            BEGIN
                PERFORM as_minter(unfenced, format('REVOKE %I FROM %I', g.rolname, unfenced))
                    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = role;
            EXCEPTION WHEN OTHERS THEN
                words := SQLERRM;
                RETURN NEXT;
            END;
        END;
    END LOOP;
END
