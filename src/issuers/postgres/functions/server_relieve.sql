-- When the server's lock table is full no lease can be fenced, whoever filled it: sessions of this deployment's leases that hold
-- more locks than work needs are ended. Like lease_kill it works in a transaction that has called it once.
DECLARE
    killed integer;
BEGIN
    PERFORM pg_stat_clear_snapshot();
    SELECT count(pg_terminate_backend(a.pid)) INTO killed
        FROM (SELECT pid FROM pg_lock_status() WHERE pid IS NOT NULL GROUP BY pid HAVING count(*) > 1000) l
        JOIN pg_stat_get_activity(NULL) a ON a.pid = l.pid
        JOIN pg_roles r ON r.oid = a.usesysid JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 1260
        WHERE starts_with(r.rolname, 'jit_') AND starts_with(d.description, format('countersign deployment=%s ', deployment));
    RETURN killed;
END
