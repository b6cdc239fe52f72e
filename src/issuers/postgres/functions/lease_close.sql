-- Drops leases that are fenced, each by itself, once nothing of it is left. It says what stood in the way.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    home constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    role oid;
    tries integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    -- All sessions have been told to end; they get two seconds together.
    WHILE lease_kill(handles, deployment) > 0 AND tries < 400 LOOP
        tries := tries + 1;
        PERFORM pg_sleep(0.005);
    END LOOP;
    FOREACH handle IN ARRAY handles LOOP
        role := CASE WHEN handle ~ '^jit_[0-9a-z]{26}$' THEN to_regrole(handle) END;
        words := NULL;
        outcome := CASE
            WHEN NOT pg_try_advisory_xact_lock(hashtextextended(handle, 0)) AND lease_under_way(handle) THEN 'mint_under_way'
            WHEN role IS NULL THEN 'gone'
            WHEN NOT coalesce(starts_with(shobj_description(role, 'pg_authid'), format('countersign deployment=%s ', lease_close.deployment)), false) THEN 'not_ours'
            WHEN (SELECT rolcanlogin FROM pg_roles WHERE oid = role) THEN 'not_fenced'
            WHEN EXISTS (SELECT FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = role) THEN 'session_alive'
            WHEN EXISTS (SELECT FROM pg_prepared_xact() x WHERE x.ownerid = role) THEN 'prepared'
            WHEN here IS DISTINCT FROM coalesce(server, here) THEN 'target_changed'
            WHEN EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 1260 AND d.refobjid = role AND d.dbid <> 0 AND d.dbid <> home) THEN 'holds_elsewhere'
            ELSE 'dropping' END;
        IF outcome = 'dropping' THEN
            BEGIN
                PERFORM lease_drop(handle, role);
                outcome := 'gone';
            EXCEPTION WHEN OTHERS THEN
                outcome := 'cleanup_blocked';
                words := SQLERRM || coalesce(': ' || nullif(lease_problem_detail, ''), '');
            END;
        END IF;
        residue := (SELECT l.residue FROM lease l WHERE l.handle = lease_close.handle);
        RETURN NEXT;
    END LOOP;
END
