-- Only its owner may roll back a prepared transaction. So the broker logs in as a lease that is fenced and has no session, once, with
-- a password drawn for that, and with nothing left of what the lease could have set for its sessions.
DECLARE
    here constant text := server_identity();
    ended constant oid := (SELECT oid FROM pg_roles WHERE rolname = lease AND lease ~ '^jit_[0-9a-z]{26}$' AND NOT rolcanlogin
        AND starts_with(shobj_description(oid, 'pg_authid'), format('countersign deployment=%s ', deployment)));
    one text;
    tries integer := 0;
BEGIN
    -- The one before may still be on its way out.
    WHILE ended IS NOT NULL AND lease_kill(ARRAY[lease], deployment) > 0 AND tries < 400 LOOP
        tries := tries + 1;
        PERFORM pg_sleep(0.005);
    END LOOP;
    IF (ended IS NOT NULL AND verifier ~ '^SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'
        AND here = coalesce(server, here) AND NOT EXISTS (SELECT FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = ended)
        AND EXISTS (SELECT FROM pg_prepared_xact() x WHERE x.ownerid = ended)) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'bad_argument', DETAIL = 'this is no fenced lease with a prepared transaction';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '500ms', true),
        as_minter(lease, format('ALTER ROLE %I RESET ALL', lease));
    FOR one IN SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = ended LOOP
        PERFORM as_minter(lease, format('ALTER ROLE %I IN DATABASE %I RESET ALL', lease, one));
    END LOOP;
    PERFORM as_minter(lease, format('ALTER ROLE %I LOGIN CONNECTION LIMIT 1 PASSWORD %L VALID UNTIL %L', lease, verifier, clock_timestamp() + interval '30 seconds'));
END
