-- What is left of leases, by the roles they were made with too. A session of a role that is gone is ended here.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    broker constant oid := (SELECT oid FROM pg_roles WHERE rolname = session_user);
    ghosts constant oid[] := ARRAY(SELECT l.role FROM lease l WHERE l.handle = ANY (handles) AND l.deployment = lease_look.deployment
        AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = l.role));
    arriving boolean := true;
    tries integer := 0;
BEGIN
    IF here IS DISTINCT FROM coalesce(server, here) THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'target_changed', DETAIL = format('this is %s', here);
    END IF;
    WHILE arriving AND tries < 400 LOOP
        PERFORM pg_stat_clear_snapshot();
        -- Who was let in before the fence holds its database before it can be seen as a session.
        arriving := EXISTS (SELECT FROM pg_lock_status() k WHERE k.pid IS NOT NULL AND k.locktype = 'object' AND k.classid = 1262
                AND NOT EXISTS (SELECT FROM pg_stat_get_activity(k.pid) a WHERE a.usesysid IS NOT NULL))
            OR EXISTS (SELECT pg_terminate_backend(a.pid) FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = ANY (ghosts) OFFSET 0);
        tries := tries + 1;
        PERFORM pg_sleep(0.005) WHERE arriving;
    END LOOP;
    RETURN QUERY
        WITH role AS MATERIALIZED (SELECT h AS handle, to_regrole(h)::oid AS now, l.role AS once, l.residue, l.elsewhere,
                pg_try_advisory_xact_lock(hashtextextended(h, 0)) AS free
                FROM unnest(handles) h LEFT JOIN lease l ON l.handle = h AND l.deployment = lease_look.deployment),
            inside AS MATERIALIZED (SELECT a.usesysid AS role FROM pg_stat_get_activity(NULL) a),
            prepared AS MATERIALIZED (SELECT x.ownerid AS role FROM pg_prepared_xact() x)
        SELECT r.handle, r.now IS NOT NULL, (SELECT count(*) FROM inside i WHERE i.role IN (r.now, r.once)),
            (SELECT count(*) FROM prepared p WHERE p.role IN (r.now, r.once)),
            NOT r.free AND EXISTS (SELECT FROM pg_lock_status() k JOIN pg_stat_get_activity(k.pid) a ON true
                WHERE k.pid IS NOT NULL AND k.locktype = 'advisory' AND k.objsubid = 1 AND (k.classid::bigint << 32 | k.objid::bigint) = hashtextextended(r.handle, 0) AND a.usesysid = broker),
            coalesce(r.residue, '{}'), coalesce(r.elsewhere, '{}')
        FROM role r;
END
