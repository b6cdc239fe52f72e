//! What a PostgreSQL credential may do: group roles, rows, limits. Unknown fields are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::sql::Ident;
use crate::config::PostgresTarget;
use crate::issuers::is_placeholder;

const MOST_ROLES: usize = 16;
const MOST_ROWS: usize = 32;
const LONGEST_VALUE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    roles: Vec<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    rows: BTreeMap<String, Value>,
    #[serde(default)]
    connection_limit: Option<Value>,
    #[serde(default)]
    statement_timeout_seconds: Option<Value>,
}

/// A scope with nothing left to fill in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Group roles the credential is a member of.
    pub roles: Vec<Ident>,
    /// The database it is for.
    pub database: Ident,
    /// Facts row level security policies read from `countersign.lease_scope`.
    pub rows: BTreeMap<String, String>,
    /// Most connections at a time.
    pub connection_limit: i64,
    /// Default `statement_timeout`.
    pub statement_timeout_seconds: i64,
}

impl Scope {
    /// The scope as it is written.
    pub fn to_value(&self) -> Value {
        let roles: Vec<_> = self.roles.iter().map(Ident::as_str).collect();
        serde_json::json!({
            "roles": roles,
            "database": self.database.as_str(),
            "rows": self.rows,
            "connection_limit": self.connection_limit,
            "statement_timeout_seconds": self.statement_timeout_seconds,
        })
    }
}

/// Names a scope may never grant, and the database it is for when it names none.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The target's database.
    pub database: String,
    /// The broker's role.
    pub broker: String,
    /// The role that owns what agents leave behind.
    pub quarantine: String,
}

fn name(what: &str, text: &str) -> Result<Ident, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.$-".contains(&b);
    if !text.bytes().all(plain) {
        return Err(format!(
            "{what} {text:?} is not plain: use letters, digits and _ . $ - (no wildcards)"
        ));
    }
    Ident::new(text).map_err(|why| format!("{what}: {why}"))
}

fn bounded(what: &str, value: Option<&Value>, default: i64, most: i64) -> Result<i64, String> {
    let number = value.map_or(Some(default), Value::as_i64);
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("`{what}` must be a whole number from 1 to {most}"))
}

fn row(key: &str, value: &Value) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if key.is_empty() || key.len() > 63 || !key.bytes().all(plain) {
        return Err(format!("`rows` key {key:?} must be 1 to 63 of a-z 0-9 _"));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => {
            return Err(format!(
                "`rows.{key}` must be a text, a whole number or true/false"
            ));
        }
    };
    let wild = text.contains(['*', '%']);
    if text.is_empty() || text.len() > LONGEST_VALUE || text.chars().any(char::is_control) || wild {
        return Err(format!(
            "`rows.{key}` must be one value of 1 to {LONGEST_VALUE} bytes without control characters or the wildcards * and %"
        ));
    }
    Ok(text)
}

fn refuse_placeholders(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if is_placeholder(text) => Err(format!(
            "{text} was never filled in: render the scope first"
        )),
        Value::Array(items) => items.iter().try_for_each(refuse_placeholders),
        Value::Object(fields) => fields.values().try_for_each(refuse_placeholders),
        _ => Ok(()),
    }
}

impl Surroundings {
    /// Those of `target`.
    pub fn of(target: &PostgresTarget) -> Self {
        Self {
            database: target.database.clone(),
            broker: target.user.clone(),
            quarantine: target.quarantine_role.clone(),
        }
    }

    /// Reads a rendered scope.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn read(&self, scope: &Value) -> Result<Scope, String> {
        refuse_placeholders(scope)?;
        self.read_any(scope)
    }

    /// Checks a scope, rendered or with placeholders.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn check(&self, scope: &Value) -> Result<(), String> {
        self.read_any(&self.filled(scope)).map(|_| ())
    }

    /// The scope with something harmless in the place of each placeholder; where the placeholder stands for a role or
    /// the database, the result is good for checking only.
    pub fn filled(&self, scope: &Value) -> Value {
        let mut filled = scope.clone();
        let Some(fields) = filled.as_object_mut() else {
            return filled;
        };
        for (field, value) in fields.iter_mut() {
            match (field.as_str(), value) {
                ("roles", Value::Array(roles)) => {
                    for (index, role) in roles.iter_mut().enumerate() {
                        if role.as_str().is_some_and(is_placeholder) {
                            *role = Value::String(format!("placeholder_{index}"));
                        }
                    }
                }
                ("database", value) if value.as_str().is_some_and(is_placeholder) => {
                    *value = Value::String(self.database.clone());
                }
                ("rows", Value::Object(rows)) => {
                    for value in rows.values_mut() {
                        if value.as_str().is_some_and(is_placeholder) {
                            *value = Value::String("rehearsal".into());
                        }
                    }
                }
                ("connection_limit" | "statement_timeout_seconds", value)
                    if value.as_str().is_some_and(is_placeholder) =>
                {
                    *value = Value::from(1);
                }
                _ => {}
            }
        }
        filled
    }

    /// Whether a placeholder stands where a role or the database is named, so that no probe can be made.
    pub fn names_open(&self, scope: &Value) -> bool {
        let open = |value: &Value| value.as_str().is_some_and(is_placeholder);
        let roles = scope.get("roles").and_then(Value::as_array);
        roles.is_some_and(|roles| roles.iter().any(open)) || scope.get("database").is_some_and(open)
    }

    fn read_any(&self, scope: &Value) -> Result<Scope, String> {
        let written: Written = serde_json::from_value(scope.clone()).map_err(|why| {
            format!(
                "scope: {why}; a PostgreSQL scope is {{roles = [..], database?, rows?, connection_limit?, statement_timeout_seconds?}}"
            )
        })?;
        if written.roles.is_empty() || written.roles.len() > MOST_ROLES {
            return Err(format!("`roles` must list 1 to {MOST_ROLES} group roles"));
        }
        let distinct: BTreeSet<_> = written.roles.iter().collect();
        if distinct.len() != written.roles.len() {
            return Err("`roles` lists a role twice: name each once".into());
        }
        if written.rows.len() > MOST_ROWS {
            return Err(format!("`rows` must have at most {MOST_ROWS} keys"));
        }
        let role = |text: &String| self.role(text);
        let row = |(key, value): (&String, &Value)| Ok((key.clone(), row(key, value)?));
        Ok(Scope {
            roles: written.roles.iter().map(role).collect::<Result<_, _>>()?,
            database: name(
                "database",
                written.database.as_deref().unwrap_or(&self.database),
            )?,
            rows: written
                .rows
                .iter()
                .map(row)
                .collect::<Result<_, String>>()?,
            connection_limit: bounded(
                "connection_limit",
                written.connection_limit.as_ref(),
                3,
                10,
            )?,
            statement_timeout_seconds: bounded(
                "statement_timeout_seconds",
                written.statement_timeout_seconds.as_ref(),
                60,
                3600,
            )?,
        })
    }

    fn role(&self, text: &str) -> Result<Ident, String> {
        if text.starts_with("pg_") || text.starts_with("jit_") {
            return Err(format!(
                "role {text:?} may not be granted: name a group role the DBA made for this purpose"
            ));
        }
        if text == self.broker || text == self.quarantine {
            return Err(format!(
                "role {text:?} is the broker's own: name a group role the DBA made for this purpose"
            ));
        }
        name("role", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn around() -> Surroundings {
        Surroundings {
            database: "shop".into(),
            broker: "countersign_broker".into(),
            quarantine: "countersign_orphans".into(),
        }
    }

    #[test]
    fn a_scope_has_defaults_and_plain_values() {
        let scope = around()
            .read(&json!({"roles": ["orders_ro"], "rows": {"country": "de", "tenant": 7, "vip": true}}))
            .unwrap();
        assert_eq!(scope.database.as_str(), "shop");
        assert_eq!(
            (scope.connection_limit, scope.statement_timeout_seconds),
            (3, 60)
        );
        let rows: Vec<_> = scope.rows.values().map(String::as_str).collect();
        assert_eq!(rows, ["de", "7", "true"]);
    }

    #[test]
    fn case_115_what_is_not_plain_is_refused() {
        for wrong in [
            json!({"roles": []}),
            json!({"roles": ["a", "a"]}),
            json!({"roles": ["a; DROP ROLE b"]}),
            json!({"roles": ["*"]}),
            json!({"roles": ["pg_read_all_data"]}),
            json!({"roles": ["countersign_broker"]}),
            json!({"roles": ["countersign_orphans"]}),
            json!({"roles": ["jit_other"]}),
            json!({"roles": ["a"], "database": "x y"}),
            json!({"roles": ["a"], "rows": {"Country": "de"}}),
            json!({"roles": ["a"], "rows": {"country": "*"}}),
            json!({"roles": ["a"], "rows": {"country": ["de"]}}),
            json!({"roles": ["a"], "rows": {"country": 1.5}}),
            json!({"roles": ["a"], "connection_limit": 0}),
            json!({"roles": ["a"], "connection_limit": -1}),
            json!({"roles": ["a"], "statement_timeout_seconds": 3601}),
            json!({"roles": ["a"], "superuser": true}),
            json!("a"),
        ] {
            assert!(around().check(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn templates_are_checked_and_never_minted() {
        let template = json!({"roles": ["customers_limited"], "rows": {"country": "{country}"}, "connection_limit": "{n}"});
        around().check(&template).unwrap();
        assert!(around().read(&template).is_err());
        assert!(!around().names_open(&template));
        assert!(around().names_open(&json!({"roles": ["{role}"]})));
        assert!(around().check(&json!({"roles": ["a_{role}"]})).is_err());
    }
}
