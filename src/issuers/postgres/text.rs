//! The statements of a credential's life, each message as it is sent.

use super::scope::Scope;
use super::sql::{Ident, Sql};
use crate::domain::{Digest, Time};

/// What the statements that mint need besides the scope.
pub struct Birth<'a> {
    /// The login role.
    pub role: &'a Ident,
    /// SCRAM verifier of its password.
    pub verifier: &'a str,
    /// No login after this, by the server's clock.
    pub valid_until: &'a str,
    /// No commit after this, by the server's clock.
    pub deadline: &'a str,
    /// What the target's own logs should know.
    pub comment: &'a str,
}

/// The advisory lock a mint holds until its end, so that others can see it under way.
pub fn lock_key(handle: &str) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(handle.as_bytes()).0;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A time as PostgreSQL reads it.
pub fn timestamp(time: Time) -> String {
    time.to_string()
}

/// Mints: one message, one transaction.
///
/// The commit does not wait for the disk: a server that crashes right after it has forgotten a role nobody can use
/// any more, its sessions died in the crash. The group's lock is taken last and held briefly.
pub fn mint(birth: &Birth<'_>, scope: &Scope, grant_options: bool) -> Sql {
    let role = birth.role;
    let set = |sql: Sql, key: &'static str| sql.text("; ALTER ROLE ").ident(role).text(key);
    let mut sql = Sql::new(
        "BEGIN; SET LOCAL lock_timeout = '3s'; SET LOCAL synchronous_commit = off; \
         SELECT pg_catalog.pg_advisory_xact_lock(",
    )
    .number(lock_key(role.as_str()))
    .text("); CREATE ROLE ")
    .ident(role)
    .text(" WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT PASSWORD ")
    .literal(birth.verifier)
    .text(" VALID UNTIL ")
    .literal(birth.valid_until)
    .text(" CONNECTION LIMIT ")
    .number(scope.connection_limit);
    sql = set(sql, " SET statement_timeout = ")
        .number(scope.statement_timeout_seconds.saturating_mul(1000));
    sql = set(sql, " SET idle_session_timeout = '10min'");
    sql = set(sql, " SET idle_in_transaction_session_timeout = '60s'");
    sql = sql
        .text("; COMMENT ON ROLE ")
        .ident(role)
        .text(" IS ")
        .literal(birth.comment);
    if !scope.rows.is_empty() {
        sql = sql.text("; INSERT INTO countersign.lease_scope (role_name, key, value) VALUES ");
        for (index, (key, value)) in scope.rows.iter().enumerate() {
            sql = sql.text(if index == 0 { "(" } else { ", (" });
            sql = sql.literal(role.as_str()).text(", ").literal(key);
            sql = sql.text(", ").literal(value).text(")");
        }
    }
    sql = sql
        .text("; GRANT ")
        .idents(&scope.roles)
        .text(" TO ")
        .ident(role);
    if grant_options {
        sql = sql.text(" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE");
    }
    // A division by zero is the shortest refusal that needs no procedural language.
    sql.text("; SELECT 1 / CASE WHEN pg_catalog.clock_timestamp() <= ")
        .literal(birth.deadline)
        .text("::pg_catalog.timestamptz THEN 1 ELSE 0 END; COMMIT")
}

/// No login, no password, no connection.
pub fn fence(role: &Ident) -> Sql {
    Sql::new("ALTER ROLE ")
        .ident(role)
        .text(" WITH NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'")
}

/// The broker takes the rights of the role, which it needs to end its sessions and to clean up behind it.
pub fn take_over(role: &Ident, grant_options: bool) -> Sql {
    let sql = Sql::new("GRANT ").ident(role).text(" TO CURRENT_USER");
    if grant_options {
        sql.text(" WITH INHERIT TRUE, SET TRUE")
    } else {
        sql
    }
}

/// Takes `groups` away from the role; open sessions lose them at their next statement.
pub fn revoke(groups: &[Ident], role: &Ident) -> Sql {
    Sql::new("REVOKE ")
        .idents(groups)
        .text(" FROM ")
        .ident(role)
}

/// Forgets the role's rows.
pub fn forget_rows(role: &Ident) -> Sql {
    Sql::new("DELETE FROM countersign.lease_scope WHERE role_name = ").literal(role.as_str())
}

/// Drops the role.
pub fn drop_role(role: &Ident) -> Sql {
    Sql::new("DROP ROLE ").ident(role)
}

/// Ends the common case in one message: fence, kill, make sure, drop. Any surprise is an error, which leaves the steps
/// before it done and the rest to the slow way.
pub fn end_at_once(role: &Ident, scope: &Scope, grant_options: bool) -> Sql {
    let oid = |sql: Sql| {
        sql.text("(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ")
            .literal(role.as_str())
            .text(")")
    };
    // The fence needs to be seen at once, not to survive a crash: a crash ends the sessions and we come again.
    let mut sql = Sql::new("BEGIN; SET LOCAL synchronous_commit = off; ")
        .then(&fence(role))
        .text("; ")
        .then(&revoke(&scope.roles, role))
        .text("; ")
        .then(&take_over(role, grant_options))
        .text(
            "; COMMIT; BEGIN; SELECT 1 / CASE WHEN pg_catalog.bool_and(pg_catalog.pg_terminate_backend(pid, 2000)) \
             IS NOT FALSE THEN 1 ELSE 0 END FROM pg_catalog.pg_stat_get_activity(NULL) WHERE usesysid = ",
        );
    sql = oid(sql).text(
        "; COMMIT; BEGIN; SELECT 1 / CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(NULL) WHERE usesysid = ",
    );
    sql = oid(sql).text(") OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xact() WHERE ownerid = ");
    sql = oid(sql).text(") THEN 0 ELSE 1 END; ");
    if !scope.rows.is_empty() {
        sql = sql.then(&forget_rows(role)).text("; ");
    }
    sql.then(&drop_role(role)).text("; COMMIT")
}

/// Whether a mint of `handle` is under way: held by the broker's own role only, so an agent cannot pretend. Must be
/// asked in a statement before the one that looks for the role, which then sees what such a mint committed.
pub fn mint_under_way(handle: &str) -> Sql {
    let key = lock_key(handle).to_be_bytes();
    let [a, b, c, d, e, f, g, h] = key;
    let high = i64::from(u32::from_be_bytes([a, b, c, d]));
    let low = i64::from(u32::from_be_bytes([e, f, g, h]));
    Sql::new(
        "SELECT pg_catalog.count(*) AS under_way FROM pg_catalog.pg_lock_status() l \
         JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid = ",
    )
    .number(high)
    .text("::pg_catalog.oid AND l.objid = ")
    .number(low)
    .text(
        "::pg_catalog.oid AND a.usesysid = \
         (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = SESSION_USER)",
    )
}

/// What is there of `handle`: the role, its sessions, sessions and prepared transactions of roles that are gone.
pub fn look(handle: &str) -> Sql {
    Sql::new(
        "SELECT (SELECT oid::pg_catalog.int8 FROM pg_catalog.pg_roles WHERE rolname = ",
    )
    .literal(handle)
    .text(
        ") AS role, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE usename = ",
    )
    .literal(handle)
    .text(
        ") AS sessions, \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.usesysid <> 0 \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = a.usesysid)) AS ghosts, \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xacts WHERE owner IS NULL OR owner = ",
    )
    .literal(handle)
    .text(") AS prepared")
}

/// Ends the sessions of roles that are gone.
pub fn kill_ghosts() -> Sql {
    Sql::new(
        "SELECT pg_catalog.pg_terminate_backend(a.pid, 2000) FROM pg_catalog.pg_stat_get_activity(NULL) a \
         WHERE a.usesysid <> 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = a.usesysid)",
    )
}

/// Ends the sessions of the role with this oid, first all at once, then waiting for each; gives how many there were.
pub fn kill(oid: i64) -> Sql {
    Sql::new("SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_get_activity(NULL) WHERE usesysid = ")
        .number(oid)
        .text("; SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid, 2000)) AS seen FROM pg_catalog.pg_stat_get_activity(NULL) WHERE usesysid = ")
        .number(oid)
}

/// Groups the role is a member of.
pub fn memberships(oid: i64) -> Sql {
    Sql::new(
        "SELECT DISTINCT r.rolname::pg_catalog.text AS name FROM pg_catalog.pg_auth_members m \
         JOIN pg_catalog.pg_roles r ON r.oid = m.roleid WHERE m.member = ",
    )
    .number(oid)
}

/// Prepared transactions of the role.
pub fn prepared(oid: i64) -> Sql {
    Sql::new(
        "SELECT x.gid::pg_catalog.text AS gid, d.datname::pg_catalog.text AS database \
         FROM pg_catalog.pg_prepared_xact() x JOIN pg_catalog.pg_database d ON d.oid = x.dbid WHERE x.ownerid = ",
    )
    .number(oid)
}

/// Databases where the role owns or holds anything; what all databases share has no database.
pub fn holdings(oid: i64) -> Sql {
    Sql::new(
        "SELECT DISTINCT d.datname::pg_catalog.text AS database FROM pg_catalog.pg_shdepend s \
         LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
         WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = ",
    )
    .number(oid)
}

/// Hands what the role owns here to the quarantine role and takes away what it was granted here.
pub fn disown(role: &Ident, quarantine: &Ident) -> Sql {
    Sql::new("BEGIN; REASSIGN OWNED BY ")
        .ident(role)
        .text(" TO ")
        .ident(quarantine)
        .text("; DROP OWNED BY ")
        .ident(role)
        .text("; COMMIT")
}

/// Drops the functions and procedures the role owns here, unless something needs them. The server quotes their names.
/// To name them takes the schema rights of the groups, which the role, dead by now, has back until the commit.
pub fn drop_routines(role: &Ident, oid: i64, groups: &[Ident]) -> Sql {
    let mut sql = Sql::new("BEGIN; ");
    if !groups.is_empty() {
        sql = sql
            .text("GRANT ")
            .idents(groups)
            .text(" TO ")
            .ident(role)
            .text("; ");
    }
    sql = sql
        .text("DO $$ DECLARE routine pg_catalog.oid; BEGIN FOR routine IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.proowner = ")
        .number(oid)
        .text(" LOOP EXECUTE pg_catalog.format('DROP ROUTINE %s RESTRICT', routine::pg_catalog.regprocedure); END LOOP; END $$; ");
    if !groups.is_empty() {
        sql = sql.then(&revoke(groups, role)).text("; ");
    }
    sql.text("COMMIT")
}

/// Roles and sessions that could be ours.
pub fn list() -> Sql {
    Sql::new(
        "SELECT rolname::pg_catalog.text AS name FROM pg_catalog.pg_roles WHERE rolname LIKE 'jit\\_%' \
         UNION SELECT usename::pg_catalog.text FROM pg_catalog.pg_stat_activity WHERE usename LIKE 'jit\\_%'",
    )
}
