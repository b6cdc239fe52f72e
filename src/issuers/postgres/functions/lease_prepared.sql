#variable_conflict use_column
DECLARE
    here constant text := server_identity();
BEGIN
    RETURN QUERY SELECT x.gid, d.datname::text FROM pg_prepared_xact() x JOIN pg_database d ON d.oid = x.dbid JOIN pg_roles r ON r.oid = x.ownerid
        WHERE r.rolname = lease AND lease ~ '^jit_[0-9a-z]{26}$' AND starts_with(shobj_description(r.oid, 'pg_authid'), format('countersign deployment=%s ', deployment));
END
