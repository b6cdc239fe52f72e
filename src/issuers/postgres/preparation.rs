//! What the DBA runs once, so that the broker can work without being superuser.

use std::collections::BTreeMap;

use serde_json::Value;

use super::scope::{Scope, Surroundings};
use super::sql::{Ident, Sql};
use crate::config::PostgresTarget;

/// What the scopes of a catalog need in one database.
#[derive(Default)]
struct Needs {
    groups: Vec<Ident>,
    uses_rows: bool,
}

impl Needs {
    fn add(&mut self, scope: &Scope) {
        for group in &scope.roles {
            if !self.groups.contains(group) {
                self.groups.push(group.clone());
            }
        }
        self.uses_rows |= !scope.rows.is_empty();
    }
}

/// The statements that prepare `target` for what `scopes` of the catalog ask for; with the table of rows and an
/// example policy when some scope has `rows`. To be run as superuser (or the managed service's administrator) in the
/// target's database. Grants of tables to the groups are the DBA's own business.
///
/// A target that accepts PostgreSQL 15 gets what 15 understands; 16 and newer can say more exactly what is granted.
///
/// # Errors
/// When a name in the target's configuration cannot be one in PostgreSQL, or a scope is wrong.
pub fn preparation_sql(target: &PostgresTarget, scopes: &[Value]) -> Result<String, String> {
    let around = Surroundings::of(target);
    let (mut all, mut here) = (Needs::default(), Needs::default());
    let mut elsewhere: BTreeMap<String, Needs> = BTreeMap::new();
    let mut notes = Sql::default();
    for value in scopes {
        let scope = around.read(&around.filled(value))?;
        if around.names_open(value) {
            notes = Sql::new(
                "-- Some action takes a role or the database as a parameter: prepare each one it may name like these.\n",
            );
            continue;
        }
        all.add(&scope);
        let database = scope.database.as_str();
        if database == target.database {
            here.add(&scope);
        } else {
            elsewhere.entry(database.into()).or_default().add(&scope);
        }
    }
    let broker = Ident::new(&target.user)?;
    let mut sql = roles(target, &broker, &all.groups)?
        .text("-- Do the REVOKE in every database of the cluster: new roles reach what PUBLIC reaches.\n")
        .then(&connections(&Ident::new(&target.database)?, &broker, &here.groups));
    if here.uses_rows {
        sql = sql.then(&rows_sql(&broker, &here.groups));
    }
    for (database, needs) in &elsewhere {
        sql = sql.then(&connections(&Ident::new(database)?, &broker, &needs.groups));
        if needs.uses_rows {
            sql = sql
                .text("-- The following in that database.\n")
                .then(&rows_sql(&broker, &needs.groups));
        }
    }
    Ok(sql.then(&notes).to_string())
}

/// Who may come into a database.
fn connections(database: &Ident, broker: &Ident, groups: &[Ident]) -> Sql {
    let mut sql = Sql::new("REVOKE CONNECT, TEMPORARY ON DATABASE ")
        .ident(database)
        .text(" FROM PUBLIC;\nGRANT CONNECT ON DATABASE ")
        .ident(database)
        .text(" TO ")
        .ident(broker);
    for group in groups {
        sql = sql.text(", ").ident(group);
    }
    sql.text(";\n")
}

/// The broker, the quarantine role and the groups.
fn roles(target: &PostgresTarget, broker: &Ident, groups: &[Ident]) -> Result<Sql, String> {
    let quarantine = Ident::new(&target.quarantine_role)?;
    let fifteen = target.accept_pg15_createrole;
    let connections = i64::from(target.max_connections).saturating_mul(4);
    let mut sql = Sql::new("-- The broker: makes roles, is no superuser. Set its password with \\password.\nCREATE ROLE ")
        .ident(broker)
        .text(" WITH LOGIN CREATEROLE NOSUPERUSER CONNECTION LIMIT ")
        .number(connections)
        .text(";\n-- It must be able to end any session its roles open, even one whose role is already gone.\nGRANT pg_signal_backend TO ")
        .ident(broker)
        .text(";\n-- The powerless role that owns what agents leave behind.\nCREATE ROLE ")
        .ident(&quarantine)
        .text(" WITH NOLOGIN;\nGRANT ")
        .ident(&quarantine)
        .text(" TO ")
        .ident(broker)
        .text(if fifteen { ";\n" } else { " WITH INHERIT TRUE, SET TRUE;\n" });
    for group in groups {
        sql = sql
            .text("-- A group role: grant it what leases may do. The broker may pass it on and not use it.\nCREATE ROLE ")
            .ident(group)
            .text(" WITH NOLOGIN;\nGRANT ")
            .ident(group)
            .text(" TO ")
            .ident(broker)
            .text(if fifteen {
                " WITH ADMIN OPTION;\n"
            } else {
                " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;\n"
            });
    }
    Ok(sql)
}

fn rows_sql(broker: &Ident, groups: &[Ident]) -> Sql {
    let mut sql = Sql::new(
        "-- Which rows a lease may see: written by the broker, read by policies, each role seeing its own.\n\
         CREATE SCHEMA countersign;\n\
         CREATE TABLE countersign.lease_scope (\n    role_name text NOT NULL,\n    key text NOT NULL,\n    value text NOT NULL,\n    PRIMARY KEY (role_name, key)\n);\n\
         ALTER TABLE countersign.lease_scope ENABLE ROW LEVEL SECURITY;\n\
         CREATE POLICY own_rows ON countersign.lease_scope FOR SELECT USING (role_name = SESSION_USER);\n\
         CREATE POLICY broker_rows ON countersign.lease_scope TO ",
    )
    .ident(broker)
    .text(
        " USING (true) WITH CHECK (true);\nGRANT SELECT, INSERT, DELETE ON countersign.lease_scope TO ",
    )
    .ident(broker)
    .text(";\nGRANT USAGE ON SCHEMA countersign TO ")
    .ident(broker);
    for group in groups {
        sql = sql.text(", ").ident(group);
    }
    sql = sql.text(";\n");
    if !groups.is_empty() {
        sql = sql
            .text("GRANT SELECT ON countersign.lease_scope TO ")
            .idents(groups)
            .text(";\n");
    }
    sql.text(
        "-- In each table leases read, for example one with a column country:\n\
         -- ALTER TABLE sales.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n\
         -- CREATE POLICY lease_rows ON sales.customers USING (country IN (\n\
         --     SELECT value FROM countersign.lease_scope WHERE role_name = SESSION_USER AND key = 'country'));\n",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target() -> PostgresTarget {
        let text =
            "host = 'db'\ndatabase = 'shop'\nuser = 'countersign_broker'\npassword_file = '/p'";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn names_are_quoted_and_rows_only_when_used() {
        let scope = json!({"roles": ["orders_ro"]});
        let sql = preparation_sql(&target(), std::slice::from_ref(&scope)).unwrap();
        assert!(sql.contains("GRANT \"orders_ro\" TO \"countersign_broker\" WITH ADMIN TRUE"));
        assert!(!sql.contains("lease_scope"));
        let rows = json!({"roles": ["orders_ro"], "rows": {"country": "{country}"}});
        let sql = preparation_sql(&target(), &[scope, rows]).unwrap();
        assert_eq!(sql.matches("CREATE ROLE \"orders_ro\"").count(), 1);
        assert!(sql.contains("CREATE TABLE countersign.lease_scope"));
        assert!(preparation_sql(&target(), &[json!({"roles": [""]})]).is_err());
    }

    #[test]
    fn other_databases_and_open_names_are_not_forgotten() {
        let there = json!({"roles": ["orders_ro"], "database": "archive"});
        let open = json!({"roles": ["{role}"]});
        let sql = preparation_sql(&target(), &[there, open]).unwrap();
        assert!(sql.contains(
            "GRANT CONNECT ON DATABASE \"archive\" TO \"countersign_broker\", \"orders_ro\";"
        ));
        assert!(sql.contains("GRANT CONNECT ON DATABASE \"shop\" TO \"countersign_broker\";"));
        assert!(sql.contains("takes a role or the database as a parameter"));
        assert!(!sql.contains("placeholder"));
    }
}
