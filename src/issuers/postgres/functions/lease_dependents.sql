#variable_conflict use_column
DECLARE
    here constant oid := (SELECT oid FROM pg_database WHERE datname = current_database());
BEGIN
    RETURN QUERY
    WITH RECURSIVE gone (classid, objid, objsubid) AS (
        SELECT classid, objid, 0 FROM pg_shdepend
        WHERE refclassid = 'pg_authid'::regclass AND refobjid = lease AND deptype = 'o' AND dbid = here
        UNION
        SELECT n.* FROM gone g CROSS JOIN LATERAL (
            SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
            WHERE d.refclassid = g.classid AND d.refobjid = g.objid AND g.objsubid IN (0, d.refobjsubid)
            UNION ALL
            -- A part that cannot go alone takes the whole with it.
            SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_depend d
            WHERE d.classid = g.classid AND d.objid = g.objid AND d.objsubid = g.objsubid AND d.deptype IN ('i', 'e')
        ) n
    ), owners AS (
        SELECT g.*, CASE g.classid
            WHEN 'pg_class'::regclass THEN (SELECT CASE WHEN relkind IN ('i', 'I', 't') THEN lease ELSE relowner END FROM pg_class WHERE oid = g.objid)
            WHEN 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc WHERE oid = g.objid)
            WHEN 'pg_type'::regclass THEN (SELECT typowner FROM pg_type WHERE oid = g.objid)
            WHEN 'pg_namespace'::regclass THEN (SELECT nspowner FROM pg_namespace WHERE oid = g.objid)
            ELSE COALESCE((SELECT refobjid FROM pg_shdepend s WHERE s.classid = g.classid AND s.objid = g.objid AND s.dbid = here AND s.deptype = 'o'), 10)
            END AS owner
        FROM gone g
    ), others AS (
        SELECT o.*, o.classid IN ('pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_attrdef'::regclass, 'pg_rewrite'::regclass,
            'pg_cast'::regclass, 'pg_transform'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass, 'pg_publication_rel'::regclass,
            'pg_publication_namespace'::regclass, 'pg_default_acl'::regclass, 'pg_user_mapping'::regclass) AS part
        FROM owners o WHERE NOT starts_with(pg_get_userbyid(o.owner), 'jit_') AND o.classid <> 'pg_extension'::regclass
    )
    SELECT NOT o.part, pg_describe_object(o.classid, o.objid, o.objsubid) FROM others o
    -- What belongs to something else that goes is told by that.
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.objsubid = o.objsubid AND d.deptype = 'i')
    AND NOT (o.part AND EXISTS (SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid WHERE d.classid = o.classid AND d.objid = o.objid
        AND d.deptype = 'a' AND d.refclassid = 'pg_class'::regclass AND starts_with(pg_get_userbyid(c.relowner), 'jit_')));
END
