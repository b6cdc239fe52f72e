-- The minter that made a role may change and drop it; on PostgreSQL 15 any of them may.
DECLARE
    prefix constant text := left(current_user, -length('keeper')) || 'minter_';
    number constant text := (SELECT min(substr(r.rolname, length(prefix) + 1)) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE m.roleid = role AND m.admin_option AND starts_with(r.rolname, prefix));
BEGIN
    EXECUTE format('SELECT as_minter_%s($1)', coalesce(number, '00')) USING statement;
END
