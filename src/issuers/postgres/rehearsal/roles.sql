-- Whether our roles are what they should be, and the broker's account can do nothing but call our functions.
, ours AS (
    SELECT prefix || '_keeper' AS name, 'keeper' AS part FROM our
    UNION ALL SELECT prefix || '_granter', 'granter' FROM our
    UNION ALL SELECT format('%s_minter_%s', prefix, lpad(n::text, 3, '0')), 'minter' FROM our, generate_series(0, minters - 1) n
    UNION ALL SELECT session_user::text, 'broker'
), role AS (
    SELECT r.*, o.part FROM ours o JOIN pg_roles r ON r.rolname = o.name
), member AS (
    SELECT m.roleid, m.member, m.admin_option AS passes, coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true) AS inherits,
        coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) AS sets
    FROM pg_auth_members m
), granted AS (
    SELECT CASE d.classid WHEN 'pg_class'::regclass THEN 'TABLE' ELSE upper(i.type) END || ' ' || i.identity AS place, d.classid, d.objid, e.privilege_type AS privilege
    FROM (SELECT DISTINCT s.classid, s.objid FROM pg_shdepend s JOIN role r ON r.oid = s.refobjid AND r.part = 'broker' WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a'
        AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))) d
    CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
    LEFT JOIN LATERAL aclexplode(CASE d.classid WHEN 'pg_database'::regclass THEN (SELECT datacl FROM pg_database WHERE oid = d.objid)
        WHEN 'pg_namespace'::regclass THEN (SELECT nspacl FROM pg_namespace WHERE oid = d.objid) END) e ON e.grantee = (SELECT oid FROM role WHERE part = 'broker')
)
SELECT true AS problem, format('there is no role %I: run init-sql again', name) AS words FROM ours WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
UNION ALL SELECT true, format('role %I %s: ALTER ROLE %1$I %3$s', rolname, w.what, w.mend) FROM role, LATERAL (VALUES
        (rolsuper, 'is superuser', 'NOSUPERUSER'), (rolcreatedb, 'may make databases', 'NOCREATEDB'), (rolreplication, 'may replicate', 'NOREPLICATION'),
        (rolbypassrls, 'is not bound by row level security', 'NOBYPASSRLS'), (rolcreaterole AND part <> 'minter', 'may make roles', 'NOCREATEROLE'),
        (NOT rolcreaterole AND part = 'minter', 'cannot make roles', 'CREATEROLE'), (rolcanlogin AND part <> 'broker', 'can log in', 'NOLOGIN'),
        (NOT rolinherit AND part = 'minter', 'does not inherit', 'INHERIT')) w (is_so, what, mend) WHERE w.is_so
UNION ALL SELECT true, format('role %I is a member of %I: REVOKE %2$I FROM %1$I', r.rolname, g.rolname)
    FROM role r JOIN member m ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid
    WHERE NOT starts_with(g.rolname, 'jit_') AND CASE r.part WHEN 'broker' THEN g.rolname <> 'pg_use_reserved_connections' WHEN 'keeper' THEN g.rolname <> 'pg_signal_backend'
        WHEN 'minter' THEN g.rolname <> (SELECT prefix || '_granter' FROM our) ELSE NOT m.passes END
UNION ALL SELECT true, format('sessions cannot be ended: GRANT pg_signal_backend TO %I', r.rolname) FROM role r
    WHERE r.part = 'keeper' AND NOT EXISTS (SELECT FROM member m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = 'pg_signal_backend' AND m.inherits)
UNION ALL SELECT true, format('role %1$I cannot pass on groups: GRANT %2$I TO %1$I%3$s', r.rolname, g.rolname,
        CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN ' WITH INHERIT TRUE, SET FALSE' END)
    FROM role r JOIN role g ON g.part = 'granter' WHERE r.part = 'minter' AND NOT EXISTS (SELECT FROM member m WHERE m.member = r.oid AND m.roleid = g.oid AND m.inherits)
UNION ALL SELECT true, format('role %I can act as %I: REVOKE %2$I FROM %1$I', s.rolname, r.rolname)
    FROM role r JOIN member m ON m.roleid = r.oid JOIN pg_roles s ON s.oid = m.member
    WHERE (m.inherits OR m.sets) AND NOT s.rolsuper AND NOT s.rolcreaterole AND r.part <> 'broker'
        AND NOT EXISTS (SELECT FROM role o WHERE o.oid = s.oid AND o.part = 'minter' AND r.part = 'granter')
UNION ALL SELECT true, format('the broker owns %s: REASSIGN OWNED BY %I TO CURRENT_USER', pg_describe_object(min(s.classid), min(s.objid), 0), r.rolname)
    FROM role r JOIN pg_shdepend s ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype = 'o' WHERE r.part = 'broker' GROUP BY r.rolname
UNION ALL SELECT true, format('the broker has %s on %s: REVOKE %1$s ON %2$s FROM %3$I', coalesce(privilege, 'ALL'), place, session_user)
    FROM granted, our WHERE CASE classid WHEN 'pg_database'::regclass THEN privilege <> 'CONNECT'
        WHEN 'pg_namespace'::regclass THEN privilege <> 'USAGE' OR objid <> to_regnamespace(quote_ident(prefix))
        WHEN 'pg_proc'::regclass THEN (SELECT pronamespace FROM pg_proc WHERE oid = objid) IS DISTINCT FROM to_regnamespace(quote_ident(prefix)) ELSE true END
