//! What a MariaDB credential may do: privileges on tables and columns, limits. Unknown fields are refused.
//!
//! A list of grants is one procedure that the DBA has reviewed and made; a scope chooses among them and cannot change
//! them, so `grants` takes no parameters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sql::{Ident, Sql};
use crate::domain::{Digest, canonical};
use crate::issuers::is_placeholder;

const MOST_GRANTS: usize = 64;
const MOST_COLUMNS: usize = 256;
/// Databases of the server itself.
const NOT_FOR_LEASES: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    grants: Vec<WrittenGrant>,
    #[serde(default)]
    max_connections: Option<Value>,
    #[serde(default)]
    max_statement_seconds: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    privileges: Vec<Privilege>,
    table: String,
    #[serde(default)]
    columns: Option<Vec<String>>,
}

/// What may be done to rows. Nothing that makes or changes objects is among it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// Read.
    Select,
    /// Add.
    Insert,
    /// Change.
    Update,
    /// Remove.
    Delete,
}

impl Privilege {
    /// As SQL says it.
    pub fn word(self) -> &'static str {
        match self {
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
        }
    }
}

/// Privileges on one table, or on some of its columns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Grant {
    /// The table's database.
    pub database: Ident,
    /// The table.
    pub table: Ident,
    /// What may be done.
    pub privileges: BTreeSet<Privilege>,
    /// To these columns only; none means all.
    pub columns: BTreeSet<Ident>,
}

impl Grant {
    /// `GRANT SELECT (...) ON ...`, up to the account.
    pub fn statement(&self) -> Sql {
        let mut sql = Sql::new("GRANT ");
        for (index, privilege) in self.privileges.iter().enumerate() {
            sql = sql
                .text(if index == 0 { "" } else { ", " })
                .text(privilege.word());
            if !self.columns.is_empty() {
                sql = sql.text(" (").idents(&self.columns).text(")");
            }
        }
        sql.text(" ON ").path(&self.database, &self.table)
    }

    /// Whether rows may be added.
    pub fn inserts(&self) -> bool {
        self.privileges.contains(&Privilege::Insert)
    }

    /// In words.
    pub fn words(&self) -> String {
        let privileges: Vec<_> = self.privileges.iter().map(|one| one.word()).collect();
        let columns: Vec<_> = self.columns.iter().map(Ident::as_str).collect();
        let table = format!("{}.{}", self.database.as_str(), self.table.as_str());
        match columns.as_slice() {
            [] => format!("may {} in table {table}", privileges.join(", ")),
            columns => format!(
                "may {} the columns {} of table {table}",
                privileges.join(", "),
                columns.join(", ")
            ),
        }
    }

    /// The grant as it is written, one way for all that mean the same.
    fn to_value(&self) -> Value {
        let columns: Vec<_> = self.columns.iter().map(Ident::as_str).collect();
        let mut grant = json!({
            "privileges": self.privileges,
            "table": format!("{}.{}", self.database.as_str(), self.table.as_str()),
        });
        if let (Some(fields), false) = (grant.as_object_mut(), columns.is_empty()) {
            fields.insert("columns".into(), json!(columns));
        }
        grant
    }
}

/// A list of grants, each once and in order, so that lists that mean the same are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// Each grant.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// The name of the procedure that makes accounts with exactly these grants.
    ///
    /// # Errors
    /// Never: they can be written and the name is plain.
    pub fn procedure(&self) -> Result<Ident, String> {
        let written: Vec<_> = self.iter().map(Grant::to_value).collect();
        let text = canonical::to_vec(&written).map_err(|why| why.to_string())?;
        let digest = hex::encode(Digest::of(&text).0);
        let digits: String = digest.chars().take(12).collect();
        Ident::new(&format!("lease_create_{digits}"))
    }
}

/// A scope with nothing left to fill in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// What it may do.
    pub grants: Grants,
    /// Most connections at a time.
    pub max_connections: i64,
    /// Statements stop after so many seconds, unless the agent asks for longer in its session.
    pub max_statement_seconds: i64,
}

impl Scope {
    /// Reads a rendered scope for a target whose procedures are in the database `procedures`.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn read(scope: &Value, procedures: &Ident) -> Result<Self, String> {
        let written: Written = serde_json::from_value(scope.clone()).map_err(|why| {
            format!(
                "scope: {why}; a MariaDB scope is {{grants = [{{privileges = [..], table = \"database.table\", columns?}}, ..], max_connections?, max_statement_seconds?}}"
            )
        })?;
        if written.grants.is_empty() || written.grants.len() > MOST_GRANTS {
            return Err(format!("`grants` must list 1 to {MOST_GRANTS} grants"));
        }
        let grants = written.grants.iter().map(|grant| read(grant, procedures));
        Ok(Self {
            grants: Grants(grants.collect::<Result<_, _>>()?),
            max_connections: bounded("max_connections", &written.max_connections, 3, 10)?,
            max_statement_seconds: bounded(
                "max_statement_seconds",
                &written.max_statement_seconds,
                60,
                3600,
            )?,
        })
    }
}

impl Scope {
    /// The scope as it is written.
    pub fn to_value(&self) -> Value {
        let grants: Vec<_> = self.grants.iter().map(Grant::to_value).collect();
        json!({
            "grants": grants,
            "max_connections": self.max_connections,
            "max_statement_seconds": self.max_statement_seconds,
        })
    }
}

/// What a reviewer must know may outlive a lease with `grants`.
pub fn outlives(grants: &Grants) -> Vec<String> {
    let writes = |grant: &Grant| grant.privileges.iter().any(|one| *one != Privilege::Select);
    if !grants.iter().any(writes) {
        return Vec::new();
    }
    vec![
        "a transaction it prepares (XA) and leaves: any account may commit it; the lease is not over until your DBA ends that transaction".into(),
    ]
}

/// The scope with a number in the place of each placeholder for one.
pub fn filled(scope: &Value) -> Value {
    let mut filled = scope.clone();
    for field in ["max_connections", "max_statement_seconds"] {
        if let Some(value) = filled.get_mut(field)
            && value.as_str().is_some_and(is_placeholder)
        {
            *value = Value::from(1);
        }
    }
    filled
}

fn read(written: &WrittenGrant, procedures: &Ident) -> Result<Grant, String> {
    let privileges: BTreeSet<_> = written.privileges.iter().copied().collect();
    if privileges.is_empty() {
        return Err("`privileges` is empty: list select, insert, update or delete".into());
    }
    let name = |text: &str| {
        if text.contains(['{', '}']) {
            return Err(format!(
                "{text:?} in `grants`: what a lease may do is reviewed by the DBA, so no parameter may stand there; write one action for each table or column list"
            ));
        }
        Ident::new(text).map_err(|why| format!("`grants`: {why}"))
    };
    let (database, table) = written.table.split_once('.').ok_or_else(|| {
        format!(
            "table {:?} in `grants` names no database: write \"database.table\"",
            written.table
        )
    })?;
    let (database, table) = (name(database)?, name(table)?);
    let lower = database.as_str().to_ascii_lowercase();
    if NOT_FOR_LEASES.contains(&lower.as_str()) || lower == procedures.as_str().to_ascii_lowercase()
    {
        return Err(format!(
            "database {lower:?} may not be granted: name a table of your own"
        ));
    }
    let columns: BTreeSet<_> = match &written.columns {
        None => BTreeSet::new(),
        Some(columns) if columns.is_empty() || columns.len() > MOST_COLUMNS => {
            return Err(format!(
                "`columns` must list 1 to {MOST_COLUMNS} columns; leave it out to mean all"
            ));
        }
        Some(columns) => columns
            .iter()
            .map(|column| name(column))
            .collect::<Result<_, _>>()?,
    };
    if !columns.is_empty() && privileges.contains(&Privilege::Delete) {
        return Err("`delete` removes whole rows: grant it without `columns`".into());
    }
    Ok(Grant {
        database,
        table,
        privileges,
        columns,
    })
}

fn bounded(what: &str, value: &Option<Value>, default: i64, most: i64) -> Result<i64, String> {
    let number = value.as_ref().map_or(Some(default), Value::as_i64);
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("`{what}` must be a whole number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(scope: &Value) -> Result<Scope, String> {
        Scope::read(scope, &Ident::new("countersign").unwrap())
    }

    #[test]
    fn a_scope_has_defaults_and_its_order_does_not_matter() {
        let one = read(&json!({"grants": [
            {"privileges": ["select", "update"], "table": "shop.orders", "columns": ["status", "id"]},
            {"privileges": ["select"], "table": "shop.items"},
        ]}))
        .unwrap();
        assert_eq!((one.max_connections, one.max_statement_seconds), (3, 60));
        let other = read(&json!({"max_connections": 2, "grants": [
            {"privileges": ["select"], "table": "shop.items"},
            {"privileges": ["update", "select"], "table": "shop.orders", "columns": ["id", "status"]},
        ]}))
        .unwrap();
        assert_eq!(one.grants.procedure(), other.grants.procedure());
        let statements: Vec<_> = one
            .grants
            .iter()
            .map(|one| one.statement().to_string())
            .collect();
        assert_eq!(
            statements,
            [
                "GRANT SELECT ON `shop`.`items`",
                "GRANT SELECT (`id`, `status`), UPDATE (`id`, `status`) ON `shop`.`orders`"
            ]
        );
        let narrower =
            read(&json!({"grants": [{"privileges": ["select"], "table": "shop.items"}]}));
        assert_ne!(one.grants.procedure(), narrower.unwrap().grants.procedure());
    }

    #[test]
    fn case_115_what_is_not_plain_is_refused() {
        let grant = |table: &str| json!({"grants": [{"privileges": ["select"], "table": table}]});
        for wrong in [
            json!({"grants": []}),
            json!({}),
            json!("a"),
            grant("orders"),
            grant("shop.*"),
            grant("*.*"),
            grant("shop.or%ders"),
            grant("shop.orders TO root; --"),
            grant("shop.`orders`"),
            grant("shop.a.b"),
            grant("shop.{table}"),
            grant("mysql.global_priv"),
            grant("MySQL.user"),
            grant("countersign.x"),
            grant("Countersign.x"),
            json!({"grants": [{"privileges": [], "table": "shop.orders"}]}),
            json!({"grants": [{"privileges": ["all"], "table": "shop.orders"}]}),
            json!({"grants": [{"privileges": ["trigger"], "table": "shop.orders"}]}),
            json!({"grants": [{"privileges": ["delete"], "table": "shop.orders", "columns": ["id"]}]}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders", "columns": []}]}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders", "columns": ["{c}"]}]}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders", "with": 1}]}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders"}], "max_connections": 0}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders"}], "max_connections": 11}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders"}], "max_statement_seconds": "9"}),
            json!({"grants": [{"privileges": ["select"], "table": "shop.orders"}], "superuser": true}),
        ] {
            assert!(read(&filled(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_may_be_parameters_and_are_never_minted_unfilled() {
        let template = json!({
            "grants": [{"privileges": ["select"], "table": "shop.orders"}],
            "max_connections": "{n}",
        });
        assert!(read(&filled(&template)).is_ok());
        assert!(read(&template).is_err());
    }
}
