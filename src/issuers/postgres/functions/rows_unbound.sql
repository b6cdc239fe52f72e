#variable_conflict use_column
DECLARE
    first_own constant oid := 16384;
    facts constant oid := 'lease_scope'::regclass;
    ours constant oid := (SELECT relnamespace FROM pg_class WHERE oid = facts);
    everybody constant oid[] := reach || 0::oid;
    -- Policies for these roles hold for each session of a lease.
    always constant oid[] := CASE WHEN acting IS NULL THEN roots || 0::oid ELSE ARRAY[0::oid] END;
    usable constant oid[] := ARRAY(SELECT oid FROM pg_namespace n WHERE oid <> ours AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND (nspowner = ANY (reach) OR EXISTS (SELECT FROM aclexplode(nspacl) a WHERE a.grantee = ANY (everybody) AND a.privilege_type = 'USAGE')));
    -- Relations with rights on single columns; most have none, and looking at each column of each would take long.
    by_column constant oid[] := ARRAY(SELECT DISTINCT attrelid FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= first_own);
    relation record;
    unread text[] := keys;
BEGIN
    FOR relation IN
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.reloptions, p.writes
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT bool_or(true) AS reads, bool_or(a.privilege_type IN ('UPDATE', 'DELETE')) AS writes FROM (
                SELECT * FROM aclexplode(COALESCE(c.relacl, acldefault('r', c.relowner)))
                UNION ALL SELECT e.* FROM pg_attribute t, aclexplode(t.attacl) e WHERE c.oid = ANY (by_column) AND t.attrelid = c.oid AND t.attacl IS NOT NULL) a
            WHERE a.grantee = ANY (everybody) AND a.privilege_type IN ('SELECT', 'UPDATE', 'DELETE')) p
        WHERE c.oid >= first_own AND (c.relacl IS NOT NULL OR c.relowner = ANY (reach) OR c.oid = ANY (by_column)) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace = ANY (usable) AND p.reads
        AND format('%s.%s', n.nspname, c.relname) <> ALL (unbound)
    LOOP
        IF relation.relkind = 'v' AND NOT COALESCE(relation.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes'], false) THEN
            RETURN NEXT format('view %s reads with the rights of its owner: ALTER VIEW %1$s SET (security_invoker = true)', relation.name);
        ELSIF relation.relkind IN ('m', 'f') THEN
            RETURN NEXT format('%1$s %2$s has no row level security: REVOKE ALL ON %2$s FROM %3$s', CASE relation.relkind WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
                relation.name, (SELECT string_agg(quote_ident(rolname), ', ') || ', PUBLIC' FROM pg_roles WHERE oid = ANY (reach)));
        ELSIF relation.relkind <> 'v' THEN
            IF NOT relation.relrowsecurity THEN
                RETURN NEXT format('table %s is read whole: ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY', relation.name);
            ELSIF NOT relation.relforcerowsecurity AND relation.relowner = ANY (reach) THEN
                RETURN NEXT format('table %s does not hold its owner to its policies: ALTER TABLE %1$s FORCE ROW LEVEL SECURITY', relation.name);
            END IF;
            RETURN QUERY SELECT format('policy %I on %s admits rows whatever the lease is for: DROP POLICY %1$I ON %2$s', p.polname, relation.name)
                FROM pg_policy p WHERE p.polrelid = relation.oid AND p.polpermissive AND p.polroles && everybody
                AND (p.polcmd IN ('*', 'r') OR p.polcmd IN ('w', 'd') AND relation.writes)
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = facts)
                AND NOT EXISTS (SELECT FROM pg_policy b JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = b.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = facts
                    WHERE b.polrelid = relation.oid AND NOT b.polpermissive AND b.polroles && always AND (b.polcmd = '*' OR b.polcmd = 'r' AND NOT relation.writes));
            unread := ARRAY(SELECT k FROM unnest(unread) k WHERE NOT EXISTS (SELECT FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = facts
                WHERE p.polrelid = relation.oid AND p.polroles && everybody AND strpos(pg_get_expr(p.polqual, p.polrelid), quote_literal(k)) > 0));
        END IF;
    END LOOP;
    RETURN QUERY SELECT format('no policy of what the scope reads asks for key %1$s: CREATE POLICY lease_rows ON ... USING (%1$I IN (SELECT value FROM %2$s.lease_scope WHERE role_name = SESSION_USER AND key = %1$L))', k, ours::regnamespace)
        FROM unnest(unread) k;
    RETURN QUERY SELECT format('function %1$s reads with the rights of its owner: REVOKE EXECUTE ON ROUTINE %1$s FROM %2$s', p.oid::regprocedure,
            (SELECT string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ') FROM aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a
                WHERE a.grantee = ANY (everybody)))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.oid >= first_own AND p.prosecdef AND p.pronamespace = ANY (usable) AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
        AND format('%s.%s', n.nspname, p.proname) <> ALL (unbound)
        AND EXISTS (SELECT FROM aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = ANY (everybody));
END
