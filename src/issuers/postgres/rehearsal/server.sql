-- What the server is, and what about it should be known. Facts first, then rows of what is wrong with it.
, facts AS (
    SELECT current_setting('server_version_num')::integer AS version, current_setting('max_connections')::integer AS most,
        current_setting('superuser_reserved_connections')::integer + coalesce(current_setting('reserved_connections', true), '0')::integer AS reserved,
        coalesce(current_setting('reserved_connections', true), '0')::integer AS held, (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user) AS own
), locks AS (
    SELECT string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid) AS names
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
    AND (p.proname ~ '^pg_(try_)?advisory_(xact_)?lock' OR p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'lo_open', 'lo_put'))
    AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
)
SELECT true AS problem, format('PostgreSQL %s is too old: use 15 or newer', current_setting('server_version')) AS words FROM facts WHERE version < 150000
UNION ALL SELECT false, format('PostgreSQL %s is newer than what was tested (15 to 18)', current_setting('server_version')) FROM facts WHERE version >= 190000
UNION ALL SELECT true, 'this server is read-only: point the target at the primary' WHERE pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
UNION ALL SELECT true, format('the broker may open %s connections and needs %s: ALTER ROLE %I CONNECTION LIMIT %2$s', own, broker_connections, session_user)
    FROM facts, our WHERE own >= 0 AND own < broker_connections
UNION ALL SELECT true, format('%s connections are too few for a broker that uses %s and one lease: raise max_connections, or lower the target''s', most - reserved, broker_connections)
    FROM facts, our WHERE most - reserved < broker_connections + lease_connections
UNION ALL SELECT false, format('max_connections = %s leaves room for %s leases of %s connections beside the broker''s %s; more than that and applications are refused%s', most,
        greatest(0, most - reserved - broker_connections) / lease_connections, lease_connections, broker_connections,
        CASE WHEN version >= 160000 THEN format(', and so is a broker that has lost its connections: ALTER SYSTEM SET reserved_connections = %s (after a restart), GRANT pg_use_reserved_connections TO %I',
            broker_connections, session_user) ELSE ', and so is a broker that has lost its connections' END)
    FROM facts, our WHERE NOT (version >= 160000 AND held >= broker_connections
        AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles b ON b.oid = m.member
            WHERE r.rolname = 'pg_use_reserved_connections' AND b.rolname = session_user))
UNION ALL SELECT false, format('%s replicas follow this server, and sessions on them are not reached: keep leases out with a line above the others in their pg_hba.conf: %s', count(*),
        CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'host all /^jit_ all reject' ELSE 'host all all ALLOWED_NETWORK scram-sha-256, listing people and applications by name' END)
    FROM pg_stat_replication HAVING count(*) > 0
UNION ALL SELECT false, 'this is Amazon RDS or Aurora: reader endpoints and read replicas are not reached by the end of a lease; let nothing that agents run on come to them (security groups)'
    WHERE to_regrole('rdsadmin') IS NOT NULL
UNION ALL SELECT false, 'prepared transactions are enabled: agents may leave some, which the end rolls back: ALTER SYSTEM SET max_prepared_transactions = 0 (after a restart) forbids them'
    WHERE current_setting('max_prepared_transactions') <> '0'
UNION ALL SELECT false, format('a prepared transaction in database %I has no owner any more: as superuser, there: ROLLBACK PREPARED %L', database, gid) FROM pg_prepared_xacts WHERE owner IS NULL
UNION ALL SELECT false, format('anybody can fill the server''s lock table: as superuser, in each database: REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_try_advisory_xact_lock(bigint) TO %I; and to the applications that use them',
        names, prefix || '_keeper') FROM locks, our WHERE names IS NOT NULL
UNION ALL SELECT false, format('every new role can reach database %I: REVOKE CONNECT, TEMPORARY ON DATABASE %1$I FROM PUBLIC', d.datname)
    FROM pg_database d WHERE d.datallowconn AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0 AND a.privilege_type IN ('CONNECT', 'TEMPORARY'))
