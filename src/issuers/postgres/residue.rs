//! What a lease leaves behind: told, taken back or removed, in one database at a time.
//!
//! What it made as itself is dropped, unless something of others would go with it. What it changed as an owner (`as`) is
//! found by comparing lines about everything that owner has, from before the lease and from after it; routines that would
//! run with the owner's rights are removed or lose them.

use super::procedures::{Callers, Function};
use super::sql::{Ident, Sql};

/// The functions that find what is left and clean it up.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new(
            "scope_fingerprint",
            "as_role text",
            "SETOF text",
            Callers::Inside,
            include_str!("functions/scope_fingerprint.sql"),
        ),
        Function::new(
            "scope_disarm",
            "lease text, as_role text, before text[]",
            "text[]",
            Callers::Inside,
            include_str!("functions/scope_disarm.sql"),
        ),
        Function::new(
            "lease_dependents",
            "lease oid",
            "TABLE (blocks boolean, what text)",
            Callers::Inside,
            include_str!("functions/lease_dependents.sql"),
        ),
        Function::new(
            "lease_clean",
            "lease_handle text, lease_deployment text",
            "TABLE (blocked boolean, words text)",
            Callers::Broker,
            include_str!("functions/lease_clean.sql"),
        ),
        Function::new(
            "lease_thin",
            "lease_handle text, lease_deployment text",
            "integer",
            Callers::Broker,
            include_str!("functions/lease_thin.sql"),
        ),
    ]
}

/// Cleans up behind `handle`, which must be fenced, in the database this is sent to. Rows of `blocked` and `words`: what
/// stands in the way, or a line of residue. Whatever is not cleaned up is as it was.
pub fn clean(schema: &Ident, handle: &str, deployment: &str) -> Sql {
    let select = Sql::new("SELECT blocked, words FROM ");
    call(select, schema, ".lease_clean(", handle, deployment)
}

/// Drops some of very many objects of `handle` there, so many as `dropped`: none when [`clean`] can have the rest.
pub fn thin(schema: &Ident, handle: &str, deployment: &str) -> Sql {
    let select = Sql::new("SELECT dropped FROM ");
    call(select, schema, ".lease_thin(", handle, deployment).text(" AS dropped")
}

fn call(
    select: Sql,
    schema: &Ident,
    function: &'static str,
    handle: &str,
    deployment: &str,
) -> Sql {
    let sql = select.ident(schema).text(function).literal(handle);
    sql.text(", ").literal(deployment).text(")")
}
