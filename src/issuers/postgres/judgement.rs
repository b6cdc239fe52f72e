//! Judging a scope: whether its roles are ones a lease may have, and whether its rows bind.
//!
//! One function says it, in the mint and in the rehearsal alike. It looks at everything the scope's roles reach, by
//! inheritance or by `SET ROLE`. Each row it returns is a problem: a code a mint is refused with (`role_missing`, `not_held`,
//! `scope_too_powerful`, `rows_unbound`), and words that end with the statement that mends it on that server.

use super::procedures::{Callers, Function};
use super::scope::Scope;
use super::sql::{Ident, Sql};

/// The functions that judge.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new(
            "rows_unbound",
            "roots oid[], reach oid[], acting oid, keys text[], unbound text[]",
            "SETOF text",
            Callers::Inside,
            include_str!("functions/rows_unbound.sql"),
        ),
        Function::new(
            "scope_problems",
            "groups text[], as_role text, keys text[], unbound text[]",
            "TABLE (code text, words text)",
            Callers::Broker,
            include_str!("functions/scope_problems.sql"),
        ),
    ]
}

/// Asks for the problems of a scope: rows of `code` and `words`.
pub fn problems(schema: &Ident, scope: &Scope) -> Sql {
    let keys = scope.rows.keys().map(String::as_str);
    let sql = Sql::new("SELECT code, words FROM ")
        .ident(schema)
        .text(".scope_problems(")
        .texts(scope.roles.iter().map(Ident::as_str))
        .text(", ");
    let sql = match &scope.acting {
        Some(role) => sql.literal(role.as_str()),
        None => sql.text("NULL"),
    };
    sql.text(", ")
        .texts(keys)
        .text(", ")
        .texts(scope.unbound.iter().map(String::as_str))
        .text(")")
}
