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
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    action: OneOrMany,
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    not_action: OneOrMany,
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    resource: OneOrMany,
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    not_resource: OneOrMany,
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
            sid: None,
            action: actions.into_iter().collect(),
            not_action: OneOrMany::default(),
            resource: resources.into_iter().collect(),
            not_resource: OneOrMany::default(),
            condition: Conditions::new(),
        }
    }

    /// Denies everything, once conditions are added.
    pub(super) fn deny_all() -> Self {
        Self::new(Effect::Deny, ["*"], ["*"])
    }

    /// Denies every action but these.
    pub(super) fn deny_other_actions<A: Into<String>>(
        actions: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            action: OneOrMany::default(),
            not_action: actions.into_iter().collect(),
            ..Self::deny_all()
        }
    }

    /// Denies these actions on every resource but these.
    pub(super) fn deny_other_resources<A: Into<String>, R: Into<String>>(
        actions: impl IntoIterator<Item = A>,
        resources: impl IntoIterator<Item = R>,
    ) -> Self {
        Self {
            not_resource: resources.into_iter().collect(),
            ..Self::new(Effect::Deny, actions, [""; 0])
        }
    }

    /// Whether it is about every action but some.
    #[cfg(test)]
    pub(super) fn denies_others(&self) -> bool {
        !self.not_action.is_empty()
    }

    /// The same, with a name: letters and digits.
    pub(super) fn called(mut self, sid: String) -> Self {
        self.sid = Some(sid);
        self
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
                sid: statement.sid.clone(),
                actions: set(&statement.action),
                other_actions: set(&statement.not_action),
                resources: set(&statement.resource),
                other_resources: set(&statement.not_resource),
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
    /// What it is called.
    pub(super) sid: Option<String>,
    pub(super) actions: BTreeSet<String>,
    /// It is about every action but these; only where it denies.
    pub(super) other_actions: BTreeSet<String>,
    pub(super) resources: BTreeSet<String>,
    /// It is about every resource but these; only where it denies.
    pub(super) other_resources: BTreeSet<String>,
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
        sid: None,
        actions: BTreeSet::new(),
        other_actions: BTreeSet::new(),
        resources: BTreeSet::new(),
        other_resources: BTreeSet::new(),
        conditions: BTreeMap::new(),
    };
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("Sid", Value::String(sid)) => meaning.sid = Some(sid.clone()),
            ("Effect", Value::String(effect)) if effect == "Allow" => meaning.allows = true,
            ("Effect", Value::String(effect)) if effect == "Deny" => {}
            ("Action", value) => meaning.actions = texts(value)?,
            ("NotAction", value) => meaning.other_actions = texts(value)?,
            ("Resource", value) => meaning.resources = texts(value)?,
            ("NotResource", value) => meaning.other_resources = texts(value)?,
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
    let one_of = |these: &BTreeSet<_>, others: &BTreeSet<_>| these.is_empty() != others.is_empty();
    if !fields.contains_key("Effect") || !one_of(&meaning.actions, &meaning.other_actions) {
        return Err(wrong("a statement has no effect or no action"));
    }
    if !meaning.other_resources.is_empty() && !meaning.resources.is_empty() {
        return Err(wrong("a statement has two kinds of resources"));
    }
    if meaning.allows && !(meaning.other_actions.is_empty() && meaning.other_resources.is_empty()) {
        return Err(wrong("a statement allows all but something"));
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
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","NotResource":"a"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"a","NotAction":"b","Resource":"*"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"a","Resource":"*","NotResource":"a"}]}"#,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Resource":"*"}]}"#,
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
