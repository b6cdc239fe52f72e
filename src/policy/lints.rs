//! What Cedar's validator cannot know: names that exist nowhere, policies that cost every question, and
//! actions nobody could review.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use super::agents::person;
use super::catalog::Declared;
use super::fields::show;
use super::mistake::{Findings, closest};
use super::policies::Written;
use super::statements::Statement;
use crate::domain::AgentName;

/// The names a policy may mention.
pub(super) struct Names<'a> {
    pub(super) actions: BTreeSet<String>,
    pub(super) targets: BTreeSet<String>,
    pub(super) agents: BTreeSet<String>,
    pub(super) people: &'a BTreeMap<String, String>,
}

/// Checks every entity a policy names. A `forbid` about a misspelt name would forbid nothing.
pub(super) fn check_names(written: &Written<'_>, names: &Names<'_>, findings: &mut Findings) {
    for literal in written.policy.entity_literals() {
        let (kind, id) = (
            literal.type_name().to_string(),
            literal.id().unescaped().to_owned(),
        );
        let at = place(written.statement, &id);
        let source = written.statement.source;
        let mut unknown = |what: &str, known: &BTreeSet<String>| {
            if !known.contains(&id) {
                let instead = closest(&id, known.iter().map(String::as_str)).map_or_else(
                    || {
                        format!(
                            "one of: {}",
                            known.iter().cloned().collect::<Vec<_>>().join(", ")
                        )
                    },
                    |name| format!("{kind}::\"{name}\""),
                );
                let message = format!("there is no {what} \"{}\"", show(&id));
                findings.mistake(source, at, message, instead);
            }
        };
        match kind.as_str() {
            "NamedAction" => unknown("action", &names.actions),
            "Target" => unknown("target with actions", &names.targets),
            "Person" => check_person(&id, at, written.statement, names, findings),
            "Agent" => check_agent(&id, at, written.statement, names, findings),
            _ => {}
        }
    }
}

fn check_person(
    id: &str,
    at: usize,
    statement: Statement<'_>,
    names: &Names<'_>,
    findings: &mut Findings,
) {
    match person(id, names.people) {
        Err((message, instead)) => findings.mistake(
            statement.source,
            at,
            message,
            instead.replacen('"', "Person::\"", 1),
        ),
        Ok(person) => {
            // With two names for one provider, the first is the one that questions use.
            let first = names
                .people
                .iter()
                .find(|(_, issuer)| **issuer == person.issuer);
            if let Some((alias, _)) =
                first.filter(|(alias, _)| !id.starts_with(&format!("{alias}:")))
            {
                let message =
                    format!("people of this identity provider are known here as {alias}:…");
                let instead = format!("Person::\"{alias}:{}\"", show(&person.subject));
                findings.mistake(statement.source, at, message, instead);
            }
        }
    }
}

fn check_agent(
    id: &str,
    at: usize,
    statement: Statement<'_>,
    names: &Names<'_>,
    findings: &mut Findings,
) {
    if let Err(error) = id.parse::<AgentName>() {
        findings.mistake(
            statement.source,
            at,
            error.to_string(),
            "Agent::\"reporter\"",
        );
    } else if !names.agents.contains(id) {
        let known = names.agents.iter().map(String::as_str);
        let instead = closest(id, known).map_or_else(
            || "an agent of the catalog; or leave it, if the operator adds this agent".into(),
            |name| format!("Agent::\"{name}\", if that is the one"),
        );
        let message = format!("the catalog has no agent \"{id}\"");
        findings.warning(statement.source, at, message, instead);
    }
}

fn place(statement: Statement<'_>, id: &str) -> usize {
    let at = statement.text.find(&format!("::\"{id}\"")).unwrap_or(0);
    statement.offset + at
}

/// Warns of a policy whose scope demands nothing: every question pays for it, and it may say more than was meant.
pub(super) fn check_scope(written: &Written<'_>, findings: &mut Findings) {
    let policy = &written.policy;
    let open = matches!(policy.action_constraint(), ActionConstraint::Any)
        && matches!(
            policy.resource_constraint(),
            ResourceConstraint::Any | ResourceConstraint::Is(_)
        )
        && matches!(
            policy.principal_constraint(),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_)
        );
    if !open {
        return;
    }
    let message = match policy.effect() {
        Effect::Permit if !policy.has_non_scope_constraint() => {
            "this permits everything to everybody, reviews and routine included"
        }
        _ => "this policy has no scope, so every question has to evaluate it",
    };
    let instead = "an action at least: action in Action::\"request\"";
    findings.warning(
        written.statement.source,
        written.statement.offset,
        message,
        instead,
    );
}

/// An action without reviewers is sound only when policy makes every request of it routine, without a condition.
pub(super) fn check_reviewers(
    declared: &Declared<'_>,
    policies: &BTreeMap<cedar_policy::PolicyId, Written<'_>>,
    findings: &mut Findings,
) {
    let action = &declared.action;
    if !action.review.groups.is_empty() {
        return;
    }
    let about = |written: &&Written<'_>| is_about_routine(&written.policy, declared);
    let mut always = false;
    let mut forbidden = false;
    for written in policies.values().filter(about) {
        match written.policy.effect() {
            Effect::Permit => always |= is_unconditional(&written.policy),
            Effect::Forbid => forbidden = true,
        }
    }
    if !always || forbidden {
        let message = format!(
            "action {} has no reviewers, but not every request is routine",
            action.name
        );
        let instead = format!(
            "review = {{ groups = {{ support-leads = 1 }} }}, or a policy: permit (principal, action == Action::\"routine:{}\", resource);",
            action.name
        );
        findings.mistake(declared.source, declared.offset, message, instead);
    }
}

fn is_unconditional(policy: &Policy) -> bool {
    let anybody = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(kind) => kind.to_string() == "Agent",
        _ => false,
    };
    anybody && !policy.has_non_scope_constraint()
}

fn is_about_routine(policy: &Policy, declared: &Declared<'_>) -> bool {
    let name = declared.action.name.as_str();
    let is = |uid: &EntityUid, kind: &str, id: &str| {
        uid.type_name().to_string() == kind && uid.id().unescaped() == id
    };
    let routine = |uid: &EntityUid| {
        is(uid, "Action", "routine") || is(uid, "Action", &format!("routine:{name}"))
    };
    let action = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is(&uid, "Action", &format!("routine:{name}")),
        ActionConstraint::In(uids) => uids.iter().any(routine),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(kind) => kind.to_string() == "NamedAction",
        ResourceConstraint::Eq(uid) => is(&uid, "NamedAction", name),
        ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
            is(&uid, "NamedAction", name) || is(&uid, "Target", declared.action.target.as_str())
        }
    };
    action && resource
}
