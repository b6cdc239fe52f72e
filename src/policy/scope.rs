//! Scope templates: structures whose leaves may be a whole `{parameter}`, nothing spliced, no wildcards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::DeValue;

use super::fields::{json, show};
use super::mistake::{Findings, Source, closest};
use crate::domain::action::placeholder;
use crate::domain::{Action, ParameterKind, Targets};

/// Deepest nesting of a scope.
const DEEPEST: usize = 16;
/// Texts that stand for more than themselves in one target language or another.
const WILDCARDS: [&str; 4] = ["*", "?", "%", "${"];

/// Reads a template and checks each leaf on its own.
pub(super) fn read(
    source: Source<'_>,
    value: &Spanned<DeValue<'_>>,
    parameters: &BTreeMap<String, ParameterKind>,
    findings: &mut Findings,
) -> Option<Value> {
    if value
        .get_ref()
        .as_table()
        .is_none_or(|table| table.is_empty())
    {
        let message = "`scope` is not a table with something in it";
        let instead = "scope = { roles = [\"a_role\"] }, in the words of the target";
        findings.mistake(source, value.span().start, message, instead);
        return None;
    }
    let template = match json(value, DEEPEST) {
        Ok(template) => template,
        Err(at) => {
            let message = "a scope holds texts, whole numbers, true, false, lists and tables only";
            let instead = format!("one of these, nested at most {DEEPEST} deep");
            findings.mistake(source, at, message, instead);
            return None;
        }
    };
    let mut leaves = Leaves {
        source,
        parameters,
        used: BTreeSet::new(),
        sound: true,
    };
    leaves.walk(value, findings);
    leaves.warn_of_unused(value.span().start, findings);
    leaves.sound.then_some(template)
}

struct Leaves<'a> {
    source: Source<'a>,
    parameters: &'a BTreeMap<String, ParameterKind>,
    used: BTreeSet<String>,
    sound: bool,
}

impl Leaves<'_> {
    fn walk(&mut self, value: &Spanned<DeValue<'_>>, findings: &mut Findings) {
        match value.get_ref() {
            DeValue::String(text) => self.leaf(text, value.span().start, findings),
            DeValue::Array(items) => items.iter().for_each(|item| self.walk(item, findings)),
            DeValue::Table(table) => {
                for (key, item) in table {
                    if key.get_ref().contains(['{', '}']) {
                        let message = format!("`{}` is a key, not a leaf", show(key.get_ref()));
                        let instead = "placeholders as whole values only: country = \"{country}\"";
                        self.refuse(key.span().start, message, instead, findings);
                    }
                    self.walk(item, findings);
                }
            }
            _ => {}
        }
    }

    fn leaf(&mut self, text: &str, at: usize, findings: &mut Findings) {
        if let Some(name) = placeholder(text) {
            match self.parameters.get(name) {
                Some(kind) => {
                    self.used.insert(name.to_owned());
                    self.check_values(name, kind, at, findings);
                }
                None => {
                    let known = self.parameters.keys().map(String::as_str);
                    let instead = closest(name, known).map_or_else(
                        || format!("a parameter that is declared: parameters.{name}"),
                        |name| format!("\"{{{name}}}\""),
                    );
                    let message = format!("there is no parameter {name}");
                    self.refuse(at, message, &instead, findings);
                }
            }
        } else if WILDCARDS.iter().any(|wildcard| text.contains(wildcard)) {
            let message = format!(
                "\"{}\" has a wildcard; a scope names things exactly",
                show(text)
            );
            let instead = "each thing by its whole name";
            self.refuse(at, message, instead, findings);
        } else if text.contains(['{', '}']) {
            let message = format!(
                "\"{}\" splices a parameter into text, which could change what it means",
                show(text)
            );
            let instead = "the parameter alone, as \"{name}\", or a choice of whole values";
            self.refuse(at, message, instead, findings);
        }
    }

    fn check_values(
        &mut self,
        name: &str,
        kind: &ParameterKind,
        at: usize,
        findings: &mut Findings,
    ) {
        match kind {
            ParameterKind::Choice { values } => {
                let wild = |value: &&String| WILDCARDS.iter().any(|w| value.contains(w));
                if let Some(value) = values.iter().find(wild) {
                    let message =
                        format!("{name} can be \"{}\", which has a wildcard", show(value));
                    self.refuse(at, message, "values that name things exactly", findings);
                }
            }
            ParameterKind::Text { .. } => {
                let wild = |text: &str| kind.accepts(&Value::from(text));
                if ["*", "%", "?", "a*", "a%", "a?"]
                    .iter()
                    .any(|text| wild(text))
                {
                    let message = format!("the pattern of {name} lets wildcards into the scope");
                    let instead = "a pattern that lists what is allowed, such as '[a-z0-9_-]+'";
                    self.refuse(at, message, instead, findings);
                }
            }
            ParameterKind::Integer { .. } | ParameterKind::Boolean => {}
        }
    }

    fn warn_of_unused(&self, at: usize, findings: &mut Findings) {
        for name in self
            .parameters
            .keys()
            .filter(|name| !self.used.contains(*name))
        {
            findings.warning(
                self.source,
                at,
                format!(
                    "parameter {name} does not limit the credential: no leaf of the scope uses it"
                ),
                format!("\"{{{name}}}\" where it limits something, if it should"),
            );
        }
    }

    fn refuse(&mut self, at: usize, message: String, instead: &str, findings: &mut Findings) {
        self.sound = false;
        findings.mistake(self.source, at, message, instead);
    }
}

/// Asks the target about the template and about what it becomes with sample values, one parameter varied at a time.
pub(super) fn check_at_target(
    source: Source<'_>,
    at: usize,
    action: &Action,
    targets: &dyn Targets,
    findings: &mut Findings,
) {
    let first: Map<String, Value> = action
        .parameters
        .iter()
        .filter_map(|(name, kind)| Some((name.clone(), samples(kind).into_iter().next()?)))
        .collect();
    let mut scopes = vec![action.scope.clone(), action.render_scope(&first)];
    for (name, kind) in &action.parameters {
        for value in samples(kind).into_iter().skip(1) {
            let mut given = first.clone();
            given.insert(name.clone(), value);
            scopes.push(action.render_scope(&given));
        }
    }
    scopes.dedup();
    if let Some(problem) = scopes
        .iter()
        .find_map(|scope| targets.check_scope(&action.target, scope).err())
    {
        let message = format!("target {} refuses this scope: {problem}", action.target);
        let instead = "a scope the target accepts";
        findings.mistake(source, at, message, instead);
    }
}

/// Values worth trying; none for text, whose placeholder then stands for itself.
fn samples(kind: &ParameterKind) -> Vec<Value> {
    match kind {
        ParameterKind::Text { .. } => Vec::new(),
        ParameterKind::Choice { values } => values.iter().cloned().map(Value::from).collect(),
        ParameterKind::Integer { min, max } => vec![Value::from(*min), Value::from(*max)],
        ParameterKind::Boolean => vec![Value::from(false), Value::from(true)],
    }
}
