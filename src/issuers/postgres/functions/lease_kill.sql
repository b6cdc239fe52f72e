-- Needs nothing of this database: it works with whatever connection there is. It names what it reads outside of plans too, so
-- that a transaction that has called it once holds every lock it needs, and works when the server's lock table is full.
DECLARE
    killed integer;
BEGIN
    PERFORM pg_stat_clear_snapshot();
    SELECT count(pg_terminate_backend(a.pid)) INTO killed
        FROM unnest(handles) h JOIN pg_roles r ON r.rolname = h JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 1260
        JOIN pg_stat_get_activity(NULL) a ON a.usesysid = r.oid
        WHERE starts_with(r.rolname, 'jit_') AND starts_with(d.description, format('countersign deployment=%s ', deployment));
    PERFORM FROM pg_auth_members WHERE roleid = 0 UNION ALL SELECT FROM pg_database WHERE oid = 0;
    RETURN killed;
END
