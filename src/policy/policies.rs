//! Reads the Cedar policies of a bundle: parsed one by one, validated strictly, obligations in annotations.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use super::duration;
use super::fields::show;
use super::mistake::{Findings, closest};
use super::statements::{DEEPEST, LONGEST, Statement, split};
use crate::domain::Seconds;

/// How far from the question a policy may look: attributes of principal, resource and context, no further.
/// What it cannot reach need not be there when it is asked.
const REACH: u32 = 1;

/// Annotations that mean something, or that only people read.
const ANNOTATIONS: [&str; 3] = ["id", "ttl", "description"];

const EXAMPLE: &str = "a policy such as: permit (principal == Agent::\"reporter\", \
                       action == Action::\"request:orders.report\", resource);";

/// A policy and where it was written.
pub(super) struct Written<'a> {
    pub(super) policy: Policy,
    pub(super) statement: Statement<'a>,
    pub(super) ttl: Option<Seconds>,
}

/// Reads the policies of one file into `written`.
pub(super) fn read<'a>(
    statements: impl IntoIterator<Item = Statement<'a>>,
    written: &mut BTreeMap<PolicyId, Written<'a>>,
    findings: &mut Findings,
) {
    for statement in statements {
        let Some(policy) = parse(statement, findings) else {
            continue;
        };
        for (key, _) in policy
            .annotations()
            .filter(|(key, _)| !ANNOTATIONS.contains(key))
        {
            let instead = closest(key, ANNOTATIONS).map_or_else(
                || "@id, @ttl or @description".into(),
                |key| format!("@{key}(\"…\")"),
            );
            let message = format!("the annotation @{} means nothing here", show(key));
            findings.mistake(statement.source, statement.offset, message, instead);
        }
        let ttl = ttl(&policy, statement, findings);
        let id = policy
            .annotation("id")
            .map_or_else(|| statement.place(), str::to_owned);
        if id.is_empty() || id.len() > 128 || id.chars().any(char::is_control) {
            let message = "a policy's @id is 1 to 128 characters without control characters";
            findings.mistake(
                statement.source,
                statement.offset,
                message,
                "@id(\"orders-routine\")",
            );
            continue;
        }
        let id = PolicyId::new(id);
        if let Some(first) = written.get(&id) {
            let message = format!(
                "two policies have the id {id}; the first in {}",
                first.statement.place()
            );
            findings.mistake(
                statement.source,
                statement.offset,
                message,
                "@id with another text",
            );
            continue;
        }
        let policy = policy.new_id(id.clone());
        written.insert(
            id,
            Written {
                policy,
                statement,
                ttl,
            },
        );
    }
}

/// The policies of a file, as written.
pub(super) fn statements(source: super::mistake::Source<'_>) -> Vec<Statement<'_>> {
    split(source)
}

fn parse(statement: Statement<'_>, findings: &mut Findings) -> Option<Policy> {
    if !statement.is_bearable() {
        let message = "this policy is too long or nested too deeply";
        let instead = format!(
            "several policies of at most {LONGEST} bytes, {DEEPEST} levels and {DEEPEST} ifs"
        );
        findings.mistake(statement.source, statement.offset, message, instead);
        return None;
    }
    let errors = match Policy::parse(None, statement.text) {
        Ok(policy) => return Some(policy),
        Err(errors) => errors,
    };
    for error in errors.iter() {
        let (offset, message, help) = told(error, statement);
        let message = format!("this is not a policy: {message}");
        findings.mistake(
            statement.source,
            offset,
            message,
            help.unwrap_or_else(|| EXAMPLE.into()),
        );
    }
    None
}

/// Where Cedar's diagnostic points, what it says and what it advises.
fn told(error: &dyn Diagnostic, statement: Statement<'_>) -> (usize, String, Option<String>) {
    let label = error.labels().and_then(|mut labels| labels.next());
    let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
    let on_one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut message = on_one_line(error.to_string());
    // Cedar begins with the policy's id; the place says that already.
    if let Some((_, rest)) = message
        .strip_prefix("for policy `")
        .and_then(|m| m.split_once("`, "))
    {
        message = rest.to_owned();
    }
    if let Some(label) = label.as_ref().and_then(|label| label.label()) {
        message = format!("{message} ({})", on_one_line(label.into()));
    }
    let help = error.help().map(|help| on_one_line(help.to_string()));
    (statement.offset + offset, message, help)
}

/// The `@ttl` of a policy: on permits only, in seconds or as a duration.
fn ttl(policy: &Policy, statement: Statement<'_>, findings: &mut Findings) -> Option<Seconds> {
    let text = policy.annotation("ttl")?;
    if policy.effect() == Effect::Forbid {
        let message = "a forbid has no use for @ttl: what it forbids has no lifetime";
        findings.mistake(
            statement.source,
            statement.offset,
            message,
            "@ttl on a permit",
        );
        return None;
    }
    let seconds = text
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse::<u64>().ok());
    let seconds = match seconds {
        Some(seconds) => seconds
            .map(Seconds)
            .filter(|s| (Seconds(1)..=duration::LONGEST).contains(s)),
        None => duration::parse(text),
    };
    if seconds.is_none() {
        let message = format!("@ttl(\"{}\") is no lifetime", show(text));
        let instead = "@ttl(\"300\") in seconds, or @ttl(\"5m\")";
        findings.mistake(statement.source, statement.offset, message, instead);
    }
    seconds
}

/// Validates all policies against the schema. Those that speak of a word in `broken` wait until that is mended.
pub(super) fn validate<'b>(
    schema: &Schema,
    written: &BTreeMap<PolicyId, Written<'_>>,
    broken: impl Fn(&str) -> Option<&'b str>,
    findings: &mut Findings,
) {
    let judged = written
        .values()
        .filter(|w| broken(w.statement.text).is_none());
    let Ok(set) = PolicySet::from_policies(judged.map(|w| w.policy.clone())) else {
        // Ids are unique and there are no templates, so this cannot be; if it were, nothing may be loaded.
        findings.mistake_in(
            "policies",
            "the policies do not form a set",
            "each @id once",
        );
        return;
    };
    let result =
        Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, REACH);
    let mut errors: BTreeMap<(&PolicyId, usize), (String, Option<String>)> = BTreeMap::new();
    for error in result.validation_errors() {
        let Some(written) = written.get(error.policy_id()) else {
            findings.mistake_in("policies", error.to_string(), "what the schema allows");
            continue;
        };
        let (offset, message, help) = told(error, written.statement);
        // What holds for many actions is told once, of the first of them.
        let told = (message, help);
        let first = errors
            .entry((error.policy_id(), offset))
            .or_insert_with(|| told.clone());
        if told < *first {
            *first = told;
        }
    }
    for ((id, offset), (message, help)) in &errors {
        if let Some(written) = written.get(id) {
            let help = help
                .as_deref()
                .unwrap_or("what policies/schema.cedarschema allows");
            findings.mistake(written.statement.source, *offset, message, help);
        }
    }
    let wrong: BTreeSet<_> = errors.keys().map(|(id, _)| *id).collect();
    for warning in result.validation_warnings() {
        let id = warning.policy_id();
        if let Some(written) = written.get(id).filter(|_| !wrong.contains(id)) {
            let (offset, message, help) = told(warning, written.statement);
            let help =
                help.unwrap_or_else(|| "a policy that can have an effect, or nothing".into());
            findings.warning(written.statement.source, offset, message, help);
        }
    }
}
