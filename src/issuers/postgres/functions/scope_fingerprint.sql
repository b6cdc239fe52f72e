#variable_conflict use_column
DECLARE
    owner constant oid := (SELECT oid FROM pg_roles WHERE rolname = as_role);
    here constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
BEGIN
    RETURN QUERY
    WITH owned AS MATERIALIZED (
        SELECT classid, objid FROM pg_shdepend
        WHERE refclassid = 'pg_authid'::regclass AND refobjid = owner AND deptype = 'o' AND (dbid = here OR dbid = 0 AND objid = here)
    ), relation AS MATERIALIZED (
        SELECT c.oid, c.oid::regclass::text AS name, c.relacl, c.reloptions, c.relkind, c.relrowsecurity, c.relforcerowsecurity
        FROM pg_class c JOIN owned o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid
    )
    SELECT i.type || ' ' || i.identity FROM owned o, pg_identify_object(o.classid, o.objid, 0) i WHERE o.classid NOT IN ('pg_proc'::regclass, 'pg_default_acl'::regclass)
    UNION ALL
    SELECT format('%s on %s granted to %s%s', a.privilege_type, i.type || ' ' || i.identity,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' with grant option' END)
        FROM owned o, pg_identify_object(o.classid, o.objid, 0) i, LATERAL aclexplode(CASE o.classid
            WHEN 'pg_class'::regclass THEN (SELECT relacl FROM pg_class WHERE oid = o.objid)
            WHEN 'pg_namespace'::regclass THEN (SELECT nspacl FROM pg_namespace WHERE oid = o.objid)
            WHEN 'pg_proc'::regclass THEN (SELECT COALESCE(proacl, acldefault('f', proowner)) FROM pg_proc WHERE oid = o.objid)
            WHEN 'pg_database'::regclass THEN (SELECT datacl FROM pg_database WHERE oid = o.objid)
            WHEN 'pg_type'::regclass THEN (SELECT typacl FROM pg_type WHERE oid = o.objid)
            WHEN 'pg_foreign_server'::regclass THEN (SELECT srvacl FROM pg_foreign_server WHERE oid = o.objid)
            WHEN 'pg_largeobject'::regclass THEN (SELECT lomacl FROM pg_largeobject_metadata WHERE oid = o.objid) END) a
        WHERE a.grantee <> owner
    UNION ALL
    SELECT format('%s (%I) on %s granted to %s%s', a.privilege_type, t.attname, r.name,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' with grant option' END)
        FROM relation r JOIN pg_attribute t ON t.attrelid = r.oid AND t.attacl IS NOT NULL, aclexplode(t.attacl) a WHERE a.grantee <> owner
    UNION ALL
    SELECT format('default privilege %s on new %s of %I%s for %s', a.privilege_type,
        CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
        as_role, CASE WHEN d.defaclnamespace <> 0 THEN format(' in schema %s', d.defaclnamespace::regnamespace) END,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
        FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE d.defaclrole = owner AND a.grantee <> owner
    UNION ALL
    SELECT format('row level security of %s %s', r.name, s.state) FROM relation r, LATERAL (VALUES (r.relrowsecurity, 'enabled'), (r.relforcerowsecurity, 'forced')) s (is_so, state) WHERE s.is_so
    UNION ALL
    SELECT format('%s policy %I on %s for %s to %s using (%s) with check (%s)', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, p.polname, r.name, p.polcmd,
        (SELECT string_agg(CASE u WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(u)) END, ', ') FROM unnest(p.polroles) u),
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT format('trigger %s (%s)', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('rule %s (%s)', pg_get_ruledef(w.oid), w.ev_enabled) FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT format('definition of %s (%s)', r.name, left(encode(sha256(convert_to(pg_get_viewdef(r.oid), getdatabaseencoding())), 'hex'), 32)) FROM relation r WHERE r.relkind IN ('v', 'm')
    UNION ALL
    SELECT format('option of %s: %s', r.name, v) FROM relation r, unnest(r.reloptions) v
    UNION ALL
    SELECT format('default of %s.%I: %s', r.name, t.attname, pg_get_expr(d.adbin, d.adrelid)) FROM pg_attrdef d JOIN relation r ON r.oid = d.adrelid
        JOIN pg_attribute t ON t.attrelid = d.adrelid AND t.attnum = d.adnum
    UNION ALL
    SELECT format('constraint %I on %s: %s', k.conname, r.name, pg_get_constraintdef(k.oid)) FROM pg_constraint k JOIN relation r ON r.oid = k.conrelid WHERE k.contype IN ('c', 'f')
    UNION ALL
    SELECT format('constraint %I on domain %s: %s', k.conname, k.contypid::regtype, pg_get_constraintdef(k.oid))
        FROM pg_constraint k JOIN owned o ON o.classid = 'pg_type'::regclass AND o.objid = k.contypid WHERE k.contype = 'c'
    UNION ALL
    SELECT format('default of type %s: %s', t.oid::regtype, t.typdefault) FROM pg_type t JOIN owned o ON o.classid = 'pg_type'::regclass AND o.objid = t.oid WHERE t.typdefault IS NOT NULL
    UNION ALL
    SELECT format('cast from %s to %s by %s (%s)', k.castsource::regtype, k.casttarget::regtype, CASE WHEN k.castfunc <> 0 THEN k.castfunc::regprocedure::text ELSE k.castmethod::text END, k.castcontext)
        FROM pg_cast k WHERE EXISTS (SELECT FROM owned WHERE classid = 'pg_type'::regclass AND objid IN (k.castsource, k.casttarget))
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(x.indexrelid)) FROM pg_index x JOIN relation r ON r.oid = x.indrelid WHERE x.indexprs IS NOT NULL OR x.indpred IS NOT NULL
    UNION ALL
    SELECT format('%sroutine %s (%s)', CASE WHEN p.prosecdef THEN 'SECURITY DEFINER ' END, p.oid::regprocedure,
        left(encode(sha256(convert_to(CASE WHEN p.prokind = 'a' THEN (SELECT a::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END, getdatabaseencoding())), 'hex'), 32))
        FROM pg_proc p JOIN owned o ON o.classid = 'pg_proc'::regclass AND o.objid = p.oid
    UNION ALL
    SELECT format('membership of %I in %I%s', pg_get_userbyid(m.member), as_role, CASE WHEN m.admin_option THEN ' with admin option' END)
        FROM pg_auth_members m WHERE m.roleid = owner AND NOT starts_with(pg_get_userbyid(m.member), 'jit_')
    UNION ALL
    SELECT format('setting of %I%s: %s', as_role, CASE WHEN s.setdatabase <> 0 THEN format(' in database %I', (SELECT datname FROM pg_database WHERE oid = s.setdatabase)) END, v)
        FROM pg_db_role_setting s, unnest(s.setconfig) v WHERE s.setrole = owner
    UNION ALL
    SELECT format('setting of the database: %s', v) FROM pg_db_role_setting s, unnest(s.setconfig) v
        WHERE s.setrole = 0 AND s.setdatabase = here AND EXISTS (SELECT FROM owned WHERE classid = 'pg_database'::regclass)
    UNION ALL
    SELECT format('publication %I of %s', p.pubname, r.name) FROM pg_publication_rel q JOIN relation r ON r.oid = q.prrelid JOIN pg_publication p ON p.oid = q.prpubid;
END
