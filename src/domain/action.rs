//! Named actions: what the catalog says an agent may ask for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, PoisonError, RwLock};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{ActionName, Digest, GroupName, TargetName};
use super::time::Seconds;

/// One action of the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its name, such as `customers.export`.
    pub name: ActionName,
    /// A short title for people.
    pub title: String,
    /// What it does and what for, in a sentence or two.
    pub description: String,
    /// Where its credential is minted.
    pub target: TargetName,
    /// Typed parameters by name.
    pub parameters: BTreeMap<String, ParameterKind>,
    /// What the credential may do: a JSON structure; a leaf that is exactly `{name}` stands for that parameter.
    pub scope: Value,
    /// How long the credential lives.
    pub ttl: TtlRule,
    /// Who must review it when policy does not call it routine.
    pub review: ReviewRule,
    /// How long an approved request may wait to be collected.
    pub collect_window: Seconds,
}

/// The type of a parameter. Values are checked, never spliced into text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ParameterKind {
    /// Text that matches an anchored pattern (linear-time regular expression).
    Text {
        /// The whole value must match this.
        pattern: String,
        /// Longest value, in characters.
        max_length: usize,
    },
    /// One of a few texts.
    Choice {
        /// The allowed values.
        values: Vec<String>,
    },
    /// A whole number within bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// True or false.
    Boolean,
}

/// How long a credential lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtlRule {
    /// When the agent does not say.
    pub default: Seconds,
    /// The longest that can be asked for.
    pub longest: Seconds,
}

/// Who must review, and for how long a request waits for them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewRule {
    /// How many distinct people from each group. A person counts for one group only.
    pub groups: BTreeMap<GroupName, u32>,
    /// How long a request waits for its reviewers.
    pub expires: Seconds,
    /// Whether the reviewers' eligibility is checked again when the credential is collected.
    pub recheck_at_collect: bool,
}

/// Why given parameters do not fit the action.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("parameter {name}: {problem}")]
pub struct ParameterMistake {
    /// The parameter.
    pub name: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Action {
    /// The hash of the whole definition; part of what reviewers approve.
    pub fn definition(&self) -> Digest {
        Digest::of_canonical(self)
    }

    /// Checks `given` against the declared parameters. All are required, none may be extra.
    ///
    /// # Errors
    /// One mistake for each parameter that does not fit.
    pub fn check_parameters(
        &self,
        given: &Map<String, Value>,
    ) -> Result<(), Vec<ParameterMistake>> {
        let mut mistakes = Vec::new();
        let mut mistake = |name: &str, problem: String| {
            mistakes.push(ParameterMistake {
                name: name.into(),
                problem,
            });
        };
        for (name, kind) in &self.parameters {
            match given.get(name) {
                None => mistake(name, format!("is missing; give {}", kind.hint())),
                Some(value) if !kind.accepts(value) => {
                    mistake(name, format!("does not fit; give {}", kind.hint()));
                }
                Some(_) => {}
            }
        }
        for name in given
            .keys()
            .filter(|name| !self.parameters.contains_key(*name))
        {
            let name: String = name.chars().take(64).collect();
            let known: Vec<_> = self.parameters.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "it takes none".into()
            } else {
                known.join(", ")
            };
            mistake(
                &name,
                format!("is not a parameter of {}: {known}", self.name),
            );
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }

    /// The scope with every `{name}` leaf replaced by the value of that parameter.
    /// Parameters must have passed [`Action::check_parameters`].
    pub fn render_scope(&self, given: &Map<String, Value>) -> Value {
        fn render(template: &Value, given: &Map<String, Value>) -> Value {
            match template {
                Value::String(text) => match placeholder(text).and_then(|name| given.get(name)) {
                    Some(value) => value.clone(),
                    None => template.clone(),
                },
                Value::Array(items) => items.iter().map(|item| render(item, given)).collect(),
                Value::Object(map) => map
                    .iter()
                    .map(|(k, v)| (k.clone(), render(v, given)))
                    .collect(),
                other => other.clone(),
            }
        }
        render(&self.scope, given)
    }
}

/// The parameter a scope leaf stands for: `{name}` as a whole, nothing around it.
pub fn placeholder(leaf: &str) -> Option<&str> {
    leaf.strip_prefix('{')?
        .strip_suffix('}')
        .filter(|name| is_parameter_name(name))
}

/// Whether `name` can name a parameter: `[a-z][a-z0-9_]{0,39}`.
pub fn is_parameter_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 40
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl ParameterKind {
    /// Whether `value` has this type and keeps its bounds.
    pub fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (
                ParameterKind::Text {
                    pattern,
                    max_length,
                },
                Value::String(text),
            ) => {
                text.chars().count() <= *max_length
                    && !text.chars().any(char::is_control)
                    && matches(pattern, text)
            }
            (ParameterKind::Choice { values }, Value::String(text)) => values.contains(text),
            (ParameterKind::Integer { min, max }, Value::Number(number)) => {
                number.as_i64().is_some_and(|n| (*min..=*max).contains(&n))
            }
            (ParameterKind::Boolean, Value::Bool(_)) => true,
            _ => false,
        }
    }

    /// What to give, in words: "one of de, fr".
    pub fn hint(&self) -> String {
        match self {
            ParameterKind::Text {
                pattern,
                max_length,
            } => {
                format!("text of at most {max_length} characters matching {pattern}")
            }
            ParameterKind::Choice { values } => format!("one of {}", values.join(", ")),
            ParameterKind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            ParameterKind::Boolean => "true or false".into(),
        }
    }
}

/// Compiled patterns. They come from catalogs, so there are few; a pure function of the pattern, remembered.
static PATTERNS: LazyLock<RwLock<HashMap<String, Option<Regex>>>> = LazyLock::new(RwLock::default);
/// Patterns remembered at most.
const PATTERNS_MAX: usize = 4096;

/// Whether the whole of `text` matches `pattern`; nothing matches a pattern that is none.
fn matches(pattern: &str, text: &str) -> bool {
    let known = PATTERNS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(pattern) {
        return regex.as_ref().is_some_and(|regex| regex.is_match(text));
    }
    drop(known);
    let regex = Regex::new(&format!("^(?:{pattern})$")).ok();
    let fits = regex.as_ref().is_some_and(|regex| regex.is_match(text));
    let mut known = PATTERNS.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= PATTERNS_MAX {
        known.clear();
    }
    known.insert(pattern.to_owned(), regex);
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action() -> Action {
        serde_json::from_value(json!({
            "name": "customers.export", "title": "Export", "description": "Export customers",
            "target": "shop",
            "parameters": {
                "country": {"type": "choice", "values": ["de", "fr"]},
                "since": {"type": "text", "pattern": "[0-9]{4}-[0-9]{2}", "max_length": 7},
                "limit": {"type": "integer", "min": 1, "max": 10}
            },
            "scope": {"roles": ["r"], "rows": {"country": "{country}", "note": "x{country}"}},
            "ttl": {"default": 60, "longest": 300},
            "review": {"groups": {"support": 1}, "expires": 3600, "recheck_at_collect": false},
            "collect_window": 900
        }))
        .unwrap()
    }

    #[test]
    fn parameters_are_typed_complete_and_closed() {
        let given = json!({"country": "es", "since": "2026-01\n", "more": 1});
        let mistakes = action()
            .check_parameters(given.as_object().unwrap())
            .unwrap_err();
        let text: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "parameter country: does not fit; give one of de, fr",
                "parameter limit: is missing; give a whole number from 1 to 10",
                "parameter since: does not fit; give text of at most 7 characters matching [0-9]{4}-[0-9]{2}",
                "parameter more: is not a parameter of customers.export: country, limit, since",
            ]
        );
    }

    #[test]
    fn only_a_whole_leaf_is_a_placeholder() {
        let given = json!({"country": "de", "since": "2026-01", "limit": 3});
        let scope = action().render_scope(given.as_object().unwrap());
        assert_eq!(
            scope,
            json!({"roles": ["r"], "rows": {"country": "de", "note": "x{country}"}})
        );
    }

    #[test]
    fn the_definition_hash_covers_every_field() {
        let mut changed = action();
        changed.review.expires = Seconds(3601);
        assert_ne!(changed.definition(), action().definition());
    }
}
