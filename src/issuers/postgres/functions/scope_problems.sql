#variable_conflict use_column
DECLARE
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    -- Objects of the server itself have lower numbers.
    first_own constant oid := 16384;
    here constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    -- Our roles are named after our schema; this function has the rights of the keeper, and the broker calls it.
    prefix constant text := left(current_user, -length('_keeper'));
    keeper constant oid := (SELECT oid FROM pg_roles WHERE rolname = current_user);
    granter constant oid := (SELECT oid FROM pg_roles WHERE rolname = prefix || '_granter');
    acting constant oid := (SELECT oid FROM pg_roles WHERE rolname = as_role);
    named constant text[] := groups || CASE WHEN as_role IS NULL THEN '{}'::text[] ELSE ARRAY[as_role] END;
    roots oid[];
    reach oid[];
    step oid[];
    granted record;
BEGIN
    RETURN QUERY SELECT 'role_missing', format('there is no role %I: CREATE ROLE %1$I NOLOGIN', n)
        FROM unnest(named) n WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = n);
    RETURN QUERY SELECT 'not_held', format('leases cannot be given %1$I: GRANT %1$I TO %2$I WITH %3$s', n, prefix || '_granter',
            CASE WHEN modern THEN 'ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE 'ADMIN OPTION' END)
        FROM unnest(named) n JOIN pg_roles r ON r.rolname = n
        WHERE NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = granter AND m.roleid = r.oid AND m.admin_option);

    -- Every role the scope reaches, by inheritance or by SET ROLE.
    roots := ARRAY(SELECT oid FROM pg_roles WHERE rolname = ANY (named));
    reach := roots;
    step := roots;
    WHILE step <> '{}' LOOP
        step := ARRAY(SELECT DISTINCT roleid FROM pg_auth_members WHERE member = ANY (step) AND roleid <> ALL (reach));
        reach := reach || step;
    END LOOP;

    RETURN QUERY SELECT 'scope_too_powerful', format('role %1$I %2$s: ALTER ROLE %1$I %3$s', rolname, p.what, p.mend)
        FROM pg_roles, LATERAL (VALUES (rolsuper, 'is superuser', 'NOSUPERUSER'), (rolcreaterole, 'may make roles', 'NOCREATEROLE'),
            (rolcreatedb, 'may make databases', 'NOCREATEDB'), (rolreplication, 'may replicate', 'NOREPLICATION'),
            (rolbypassrls, 'is not bound by row level security', 'NOBYPASSRLS'), (rolcanlogin, 'can log in itself', 'NOLOGIN')) p (has, what, mend)
        WHERE oid = ANY (reach) AND oid >= first_own AND p.has;
    -- Reading about the server is no power, unless the scope is held to rows: statements of others have values in them.
    RETURN QUERY SELECT 'scope_too_powerful', format('role %I is a member of %I: REVOKE %2$I FROM %1$I', b.rolname, r.rolname)
        FROM pg_roles r JOIN pg_auth_members m ON m.roleid = r.oid JOIN pg_roles b ON b.oid = m.member
        WHERE r.oid = ANY (reach) AND b.oid = ANY (reach) AND b.oid >= first_own
        AND (r.oid < first_own AND NOT (r.rolname IN ('pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables') AND cardinality(keys) = 0)
            OR r.rolname ~ '^(rds|cloudsql|azure|neon|supabase|jit)_|^cloudsqlsuperuser$' OR r.oid IN (keeper, granter)
            OR r.rolname = session_user OR starts_with(r.rolname, prefix || '_minter_'));
    RETURN QUERY SELECT 'scope_too_powerful', format('%I is not a role for leases: name a group role made for this purpose', rolname)
        FROM pg_roles WHERE oid = ANY (roots) AND (oid < first_own OR starts_with(rolname, 'jit_') OR oid IN (keeper, granter)
            OR rolname = session_user OR starts_with(rolname, prefix || '_minter_'));
    RETURN QUERY SELECT 'scope_too_powerful', format('role %1$I may pass on %2$I: REVOKE ADMIN OPTION FOR %2$I FROM %1$I%3$s', b.rolname, r.rolname,
            CASE WHEN modern THEN format(' GRANTED BY %I CASCADE', g.rolname) END)
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles b ON b.oid = m.member LEFT JOIN pg_roles g ON g.oid = m.grantor
        WHERE m.member = ANY (reach) AND m.admin_option;
    RETURN QUERY SELECT 'scope_too_powerful', format('role %I owns %s; in %s: REASSIGN OWNED BY %1$I TO CURRENT_USER', r.rolname,
            CASE WHEN o.dbid IN (0, here) THEN o.what ELSE 'something' END, CASE o.dbid WHEN 0 THEN 'the cluster' ELSE 'database ' || quote_ident(d.datname) END)
        FROM (SELECT refobjid, dbid, count(*) || ' objects, such as ' || min(CASE WHEN dbid IN (0, here) THEN pg_describe_object(classid, objid, objsubid) END) AS what
            FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY (reach) AND deptype = 'o'
            AND refobjid IS DISTINCT FROM acting AND classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
            GROUP BY refobjid, dbid) o
        JOIN pg_roles r ON r.oid = o.refobjid LEFT JOIN pg_database d ON d.oid = o.dbid;

    -- What the roles were granted, here and on what all databases share.
    FOR granted IN
        SELECT r.rolname::text AS role, r.oid IS NOT DISTINCT FROM acting AS acts, o.classid, o.objid, a.privilege_type AS right, a.is_grantable AS option, a.part,
            CASE o.classid WHEN 'pg_parameter_acl'::regclass THEN 'PARAMETER ' || (SELECT parname FROM pg_parameter_acl WHERE oid = o.objid)
                ELSE CASE o.classid WHEN 'pg_class'::regclass THEN 'TABLE' ELSE upper(i.type) END || ' ' || i.identity END AS place,
            d.datname::text AS database
        FROM (SELECT DISTINCT classid, objid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY (reach)
                AND deptype = 'a' AND dbid IN (0, here) AND classid <> 'pg_default_acl'::regclass) o
        CROSS JOIN LATERAL (
            SELECT e.*, ''::text AS part FROM aclexplode(CASE o.classid
                WHEN 'pg_class'::regclass THEN (SELECT relacl FROM pg_class WHERE oid = o.objid)
                WHEN 'pg_namespace'::regclass THEN (SELECT nspacl FROM pg_namespace WHERE oid = o.objid)
                WHEN 'pg_proc'::regclass THEN (SELECT proacl FROM pg_proc WHERE oid = o.objid)
                WHEN 'pg_database'::regclass THEN (SELECT datacl FROM pg_database WHERE oid = o.objid)
                WHEN 'pg_type'::regclass THEN (SELECT typacl FROM pg_type WHERE oid = o.objid)
                WHEN 'pg_language'::regclass THEN (SELECT lanacl FROM pg_language WHERE oid = o.objid)
                WHEN 'pg_tablespace'::regclass THEN (SELECT spcacl FROM pg_tablespace WHERE oid = o.objid)
                WHEN 'pg_foreign_data_wrapper'::regclass THEN (SELECT fdwacl FROM pg_foreign_data_wrapper WHERE oid = o.objid)
                WHEN 'pg_foreign_server'::regclass THEN (SELECT srvacl FROM pg_foreign_server WHERE oid = o.objid)
                WHEN 'pg_largeobject'::regclass THEN (SELECT lomacl FROM pg_largeobject_metadata WHERE oid = o.objid)
                WHEN 'pg_parameter_acl'::regclass THEN (SELECT paracl FROM pg_parameter_acl WHERE oid = o.objid) END) e
            UNION ALL
            SELECT e.*, format(' (%I)', attname) FROM pg_attribute, aclexplode(attacl) e
                WHERE o.classid = 'pg_class'::regclass AND attrelid = o.objid AND attacl IS NOT NULL) a
        JOIN pg_roles r ON r.oid = a.grantee
        LEFT JOIN pg_database d ON o.classid = 'pg_database'::regclass AND d.oid = o.objid
        CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i
        WHERE a.grantee = ANY (reach) AND (a.is_grantable OR a.privilege_type IN ('TRIGGER', 'CREATE', 'CONNECT') OR o.classid = 'pg_parameter_acl'::regclass)
    LOOP
        code := 'scope_too_powerful';
        words := NULL;
        IF granted.option THEN
            words := format('role %1$I may pass on %2$s on %3$s: REVOKE GRANT OPTION FOR %2$s%4$s ON %3$s FROM %1$I CASCADE', granted.role, granted.right, granted.place, granted.part);
        ELSIF granted.right = 'TRIGGER' OR granted.classid = 'pg_parameter_acl'::regclass THEN
            words := format('role %I has %s on %s: REVOKE %2$s ON %3$s FROM %1$I', granted.role, granted.right, granted.place);
        ELSIF granted.right = 'CREATE' AND NOT modern AND NOT granted.acts THEN
            words := format('role %I may create, and on this version leases can act as it: REVOKE CREATE ON %s FROM %1$I', granted.role, granted.place);
        ELSIF granted.database IS NOT NULL AND granted.objid <> here
            AND (granted.acts OR NOT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o' AND dbid = granted.objid AND refobjid = keeper)) THEN
            words := format('role %1$I can go to database %2$I, where nothing cleans up behind it%3$s: REVOKE %4$s ON DATABASE %2$I FROM %1$I', granted.role, granted.database,
                CASE WHEN NOT granted.acts THEN ' (or run init-sql for that database)' END, granted.right);
        END IF;
        IF words IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
    RETURN QUERY SELECT 'scope_too_powerful', format('everybody may make triggers on %s: REVOKE TRIGGER ON %1$s FROM PUBLIC', c.oid::regclass)
        FROM pg_class c WHERE c.oid >= first_own AND c.relacl::text ~ '[{,]=[^,/]*t'
        AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0 AND a.privilege_type = 'TRIGGER');
    RETURN QUERY SELECT 'scope_too_powerful', format('everybody may create in schema %I, and on this version leases can act as their groups: REVOKE CREATE ON SCHEMA %1$I FROM PUBLIC', nspname)
        FROM pg_namespace n WHERE NOT modern AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE');
    IF cardinality(keys) > 0 THEN
        RETURN QUERY SELECT 'rows_unbound', w FROM rows_unbound(roots, reach, acting, keys, unbound) w;
    END IF;
END
