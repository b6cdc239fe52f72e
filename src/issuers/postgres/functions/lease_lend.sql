-- Only its owner may roll back a prepared transaction, and until that is done it may hold the lease's role as it is: no password
-- could be set for it. So the broker may become the lease for as long as that takes.
DECLARE
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    here constant text := server_identity();
    ended constant oid := (SELECT oid FROM pg_roles WHERE rolname = lease AND lease ~ '^jit_[0-9a-z]{26}$'
        AND starts_with(shobj_description(oid, 'pg_authid'), format('countersign deployment=%s ', deployment)));
BEGIN
    IF (ended IS NOT NULL AND lent IS NOT NULL AND here = coalesce(server, here)
        AND (NOT lent OR EXISTS (SELECT FROM pg_prepared_xact() x WHERE x.ownerid = ended))) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'bad_argument', DETAIL = 'this is no lease with a prepared transaction';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '500ms', true),
        as_minter(lease, CASE WHEN lent THEN format('GRANT %I TO %I%s', lease, session_user, CASE WHEN modern THEN ' WITH ADMIN FALSE, INHERIT FALSE, SET TRUE' END)
            ELSE format('REVOKE %I FROM %I', lease, session_user) END);
END
