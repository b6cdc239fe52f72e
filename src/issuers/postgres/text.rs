//! What the broker says to a target in a credential's life: calls of our functions, each message as it is sent.
//!
//! Every name is qualified and no operator is used, so that a message means the same whatever the connection's settings.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::procedures::Names;
use super::scope::Scope;
use super::sql::{Ident, Sql};
use crate::domain::{ServerId, Time};

/// What a mint needs besides the scope.
#[derive(Debug)]
pub struct Birth<'a> {
    /// The login role.
    pub handle: &'a str,
    /// Which Countersign makes it.
    pub deployment: &'a str,
    /// The request it serves.
    pub request: &'a str,
    /// The agent it is for.
    pub agent: &'a str,
    /// SCRAM verifier of its password.
    pub verifier: &'a str,
    /// No login after this, by the server's clock.
    pub valid_until: Time,
    /// No commit after this, by the server's clock.
    pub mint_until: Time,
    /// The server to be minted at.
    pub server: &'a str,
}

/// Leases of one deployment that were minted in one database of one server.
#[derive(Clone, Copy, Debug)]
pub struct Leases<'a> {
    /// Their handles.
    pub handles: &'a [&'a str],
    /// Whose they are.
    pub deployment: &'a str,
    /// The server they were minted at, if anybody knows.
    pub server: Option<&'a ServerId>,
}

/// Something in our schema.
fn call(names: &Names, start: &'static str, function: &'static str) -> Sql {
    Sql::new(start).ident(&names.schema).text(function)
}

fn handles_and_deployment(sql: Sql, leases: &Leases<'_>) -> Sql {
    sql.texts(leases.handles.iter().copied())
        .text(", ")
        .literal(leases.deployment)
}

fn of(sql: Sql, leases: &Leases<'_>) -> Sql {
    let sql = handles_and_deployment(sql, leases).text(", ");
    match leases.server {
        Some(server) => sql.literal(server.as_str()),
        None => sql.text("NULL"),
    }
    .text(")")
}

/// Mints: one statement, which is one transaction.
///
/// Its commit does not wait for the disk: a server that crashes right after it has forgotten a role nobody can use any
/// more, its sessions died in the crash.
pub fn mint(names: &Names, birth: &Birth<'_>, scope: &Scope) -> Sql {
    let rows = serde_json::to_string(&scope.rows).unwrap_or_default();
    let sql = call(names, "SELECT ", ".lease_mint(");
    let mut sql = [
        birth.handle,
        birth.deployment,
        birth.request,
        birth.agent,
        birth.verifier,
    ]
    .into_iter()
    .fold(sql, |sql, text| sql.literal(text).text(", "));
    sql = sql.texts(scope.roles.iter().map(Ident::as_str)).text(", ");
    sql = match &scope.acting {
        Some(role) => sql.literal(role.as_str()),
        None => sql.text("NULL"),
    };
    sql = sql
        .text(", ")
        .literal(&rows)
        .text(", ")
        .texts(scope.unbound.iter().map(String::as_str))
        .text(", ARRAY[")
        .number(scope.connection_limit);
    for seconds in [
        scope.statement_timeout_seconds,
        scope.idle_in_transaction_seconds,
        scope.idle_session_seconds,
    ] {
        sql = sql.text(", ").number(seconds);
    }
    sql.text("], ")
        .literal(&birth.valid_until.to_string())
        .text(", ")
        .literal(&birth.mint_until.to_string())
        .text(", ")
        .literal(birth.server)
        .text(")")
}

/// Ends their sessions and returns at once.
pub fn kill(names: &Names, leases: &Leases<'_>) -> Sql {
    handles_and_deployment(call(names, "SELECT ", ".lease_kill("), leases).text(") AS killed")
}

/// How many sessions [`kill`] found.
pub fn killed(rows: &[PgRow]) -> i32 {
    let killed = |row: &PgRow| row.try_get::<i32, _>("killed").ok();
    // What cannot be read is not none.
    rows.first().and_then(killed).unwrap_or(1)
}

/// Ends sessions of leases of `deployment` that hold an outrageous number of locks.
pub fn relieve(names: &Names, deployment: &str) -> Sql {
    call(names, "SELECT ", ".server_relieve(")
        .literal(deployment)
        .text(") AS killed")
}

/// Ends their sessions and refuses new ones: rows of `unfenced` and `words` where that failed.
pub fn fence(names: &Names, leases: &Leases<'_>) -> Sql {
    of(
        call(names, "SELECT unfenced, words FROM ", ".lease_fence("),
        leases,
    )
}

/// Looks what there is of them: a row each, with `looked`.
pub fn look(names: &Names, leases: &Leases<'_>) -> Sql {
    of(call(names, "SELECT * FROM ", ".lease_look("), leases)
}

/// The databases a lease left something in besides its own, as `elsewhere`.
pub fn elsewhere(names: &Names, leases: &Leases<'_>) -> Sql {
    of(
        call(names, "SELECT elsewhere FROM ", ".lease_look("),
        leases,
    )
}

/// Ends them in one message: fence, kill, drop, look. The fence has to be seen by new logins before anything else, so it
/// is a transaction of its own. It need not survive a crash, which ends the sessions too; the drop does.
pub fn end(names: &Names, leases: &Leases<'_>) -> Sql {
    let close = call(
        names,
        "; COMMIT; BEGIN; SELECT closed, outcome, words FROM ",
        ".lease_close(",
    );
    Sql::new("BEGIN; ")
        .then(&fence(names, leases))
        .then(&of(close, leases))
        .text("; COMMIT; ")
        .then(&look(names, leases))
}

/// Which server answers, as `server`.
pub fn identify(names: &Names) -> Sql {
    call(names, "SELECT ", ".server_identity() AS server")
}

/// What is there: rows of `handle` and `deployment`.
pub fn list(names: &Names, deployment: &str) -> Sql {
    call(names, "SELECT handle, deployment FROM ", ".lease_list(")
        .literal(deployment)
        .text(")")
}

/// Prepared transactions of a lease: rows of `gid` and `database`.
pub fn prepared(names: &Names, handle: &str, deployment: &str) -> Sql {
    call(names, "SELECT gid, database FROM ", ".lease_prepared(")
        .literal(handle)
        .text(", ")
        .literal(deployment)
        .text(")")
}

/// Lets the broker become a lease with prepared transactions, or, with `lent` false, no more.
pub fn lend(names: &Names, handle: &str, leases: &Leases<'_>, lent: bool) -> Sql {
    let sql = call(names, "SELECT ", ".lease_lend(")
        .literal(handle)
        .text(", ")
        .literal(leases.deployment)
        .text(", ");
    match leases.server {
        Some(server) => sql.literal(server.as_str()),
        None => sql.text("NULL"),
    }
    .text(if lent { ", true)" } else { ", false)" })
}

/// The statements a mint of `scope` runs, without what differs each time. For those who approve it.
pub fn exact(names: &Names, scope: &Scope) -> String {
    let Ok(role) = Ident::new("jit_…") else {
        return String::new();
    };
    let alter = |sql: Sql, setting| sql.text(";\nALTER ROLE ").ident(&role).text(setting);
    let mut sql = Sql::new("CREATE ROLE ")
        .ident(&role)
        .text(" LOGIN INHERIT PASSWORD 'SCRAM-SHA-256$4096:…' VALID UNTIL '(end of the lease + 60 s)' CONNECTION LIMIT ")
        .number(scope.connection_limit);
    for (setting, seconds) in [
        (" SET statement_timeout = ", scope.statement_timeout_seconds),
        (
            " SET idle_in_transaction_session_timeout = ",
            scope.idle_in_transaction_seconds,
        ),
        (" SET idle_session_timeout = ", scope.idle_session_seconds),
    ] {
        sql = alter(sql, setting).number(seconds.saturating_mul(1000));
    }
    if !scope.roles.is_empty() {
        sql = sql
            .text(";\nGRANT ")
            .idents(&scope.roles)
            .text(" TO ")
            .ident(&role);
    }
    if let Some(acting) = &scope.acting {
        sql = sql
            .text(";\nGRANT ")
            .ident(acting)
            .text(" TO ")
            .ident(&role);
        sql = alter(sql, " SET role = ").ident(acting);
    }
    for (key, value) in &scope.rows {
        sql = sql
            .text(";\nINSERT INTO ")
            .ident(&names.schema)
            .text(".lease_scope VALUES ('jit_…', ")
            .literal(key)
            .text(", ")
            .literal(value)
            .text(")");
    }
    sql.text(";\nby function ")
        .ident(&names.schema)
        .text(".lease_mint")
        .to_string()
}
