-- Whether our functions and tables in this database are what this version would make.
, found AS (
    SELECT p.*, pg_get_userbyid(p.proowner) AS owner, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang, our WHERE p.pronamespace = to_regnamespace(quote_ident(prefix))
), compared AS (
    SELECT w.name, f.oid, concat_ws(', ', CASE WHEN encode(sha256(convert_to(ltrim(f.prosrc, E'\n'), 'UTF8')), 'hex') <> w.body THEN 'body' END, CASE WHEN f.lanname <> w.language THEN 'language' END,
        CASE WHEN f.owner <> w.owner THEN 'owner' END, CASE WHEN NOT f.prosecdef THEN 'rights' END,
        CASE WHEN f.proconfig IS DISTINCT FROM ARRAY[format('search_path=pg_catalog, %I, pg_temp', prefix), 'plan_cache_mode=force_generic_plan'] THEN 'settings' END,
        CASE WHEN w.callers <> ARRAY(SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END
            FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE a.grantee <> f.proowner ORDER BY 1) THEN 'callers' END) AS differs
    FROM our, wanted w LEFT JOIN found f ON f.proname = w.name
), kept AS (
    SELECT c.oid, c.relname, c.relrowsecurity, pg_get_userbyid(c.relowner) AS owner, c.relacl, c.relowner FROM pg_class c, our
    WHERE c.relnamespace = to_regnamespace(quote_ident(prefix)) AND c.relname IN ('lease', 'lease_scope')
)
SELECT true AS problem, format('function %s is missing in database %I: run init-sql again for it', name, current_database()) AS words FROM compared WHERE oid IS NULL
UNION ALL SELECT true, format('function %s in database %I is not what this version would make (%s): run init-sql again for it', oid::regprocedure, current_database(), differs)
    FROM compared WHERE oid IS NOT NULL AND differs <> ''
UNION ALL SELECT true, format('function %s in database %I is none of this version: DROP FUNCTION %1$s', oid::regprocedure, current_database())
    FROM found WHERE proname NOT IN (SELECT name FROM wanted)
UNION ALL SELECT true, format('function %s in database %I is there with other arguments too: run init-sql again for it after DROP FUNCTION %s', min(oid::regprocedure::text), current_database(),
        string_agg(oid::regprocedure::text, ', ')) FROM found GROUP BY proname HAVING count(*) > 1
UNION ALL SELECT true, format('table %s is missing in database %I: run init-sql again for it', t, current_database()) FROM unnest(ARRAY['lease', 'lease_scope']) t WHERE t NOT IN (SELECT relname FROM kept)
UNION ALL SELECT true, format('table %1$s belongs to %2$I: ALTER TABLE %1$s OWNER TO %3$I', oid::regclass, owner, prefix || '_keeper') FROM kept, our WHERE owner <> prefix || '_keeper'
UNION ALL SELECT true, format('agents could read each other''s rows: ALTER TABLE %s ENABLE ROW LEVEL SECURITY', oid::regclass) FROM kept WHERE relname = 'lease_scope' AND NOT relrowsecurity
UNION ALL SELECT true, format('%s has %s on %s: REVOKE %2$s ON %3$s FROM %1$s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, oid::regclass)
    FROM kept, aclexplode(relacl) a WHERE a.grantee <> relowner AND NOT (relname = 'lease_scope' AND a.privilege_type = 'SELECT')
UNION ALL SELECT true, format('policy %I on %s shows leases more than their own rows: DROP POLICY %1$I ON %2$s', p.polname, k.oid::regclass)
    FROM kept k JOIN pg_policy p ON p.polrelid = k.oid WHERE p.polpermissive AND pg_get_expr(p.polqual, p.polrelid) IS DISTINCT FROM '(role_name = SESSION_USER)'
