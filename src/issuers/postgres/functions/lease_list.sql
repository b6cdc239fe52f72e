-- Everything with a name like ours, and whose it is. Sessions of our leases whose role is gone are ended, and what is known of
-- leases that ended long ago is forgotten.
#variable_conflict use_column
DECLARE
    here constant text := server_identity();
BEGIN
    DELETE FROM lease WHERE ended_at < clock_timestamp() - CASE WHEN residue = '{}' THEN interval '1 hour' ELSE interval '7 days' END;
    PERFORM pg_terminate_backend(a.pid, 2000) FROM lease l JOIN pg_stat_get_activity(NULL) a ON a.usesysid = l.role
        WHERE l.deployment = asking AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = l.role);
    PERFORM pg_stat_clear_snapshot();
    RETURN QUERY SELECT r.rolname::text, substring(shobj_description(r.oid, 'pg_authid') FROM '^countersign deployment=([0-9a-f]{16}) ')
        FROM pg_roles r WHERE r.rolname ~ '^jit_[0-9a-z]{26}$'
        UNION SELECT l.handle, l.deployment FROM lease l JOIN pg_stat_get_activity(NULL) a ON a.usesysid = l.role
            WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = l.role);
END
