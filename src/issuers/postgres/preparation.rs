//! What the DBA runs, and runs again when the catalog grew, so that the broker can work with no rights of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::procedures::{Callers, Function, Names, Owner, all};
use super::scope::{Scope, Surroundings};
use super::sql::{Ident, Sql};
use crate::config::PostgresTarget;

/// What the scopes of a catalog need in one database.
#[derive(Default)]
struct Needs {
    roles: Vec<Ident>,
}

impl Needs {
    fn add(&mut self, scope: &Scope) {
        for role in scope.named() {
            if !self.roles.contains(role) {
                self.roles.push(role.clone());
            }
        }
    }
}

/// Statements for one database of the cluster.
#[derive(Clone, Debug)]
pub struct Part {
    /// The database to run it in.
    pub database: String,
    /// The statements. They may be run again.
    pub sql: String,
}

/// The statements that prepare `target` for what `scopes` of the catalog ask for, a part for each database; the first one
/// is for the target's and makes what the whole cluster needs. To be run by a superuser or by the administrator of a
/// managed service. Grants of tables to the groups are the DBA's own business.
///
/// # Errors
/// When a name in the target's configuration cannot be one in PostgreSQL, or a scope is wrong.
pub fn preparation_parts(target: &PostgresTarget, scopes: &[Value]) -> Result<Vec<Part>, String> {
    let around = Surroundings::of(target);
    let names = Names::of(target)?;
    let mut every = Needs::default();
    let mut databases = BTreeMap::from([(target.database.clone(), Needs::default())]);
    let mut open = false;
    for value in scopes {
        let scope = around.read(&around.filled(value))?;
        if around.names_open(value) {
            open = true;
            continue;
        }
        every.add(&scope);
        let database = scope.database.as_str().to_owned();
        databases.entry(database).or_default().add(&scope);
    }
    let first = databases.remove(&target.database).unwrap_or_default();
    let mut start = cluster(&names, target, &every.roles);
    if open {
        start = Sql::new(
            "-- Some action takes a role or the database as a parameter: prepare each one it may name like these.\n",
        )
        .then(&start);
    }
    let mut parts = vec![Part {
        sql: start
            .then(&database(&names, &target.database, &first.roles)?)
            .to_string(),
        database: target.database.clone(),
    }];
    for (name, needs) in databases {
        parts.push(Part {
            sql: database(&names, &name, &needs.roles)?.to_string(),
            database: name,
        });
    }
    Ok(parts)
}

/// As [`preparation_parts`], as one text for `psql`.
///
/// # Errors
/// As [`preparation_parts`].
pub fn preparation_sql(target: &PostgresTarget, scopes: &[Value]) -> Result<String, String> {
    let mut text = String::from(
        "-- For psql, as superuser or as the administrator of a managed service. May be run again: it adds what is missing.\n",
    );
    for part in preparation_parts(target, scopes)? {
        let database = Ident::new(&part.database)?;
        text.push_str(&format!("\\connect {database}\n{}", part.sql));
    }
    Ok(text)
}

fn texts(roles: &[Ident]) -> Sql {
    Sql::default().texts(roles.iter().map(Ident::as_str))
}

/// The roles, which all databases share.
fn cluster(names: &Names, target: &PostgresTarget, roles: &[Ident]) -> Sql {
    let connections = i64::from(target.max_connections).saturating_mul(4);
    Sql::new("BEGIN;\nDO $do$\nDECLARE\n    prefix constant text := ")
        .literal(names.schema.as_str())
        .text(";\n    broker constant text := ")
        .literal(names.broker.as_str())
        .text(";\n    connections constant integer := ")
        .number(connections)
        .text(";\n    minters constant integer := ")
        .number(i64::from(names.minters))
        .text(";\n    -- What leases may be members of, or act as.\n    roles constant text[] := ")
        .then(&texts(roles))
        .text(";\n")
        .text(include_str!("functions/prepare_cluster.sql"))
        .text("$do$;\nCOMMIT;\n")
}

/// Our schema in one database.
fn database(names: &Names, name: &str, roles: &[Ident]) -> Result<Sql, String> {
    let mut sql = Sql::new("BEGIN;\nDO $do$\nDECLARE\n    prefix constant text := ")
        .literal(names.schema.as_str())
        .text(";\n    broker constant text := ")
        .literal(names.broker.as_str())
        .text(";\n    here constant text := ")
        .literal(name)
        .text(";\n    minters constant integer := ")
        .number(i64::from(names.minters))
        .text(";\n    roles constant text[] := ")
        .then(&texts(roles))
        .text(";\n")
        .text(include_str!("functions/prepare_database.sql"))
        .text("$do$;\n");
    for function in all(names) {
        sql = sql.then(&definition(names, &function)?);
    }
    Ok(sql
        .text("DO $do$\nDECLARE\n    prefix constant text := ")
        .literal(names.schema.as_str())
        .text(";\n")
        .text(include_str!("functions/prepare_end.sql"))
        .text("$do$;\nCOMMIT;\n"))
}

/// Makes one function, for all minters if it is theirs. What it had before went with `prepare_database`.
fn definition(names: &Names, function: &Function) -> Result<Sql, String> {
    let name = Ident::new(function.name)?;
    let head = |sql: Sql| {
        sql.text("(")
            .text(function.arguments)
            .text(") RETURNS ")
            .text(function.returns)
            .text(" LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ")
            .ident(&names.schema)
            .text(", pg_temp SET plan_cache_mode = force_generic_plan AS ")
    };
    if function.owner == Owner::Minters {
        let each = Sql::new("CREATE FUNCTION %1$I.%2$I");
        let each = head(each).text("%3$L");
        return Ok(Sql::new("DO $do$\nBEGIN\n    FOR number IN 0 .. ")
            .number(i64::from(names.minters) - 1)
            .text(" LOOP\n        EXECUTE format(")
            .literal(each.as_str())
            .text(", ")
            .literal(names.schema.as_str())
            .text(", ")
            .literal(&format!("{}_", function.name))
            .text(" || lpad(number::text, 3, '0'), ")
            .literal(function.body.as_str())
            .text(");\n    END LOOP;\nEND $do$;\n"));
    }
    let sql = Sql::new("CREATE FUNCTION ").path(&names.schema, &name);
    Ok(head(sql)
        .text("$body$")
        .then(&function.body)
        .text("$body$;\n")
        .then(&callers(names, function, &name)))
}

fn callers(names: &Names, function: &Function, name: &Ident) -> Sql {
    match function.callers {
        Callers::Inside => Sql::default(),
        Callers::Broker => Sql::new("GRANT EXECUTE ON FUNCTION ")
            .path(&names.schema, name)
            .text(" TO ")
            .ident(&names.broker)
            .text(";\n"),
    }
}
