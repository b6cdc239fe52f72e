-- Drops leases that are fenced, once nothing is left of them. Those that have nothing and have nobody in are dropped with one
-- statement for all of a minter; the others, and those where that did not work, each by itself. A row for each says what stood in the way.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
    home constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    broker constant oid := (SELECT oid FROM pg_roles WHERE rolname = session_user);
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    kept lease%ROWTYPE;
    ended oid;
    blocked text;
    tries integer := 0;
    began timestamptz;
    plain text[];
    theirs text[];
    dropped text[] := '{}';
BEGIN
    PERFORM set_config('lock_timeout', '100ms', true);
    -- All their sessions were told to end; they get two seconds together.
    WHILE lease_kill(handles, deployment) > 0 AND tries < 400 LOOP
        tries := tries + 1;
        PERFORM pg_sleep(0.005);
    END LOOP;
    began := clock_timestamp();
    -- Locked first, looked at then: another end of the same lease may just have been done.
    plain := ARRAY(SELECT h FROM unnest(handles) h WHERE h ~ '^jit_[0-9a-z]{26}$' AND pg_try_advisory_xact_lock(hashtextextended(h, 0)));
    plain := ARRAY(
        WITH inside AS MATERIALIZED (SELECT a.usesysid AS role FROM pg_stat_get_activity(NULL) a WHERE a.usesysid IS NOT NULL),
            prepared AS MATERIALIZED (SELECT x.ownerid AS role, pg_get_userbyid(x.ownerid) AS name, x.prepared FROM pg_prepared_xact() x)
        SELECT l.handle FROM (SELECT h, to_regrole(h)::oid AS role FROM unnest(plain) h OFFSET 0) t
            JOIN pg_roles r ON r.oid = t.role JOIN lease l ON l.handle = t.h
        WHERE NOT r.rolcanlogin AND l.as_role IS NULL AND here IS NOT DISTINCT FROM coalesce(server, here)
            AND starts_with(shobj_description(t.role, 'pg_authid'), format('countersign deployment=%s ', lease_close.deployment))
            AND NOT EXISTS (SELECT FROM inside i WHERE i.role = r.oid)
            AND NOT EXISTS (SELECT FROM prepared p WHERE p.role = r.oid OR p.prepared >= l.minted_at AND p.name = ANY (l.roles))
            AND NOT EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 1260 AND d.refobjid = r.oid)
            -- On PostgreSQL 15 it could act as its groups, which owned nothing before.
            AND (modern OR NOT EXISTS (SELECT FROM pg_roles g JOIN pg_shdepend d ON d.refclassid = 1260 AND d.refobjid = g.oid AND d.deptype = 'o' AND d.dbid = home
                WHERE g.rolname = ANY (l.roles))));
    FOR theirs IN SELECT m.theirs FROM lease_minters(plain) m LOOP
        BEGIN
            IF cardinality(theirs) > 1 AND clock_timestamp() < began + interval '2 s' THEN
                PERFORM as_minter(theirs[1], format('DROP ROLE %s', string_agg(quote_ident(t), ', '))) FROM unnest(theirs) t;
                dropped := dropped || theirs;
            END IF;
        EXCEPTION WHEN out_of_memory THEN
            -- The server's lock table has no room for so many: the broker asks again for fewer.
            RAISE;
        WHEN OTHERS THEN
            CONTINUE;
        END;
    END LOOP;
    DELETE FROM lease_scope WHERE role_name = ANY (dropped);
    UPDATE lease SET ended_at = clock_timestamp() WHERE handle = ANY (dropped);
    RETURN QUERY SELECT d, 'gone', NULL FROM unnest(dropped) d;
    FOREACH closed IN ARRAY ARRAY(SELECT unnest(handles) EXCEPT ALL SELECT unnest(dropped)) LOOP
        PERFORM set_config('lock_timeout', CASE WHEN clock_timestamp() < began + interval '4 s' THEN '500ms' ELSE '1ms' END, true);
        ended := CASE WHEN closed ~ '^jit_[0-9a-z]{26}$' THEN to_regrole(closed) END;
        SELECT l.* INTO kept FROM lease l WHERE l.handle = closed;
        words := NULL;
        outcome := CASE
            WHEN NOT pg_try_advisory_xact_lock(hashtextextended(closed, 0)) AND EXISTS (SELECT FROM pg_lock_status() k JOIN pg_stat_get_activity(k.pid) a ON true
                WHERE k.pid IS NOT NULL AND k.locktype = 'advisory' AND k.objsubid = 1 AND (k.classid::bigint << 32 | k.objid::bigint) = hashtextextended(closed, 0) AND a.usesysid = broker)
                THEN 'under_way'
            WHEN ended IS NULL AND to_regrole(closed) IS NULL THEN 'gone'
            WHEN NOT coalesce(starts_with(shobj_description(ended, 'pg_authid'), format('countersign deployment=%s ', deployment)), false) THEN 'not_ours'
            -- What it prepared may be what keeps it from being fenced.
            WHEN here IS NOT DISTINCT FROM coalesce(server, here) AND EXISTS (SELECT FROM pg_prepared_xact() x WHERE x.ownerid = ended) THEN 'prepared'
            WHEN (SELECT rolcanlogin FROM pg_roles WHERE oid = ended) THEN 'not_fenced'
            WHEN EXISTS (SELECT FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = ended) THEN 'session_alive'
            WHEN here IS DISTINCT FROM coalesce(server, here) THEN 'target_changed'
            WHEN EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 1260 AND d.refobjid = ended AND d.dbid NOT IN (0, home)) THEN 'holds_elsewhere'
            ELSE 'gone' END;
        IF outcome = 'holds_elsewhere' THEN
            UPDATE lease SET elsewhere = ARRAY(SELECT DISTINCT b.datname::text FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid
                WHERE d.refclassid = 1260 AND d.refobjid = ended AND d.dbid <> home UNION SELECT unnest(lease.elsewhere)) WHERE handle = closed;
        ELSIF outcome = 'gone' AND ended IS NULL THEN
            -- Nobody, or one that somebody else dropped.
            DELETE FROM lease_scope WHERE role_name = closed AND kept.deployment = lease_close.deployment;
            UPDATE lease SET ended_at = clock_timestamp() WHERE handle = closed AND kept.deployment = lease_close.deployment AND ended_at IS NULL;
        ELSIF outcome = 'gone' THEN
            -- Acting as somebody else, it may have prepared a transaction that is not its own.
            SELECT format('%I of role %I in database %I', x.gid, pg_get_userbyid(x.ownerid), (SELECT datname FROM pg_database WHERE oid = x.dbid)) INTO words
                FROM pg_prepared_xact() x WHERE x.prepared >= kept.minted_at AND pg_get_userbyid(x.ownerid) = ANY (kept.roles || kept.as_role) LIMIT 1;
            IF FOUND THEN
                outcome := 'prepared_as';
            ELSE
                BEGIN
                    IF kept.as_role IS NOT NULL OR EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 1260 AND d.refobjid = ended AND d.dbid = home)
                        -- On PostgreSQL 15 it could act as its groups, which owned nothing before.
                        OR NOT modern AND EXISTS (SELECT FROM pg_roles r JOIN pg_shdepend d ON d.refclassid = 1260
                            AND d.refobjid = r.oid AND d.deptype = 'o' AND d.dbid = home WHERE r.rolname = ANY (kept.roles)) THEN
                        SELECT string_agg(c.words, '; ') INTO words FROM lease_clean(closed, deployment) c WHERE c.blocked;
                    END IF;
                    IF words IS NULL THEN
                        PERFORM as_minter(closed, format('DROP ROLE %I', closed));
                        DELETE FROM lease_scope WHERE role_name = closed;
                        UPDATE lease SET ended_at = clock_timestamp() WHERE handle = closed;
                    ELSE
                        outcome := 'cleanup_blocked';
                    END IF;
                EXCEPTION WHEN lock_not_available THEN
                    -- Whoever grants it something in an open transaction holds its role. Another lease does not hold up its end.
                    outcome := 'held';
                    words := SQLERRM;
                    PERFORM pg_terminate_backend(k.pid) FROM pg_lock_status() k JOIN pg_stat_get_activity(NULL) a ON a.pid = k.pid JOIN pg_roles r ON r.oid = a.usesysid
                        WHERE k.locktype = 'object' AND k.granted AND k.classid = 1260 AND k.objid = ended AND r.rolname ~ '^jit_[0-9a-z]{26}$';
                WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS blocked = PG_EXCEPTION_DETAIL;
                    outcome := 'cleanup_blocked';
                    words := concat_ws(': ', SQLERRM, nullif(blocked, ''));
                END;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
