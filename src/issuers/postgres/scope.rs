//! What a PostgreSQL credential may do: group roles or an owner to act as, rows, limits. Unknown fields are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::sql::Ident;
use crate::config::PostgresTarget;
use crate::issuers::is_placeholder;

const MOST_ROLES: usize = 16;
const MOST_ROWS: usize = 32;
const MOST_UNBOUND: usize = 64;
const LONGEST_VALUE: usize = 256;
const MOST_SECONDS: i64 = 3600;
/// The fields that are a limit: name, default, most.
const LIMITS: [(&str, i64, i64); 4] = [
    ("connection_limit", 3, 10),
    ("statement_timeout_seconds", 60, MOST_SECONDS),
    ("idle_in_transaction_seconds", 600, MOST_SECONDS),
    ("idle_session_seconds", 600, MOST_SECONDS),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default, rename = "as")]
    acting: Option<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    rows: BTreeMap<String, Value>,
    #[serde(default)]
    unbound: Vec<String>,
    #[serde(default)]
    connection_limit: Option<Value>,
    #[serde(default)]
    statement_timeout_seconds: Option<Value>,
    #[serde(default)]
    idle_in_transaction_seconds: Option<Value>,
    #[serde(default)]
    idle_session_seconds: Option<Value>,
}

/// A scope with nothing left to fill in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Group roles the credential is a member of.
    pub roles: Vec<Ident>,
    /// The owner role its sessions act as, so that what they make belongs to that role and stays.
    pub acting: Option<Ident>,
    /// The database it is for.
    pub database: Ident,
    /// Facts row level security policies read from the table `lease_scope`.
    pub rows: BTreeMap<String, String>,
    /// Tables, views and functions, each `schema.name`, that are read whole although there are rows.
    pub unbound: Vec<String>,
    /// Most connections at a time.
    pub connection_limit: i64,
    /// Default `statement_timeout`.
    pub statement_timeout_seconds: i64,
    /// Default `idle_in_transaction_session_timeout`.
    pub idle_in_transaction_seconds: i64,
    /// Default `idle_session_timeout`.
    pub idle_session_seconds: i64,
}

impl Scope {
    /// The scope as it is written.
    pub fn to_value(&self) -> Value {
        let roles: Vec<_> = self.roles.iter().map(Ident::as_str).collect();
        let mut value = serde_json::json!({
            "roles": roles,
            "database": self.database.as_str(),
            "rows": self.rows,
            "unbound": self.unbound,
            "connection_limit": self.connection_limit,
            "statement_timeout_seconds": self.statement_timeout_seconds,
            "idle_in_transaction_seconds": self.idle_in_transaction_seconds,
            "idle_session_seconds": self.idle_session_seconds,
        });
        if let (Some(acting), Some(fields)) = (&self.acting, value.as_object_mut()) {
            fields.insert("as".into(), acting.as_str().into());
        }
        value
    }

    /// Every role it names.
    pub fn named(&self) -> impl Iterator<Item = &Ident> {
        self.roles.iter().chain(&self.acting)
    }
}

/// Names a scope may never grant, and the database it is for when it names none.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The target's database.
    pub database: String,
    /// The broker's role.
    pub broker: String,
    /// The schema of our functions, which the names of our roles begin with.
    pub procedures: String,
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

fn limit(limit: (&str, i64, i64), value: Option<&Value>) -> Result<i64, String> {
    let (what, default, most) = limit;
    let number = value.map_or(Some(default), Value::as_i64);
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("`{what}` must be a whole number from 1 to {most}"))
}

/// `schema.name`, as the server has it.
fn relation(text: &str) -> Result<String, String> {
    let wrong = || format!("`unbound` {text:?} must be a table, view or function as schema.name");
    let (schema, relation) = text.split_once('.').ok_or_else(wrong)?;
    name("unbound", schema)?;
    name("unbound", relation)?;
    Ok(text.to_owned())
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

fn check_counts(written: &Written) -> Result<(), String> {
    if written.roles.is_empty() && written.acting.is_none() {
        return Err("`roles` must list a group role, unless `as` names an owner role".into());
    }
    if written.roles.len() > MOST_ROLES {
        return Err(format!(
            "`roles` must list at most {MOST_ROLES} group roles"
        ));
    }
    let distinct: BTreeSet<_> = written.roles.iter().chain(&written.acting).collect();
    if distinct.len() != written.roles.len() + usize::from(written.acting.is_some()) {
        return Err("`roles` and `as` list a role twice: name each once".into());
    }
    if written.rows.len() > MOST_ROWS {
        return Err(format!("`rows` must have at most {MOST_ROWS} keys"));
    }
    if written.unbound.len() > MOST_UNBOUND {
        return Err(format!(
            "`unbound` must have at most {MOST_UNBOUND} names: bind what can be bound"
        ));
    }
    if written.rows.is_empty() && !written.unbound.is_empty() {
        return Err("`unbound` means something beside `rows` only: leave it out".into());
    }
    Ok(())
}

impl Surroundings {
    /// Those of `target`.
    pub fn of(target: &PostgresTarget) -> Self {
        Self {
            database: target.database.clone(),
            broker: target.user.clone(),
            procedures: target.procedures.clone(),
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
                ("as", value) if value.as_str().is_some_and(is_placeholder) => {
                    *value = Value::String("placeholder_as".into());
                }
                (field, value)
                    if LIMITS.iter().any(|(limit, ..)| *limit == field)
                        && value.as_str().is_some_and(is_placeholder) =>
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
        let either = |field| scope.get(field).is_some_and(open);
        roles.is_some_and(|roles| roles.iter().any(open)) || either("as") || either("database")
    }

    fn read_any(&self, scope: &Value) -> Result<Scope, String> {
        let written: Written = serde_json::from_value(scope.clone()).map_err(|why| {
            let limits: Vec<_> = LIMITS.iter().map(|(name, ..)| format!("{name}?")).collect();
            format!(
                "scope: {why}; a PostgreSQL scope is {{roles = [..] or as, database?, rows?, unbound?, {}}}",
                limits.join(", ")
            )
        })?;
        check_counts(&written)?;
        let role = |text: &String| self.role(text);
        let row = |(key, value): (&String, &Value)| Ok((key.clone(), row(key, value)?));
        let [connections, statement, in_transaction, session] = LIMITS;
        Ok(Scope {
            roles: written.roles.iter().map(role).collect::<Result<_, _>>()?,
            acting: written.acting.as_ref().map(role).transpose()?,
            database: name(
                "database",
                written.database.as_deref().unwrap_or(&self.database),
            )?,
            rows: written
                .rows
                .iter()
                .map(row)
                .collect::<Result<_, String>>()?,
            unbound: written
                .unbound
                .iter()
                .map(|text| relation(text))
                .collect::<Result<_, _>>()?,
            connection_limit: limit(connections, written.connection_limit.as_ref())?,
            statement_timeout_seconds: limit(
                statement,
                written.statement_timeout_seconds.as_ref(),
            )?,
            idle_in_transaction_seconds: limit(
                in_transaction,
                written.idle_in_transaction_seconds.as_ref(),
            )?,
            idle_session_seconds: limit(session, written.idle_session_seconds.as_ref())?,
        })
    }

    fn role(&self, text: &str) -> Result<Ident, String> {
        if text.starts_with("pg_") || text.starts_with("jit_") {
            return Err(format!(
                "role {text:?} may not be granted: name a group role the DBA made for this purpose"
            ));
        }
        if text == self.broker || self.is_ours(text) {
            return Err(format!(
                "role {text:?} is the broker's own: name a group role the DBA made for this purpose"
            ));
        }
        name("role", text)
    }

    /// Whether `role` is one of those the functions work with.
    fn is_ours(&self, role: &str) -> bool {
        let rest = role.strip_prefix(&self.procedures).unwrap_or_default();
        ["_granter", "_keeper"].contains(&rest) || rest.starts_with("_minter_")
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
            procedures: "countersign".into(),
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
        assert_eq!(
            (
                scope.idle_in_transaction_seconds,
                scope.idle_session_seconds
            ),
            (600, 600)
        );
        let rows: Vec<_> = scope.rows.values().map(String::as_str).collect();
        assert_eq!(rows, ["de", "7", "true"]);
    }

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        for written in [
            json!({"as": "shop_owner"}),
            json!({"roles": ["orders_ro"], "rows": {"country": "de"}, "unbound": ["sales.countries"]}),
        ] {
            let scope = around().read(&written).unwrap();
            assert_eq!(around().read(&scope.to_value()), Ok(scope));
        }
        let acting = around().read(&json!({"as": "shop_owner"})).unwrap();
        let named: Vec<_> = acting.named().map(Ident::as_str).collect();
        assert_eq!(named, ["shop_owner"]);
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
            json!({"roles": ["countersign_granter"]}),
            json!({"roles": ["countersign_minter_007"]}),
            json!({"as": "countersign_keeper"}),
            json!({"as": "pg_database_owner"}),
            json!({"as": "a", "roles": ["a"]}),
            json!({"roles": ["a"], "unbound": ["sales.countries"]}),
            json!({"roles": ["a"], "rows": {"country": "de"}, "unbound": ["countries"]}),
            json!({"roles": ["a"], "rows": {"country": "de"}, "unbound": ["sales.*"]}),
            json!({"roles": ["a"], "idle_session_seconds": 0}),
            json!({"roles": ["a"], "idle_in_transaction_seconds": 3601}),
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
        assert!(around().names_open(&json!({"as": "{role}"})));
        around().check(&json!({"as": "{role}"})).unwrap();
        assert!(around().check(&json!({"roles": ["a_{role}"]})).is_err());
    }
}
