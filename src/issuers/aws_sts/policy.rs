//! Policy documents: built as structures, and read back by a reader that shares nothing with the writer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

/// A policy document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

/// A statement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    effect: Effect,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    action: OneOrMany,
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    resource: OneOrMany,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: Conditions,
}

/// Whether a statement allows or denies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// Whom a trust policy trusts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Principal {
    aws: String,
}

/// Operator, key, values.
pub(super) type Conditions = BTreeMap<String, BTreeMap<String, OneOrMany>>;

/// Texts; one of them is written without a list, as it is shorter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct OneOrMany(Vec<String>);

impl OneOrMany {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> FromIterator<T> for OneOrMany {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        Self(texts.into_iter().map(Into::into).collect())
    }
}

impl Serialize for OneOrMany {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl Statement {
    /// A statement about `actions` on `resources`.
    pub(super) fn new<A: Into<String>, R: Into<String>>(
        effect: Effect,
        actions: impl IntoIterator<Item = A>,
        resources: impl IntoIterator<Item = R>,
    ) -> Self {
        Self {
            effect,
            principal: None,
            action: actions.into_iter().collect(),
            resource: resources.into_iter().collect(),
            condition: Conditions::new(),
        }
    }

    /// Denies everything, once conditions are added.
    pub(super) fn deny_all() -> Self {
        Self::new(Effect::Deny, ["*"], ["*"])
    }

    /// The same, for one principal: a statement of a trust policy, which names no resource.
    pub(super) fn of_principal(mut self, principal: &str) -> Self {
        self.principal = Some(Principal {
            aws: principal.to_owned(),
        });
        self.resource = OneOrMany::default();
        self
    }

    /// The same, under one more condition.
    pub(super) fn when<T: Into<String>>(
        mut self,
        operator: &str,
        key: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        let keys = self.condition.entry(operator.to_owned()).or_default();
        keys.insert(key.to_owned(), values.into_iter().collect());
        self
    }
}

impl Policy {
    /// Of these statements.
    pub(super) fn new(statement: Vec<Statement>) -> Self {
        Self {
            version: "2012-10-17",
            statement,
        }
    }

    /// The document as it is sent. Read again first: what stands in the text is what was meant.
    ///
    /// # Errors
    /// When the text does not say what the structure says.
    pub(super) fn to_text(&self) -> Result<String, String> {
        let text = serde_json::to_string(self).map_err(|why| format!("write a policy: {why}"))?;
        if read(&text)? == self.meaning() {
            Ok(text)
        } else {
            Err("write a policy: the text does not say what was meant; report this".into())
        }
    }

    /// The document for people.
    pub(super) fn to_pretty(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What it says, in the reader's terms.
    pub(super) fn meaning(&self) -> Vec<Meaning> {
        let set = |texts: &OneOrMany| texts.0.iter().cloned().collect();
        let statements = self.statement.iter();
        statements
            .map(|statement| Meaning {
                allows: statement.effect == Effect::Allow,
                principals: statement.principal.iter().map(|p| p.aws.clone()).collect(),
                actions: set(&statement.action),
                resources: set(&statement.resource),
                conditions: statement
                    .condition
                    .iter()
                    .flat_map(|(operator, keys)| {
                        keys.iter().map(move |(key, values)| {
                            ((operator.clone(), key.clone()), set(values))
                        })
                    })
                    .collect(),
            })
            .collect()
    }
}

/// What a statement says, whoever wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meaning {
    pub(super) allows: bool,
    pub(super) principals: BTreeSet<String>,
    pub(super) actions: BTreeSet<String>,
    pub(super) resources: BTreeSet<String>,
    /// Values by operator and key.
    pub(super) conditions: BTreeMap<(String, String), BTreeSet<String>>,
}

/// Reads a document: the reader's own walk over the JSON, with nothing of the writer's types.
pub(super) fn read(text: &str) -> Result<Vec<Meaning>, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|why| format!("read a policy: {why}"))?;
    let fields = document.as_object().ok_or("read a policy: not an object")?;
    for field in fields.keys() {
        if !["Version", "Id", "Statement"].contains(&field.as_str()) {
            return Err(format!("read a policy: unknown field {field:?}"));
        }
    }
    if fields.get("Version").and_then(Value::as_str) != Some("2012-10-17") {
        return Err("read a policy: it is not of version 2012-10-17".into());
    }
    match fields.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().map(read_statement).collect(),
        Some(one @ Value::Object(_)) => Ok(vec![read_statement(one)?]),
        _ => Err("read a policy: it has no statements".into()),
    }
}

fn read_statement(statement: &Value) -> Result<Meaning, String> {
    let wrong = |what: &str| format!("read a policy: {what}");
    let fields = statement
        .as_object()
        .ok_or_else(|| wrong("a statement is no object"))?;
    let mut meaning = Meaning {
        allows: false,
        principals: BTreeSet::new(),
        actions: BTreeSet::new(),
        resources: BTreeSet::new(),
        conditions: BTreeMap::new(),
    };
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("Sid", Value::String(_)) => {}
            ("Effect", Value::String(effect)) if effect == "Allow" => meaning.allows = true,
            ("Effect", Value::String(effect)) if effect == "Deny" => {}
            ("Action", value) => meaning.actions = texts(value)?,
            ("Resource", value) => meaning.resources = texts(value)?,
            ("Principal", Value::Object(who)) if who.len() == 1 => {
                let who = who
                    .get("AWS")
                    .ok_or_else(|| wrong("a principal is not AWS"))?;
                meaning.principals = texts(who)?;
            }
            ("Condition", Value::Object(operators)) => {
                for (operator, keys) in operators {
                    let keys = keys
                        .as_object()
                        .ok_or_else(|| wrong("a condition is no object"))?;
                    for (key, values) in keys {
                        let place = (operator.clone(), key.clone());
                        meaning.conditions.insert(place, texts(values)?);
                    }
                }
            }
            (field, _) => return Err(wrong(&format!("field {field:?} is not understood"))),
        }
    }
    if !fields.contains_key("Effect") || meaning.actions.is_empty() {
        return Err(wrong("a statement has no effect or no action"));
    }
    Ok(meaning)
}

fn texts(value: &Value) -> Result<BTreeSet<String>, String> {
    let text = |value: &Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| "read a policy: a value is not a text".to_owned())
    };
    match value {
        Value::Array(many) => many.iter().map(text).collect(),
        one => Ok(BTreeSet::from([text(one)?])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_086_what_cannot_be_read_exactly_is_not_read() {
        for wrong in [
            r#"[]"#,
            r#"{"Version":"2008-10-17","Statement":[]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Action":"*","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":1}]}"#,
            r#"{"Version":"2012-10-17","Statement":[],"More":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Whatever a value holds, it stays a value.
        #[test]
        fn case_086_no_value_becomes_structure(action in any::<String>(), resource in any::<String>(), value in any::<String>()) {
            let statement = Statement::new(Effect::Allow, [&action], [&resource]).when("StringEquals", "k", [&value]);
            let text = Policy::new(vec![statement]).to_text().unwrap();
            let read = read(&text).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].actions, &BTreeSet::from([action]));
            prop_assert_eq!(&read[0].resources, &BTreeSet::from([resource]));
        }
    }
}
