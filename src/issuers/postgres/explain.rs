//! What a reviewer is told of a scope.

use serde_json::Value;

use super::procedures::Names;
use super::scope::{Scope, Surroundings};
use super::sql::{Ident, Sql};
use crate::domain::{Explanation, Seconds};

fn seconds(number: i64) -> Seconds {
    Seconds(u64::try_from(number).unwrap_or(0))
}

/// The scope in words, the statements, how it ends, and what may outlive it.
pub fn explain(
    names: &Names,
    around: &Surroundings,
    scope: &Value,
    ttl: Seconds,
) -> Explanation {
    let scope = match around.read(&around.filled(scope)) {
        Ok(scope) => scope,
        Err(why) => {
            return Explanation {
                words: vec![format!("nothing: {why}")],
                exact: String::new(),
                ending: Vec::new(),
                outlives: Vec::new(),
            };
        }
    };
    Explanation {
        words: words(&scope),
        exact: exact(names, &scope),
        ending: vec![
            format!("after {ttl}, or earlier when finished or revoked: login is cut, open sessions are killed, the role is dropped"),
            "new logins fail 60 s after the end even if the broker is gone; sessions already open need the broker".into(),
            "proven by looking again: no role (so no login), no session, no prepared transaction".into(),
        ],
        outlives: outlives(&scope),
    }
}

fn words(scope: &Scope) -> Vec<String> {
    let database = scope.database.as_str();
    let mut words: Vec<String> = scope
        .roles
        .iter()
        .map(|role| {
            format!(
                "acts with the rights of role {} in database {database}",
                role.as_str()
            )
        })
        .collect();
    if let Some(role) = &scope.acting {
        words.push(format!(
            "acts as role {} in database {database}: may change and drop all it owns",
            role.as_str()
        ));
    }
    for (key, value) in &scope.rows {
        words.push(format!(
            "only rows where {key} = {value}, in tables whose policies read it"
        ));
    }
    if !scope.unbound.is_empty() {
        words.push(format!("reads these whole: {}", scope.unbound.join(", ")));
    }
    words.push(format!(
        "at most {} connections at a time; unless it asks for longer, statements stop after {}, transactions that do nothing after {}, sessions that do nothing after {}",
        scope.connection_limit,
        seconds(scope.statement_timeout_seconds),
        seconds(scope.idle_in_transaction_seconds),
        seconds(scope.idle_session_seconds),
    ));
    words
}

fn exact(names: &Names, scope: &Scope) -> String {
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
        sql = sql.text(";\nGRANT ").ident(acting).text(" TO ").ident(&role);
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

fn outlives(scope: &Scope) -> Vec<String> {
    match &scope.acting {
        Some(role) => vec![format!(
            "what it makes or changes as {} stays when it ends; what of that touches access is compared and listed",
            role.as_str()
        )],
        None => Vec::new(),
    }
}
