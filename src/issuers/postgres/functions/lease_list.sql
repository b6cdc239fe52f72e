-- Everything with a name like ours, and whose it is. What is known of leases that ended long ago is forgotten.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
BEGIN
    DELETE FROM lease WHERE ended_at < clock_timestamp() - CASE WHEN residue = '{}' THEN interval '1 hour' ELSE interval '7 days' END;
    RETURN QUERY SELECT r.rolname::text, substring(shobj_description(r.oid, 'pg_authid') FROM '^countersign deployment=([0-9a-f]{16}) ')
        FROM pg_roles r WHERE r.rolname ~ '^jit_[0-9a-z]{26}$'
        UNION SELECT l.handle, l.deployment FROM lease l JOIN pg_stat_get_activity(NULL) a ON a.usesysid = l.role
            WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = l.role);
END
