-- Ends the sessions and refuses new ones, each lease by itself. Here and nowhere else: it says what stood in the way.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    role oid;
    of text;
BEGIN
    IF split_part(here, ' ', 2) <> split_part(server, ' ', 2) THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'target_changed', DETAIL = format('this is %s', here);
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '500ms', true), lease_kill(handles, deployment);
    FOREACH of IN ARRAY handles LOOP
        role := CASE WHEN of ~ '^jit_[0-9a-z]{26}$' THEN to_regrole(of) END;
        CONTINUE WHEN role IS NULL
            OR NOT coalesce(starts_with(shobj_description(role, 'pg_authid'), format('countersign deployment=%s ', lease_fence.deployment)), false);
        BEGIN
            PERFORM as_minter(role, format('ALTER ROLE %I NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL ''-infinity''', of));
        EXCEPTION WHEN OTHERS THEN
            unfenced := of;
            words := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
END
