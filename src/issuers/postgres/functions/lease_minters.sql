    -- Leases by the minter that may change and drop them, so that it can do so with one statement: a row for each minter.
    prefix constant text := left(current_user, -length('keeper')) || 'minter_';
BEGIN
    RETURN QUERY SELECT array_agg(g.handle) FROM (
            SELECT h AS handle, (SELECT min(substr(r.rolname, length(prefix) + 1)) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                WHERE m.roleid = to_regrole(h) AND m.admin_option AND starts_with(r.rolname, prefix)) AS number
            FROM unnest(leases) h) g
        GROUP BY coalesce(g.number, lpad(((hashtext(g.handle) & 2147483647) % minters)::text, 3, '0'));
END
