-- Who made very many objects cannot have them dropped in one transaction: the server's lock table has no room, for others neither.
-- Drops some of them, newest first, when there are many; what needs another has to wait for that. How many were dropped.
#variable_conflict use_column
DECLARE
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    here constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    -- Ours, and fenced already: what is live is not touched.
    ended constant oid := (SELECT oid FROM pg_roles WHERE rolname = lease_handle::name AND lease_handle ~ '^jit_[0-9a-z]{26}$' AND NOT rolcanlogin
        AND starts_with(shobj_description(oid, 'pg_authid'), format('countersign deployment=%s ', lease_deployment)));
    began constant timestamptz := clock_timestamp();
    -- Where a lease can act as its groups, which owned nothing before, theirs is its own.
    owners constant oid[] := ended || ARRAY(SELECT r.oid FROM lease l JOIN pg_roles r ON r.rolname = ANY (l.roles) WHERE l.handle = lease_handle AND NOT modern);
    made record;
    dropped text[] := '{}';
BEGIN
    IF ended IS NULL OR (SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY (owners) AND deptype = 'o' AND dbid = here) <= 500 THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', '100ms', true),
        as_minter(lease_handle, format('GRANT %I TO CURRENT_USER%s', lease_handle, CASE WHEN modern THEN ' WITH INHERIT TRUE, SET TRUE' END));
    FOR made IN SELECT o.classid, o.objid, i.type, i.identity FROM pg_shdepend o, pg_identify_object(o.classid, o.objid, 0) i
        WHERE o.refclassid = 'pg_authid'::regclass AND o.refobjid = ANY (owners) AND o.deptype = 'o' AND o.dbid = here ORDER BY o.objid DESC LOOP
        EXIT WHEN cardinality(dropped) >= 200 OR clock_timestamp() > began + interval '3 s';
        BEGIN
            PERFORM as_minter(lease_handle, CASE WHEN made.classid = 'pg_largeobject'::regclass THEN format('SELECT lo_unlink(%s)', made.objid)
                ELSE format('DROP %s IF EXISTS %s', made.type, made.identity) END);
            dropped := dropped || format('dropped %s %s', made.type, made.identity);
        EXCEPTION WHEN OTHERS THEN
            CONTINUE;
        END;
    END LOOP;
    -- In a database it was not minted for there is no row yet.
    INSERT INTO lease (handle, role, deployment, residue, ended_at) VALUES (lease_handle, ended, lease_deployment, dropped, clock_timestamp())
        ON CONFLICT (handle) DO UPDATE SET residue = lease.residue || excluded.residue;
    RETURN cardinality(dropped);
END
