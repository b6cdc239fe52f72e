    prefix constant text := left(current_user, -length('keeper')) || 'minter_';
    -- The minter that made a role may change and drop it; on PostgreSQL 15 any of them may.
    number constant text := (SELECT min(substr(r.rolname, length(prefix) + 1)) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE m.roleid = to_regrole(lease) AND m.admin_option AND starts_with(r.rolname, prefix));
BEGIN
    IF lease !~ '^jit_[0-9a-z]{26}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'bad_argument', DETAIL = 'this is no lease';
    END IF;
    EXECUTE format('SELECT as_minter_%s($1)', coalesce(number, lpad(((hashtext(lease) & 2147483647) % minters)::text, 3, '0'))) USING statement;
END
