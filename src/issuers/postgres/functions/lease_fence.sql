-- Ends the sessions and refuses new ones, each lease by itself. A row for each that could not be fenced.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    role oid;
BEGIN
    IF split_part(here, ' ', 2) <> split_part(server, ' ', 2) THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'target_changed', DETAIL = format('this is %s', here);
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '500ms', true), lease_kill(handles, deployment);
    FOREACH unfenced IN ARRAY handles LOOP
        role := CASE WHEN unfenced ~ '^jit_[0-9a-z]{26}$' THEN to_regrole(unfenced) END;
        CONTINUE WHEN role IS NULL
            OR NOT coalesce(starts_with(shobj_description(role, 'pg_authid'), format('countersign deployment=%s ', deployment)), false);
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
