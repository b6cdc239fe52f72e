//! Bundles: what is refused and how it is told, what the verdicts are, and that the index changes none.

mod docs;
mod document;
mod index;
mod mistakes;
mod remembered;
mod shop;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use countersign::domain::agent::AgentOrigin;
use countersign::domain::person::Evidence;
use countersign::domain::rules::Ask;
use countersign::domain::{
    Action, Agent, AgentProof, Digest, Explanation, Party, Person, Policy, Reviewer, Seconds,
    TargetName, Targets, Time,
};
use countersign::policy::{Bundle, Document};
use serde_json::{Map, Value, json};

/// One target, `shop`, that grants roles whose names do not start with `pg_`.
pub struct FakeTargets;

impl Targets for FakeTargets {
    fn check_scope(&self, _: &TargetName, scope: &Value) -> Result<(), String> {
        let roles = scope.get("roles").or_else(|| scope.get("as"));
        let roles = match roles.ok_or("`roles` must list 1 to 16 group roles")? {
            Value::Array(roles) => roles.as_slice(),
            role => std::slice::from_ref(role),
        };
        let rows = scope.get("rows").and_then(Value::as_object);
        let empty = rows.is_some_and(|rows| rows.values().any(|value| value == ""));
        let bad = |role: &Value| role.as_str().is_none_or(|role| role.starts_with("pg_"));
        match roles.iter().find(|role| bad(role)) {
            Some(role) => Err(format!("role {role} may not be granted")),
            None if empty => Err("`rows` has an empty value".into()),
            None => Ok(()),
        }
    }

    fn longest_ttl(&self, target: &TargetName) -> Option<Seconds> {
        (target.as_str() == "shop").then_some(Seconds(7200))
    }

    fn explain(&self, _: &TargetName, _: &Value, _: Seconds) -> Explanation {
        Explanation {
            words: vec![],
            exact: String::new(),
            ending: vec![],
            outlives: vec![],
        }
    }
}

/// The identity providers of the tests.
pub fn people() -> BTreeMap<String, String> {
    BTreeMap::from([("dev".into(), "https://people.example".into())])
}

/// A bundle's files.
pub fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(path, text)| ((*path).into(), (*text).into()))
        .collect()
}

/// Reads the bundle files of a directory of this repository.
pub fn directory(path: &str) -> BTreeMap<String, String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut files = BTreeMap::new();
    for folder in ["catalog", "policies"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let relative = format!("{folder}/{name}");
            let text = std::fs::read_to_string(root.join(&relative)).unwrap();
            files.insert(relative, text);
        }
    }
    files
}

/// The document of a bundle with these files.
pub fn document(files: &BTreeMap<String, String>) -> Document {
    Document {
        files: files.clone(),
        people: people(),
        ..Document::default()
    }
}

/// Compiles, and prints the mistakes when it cannot.
pub fn compile(files: &BTreeMap<String, String>) -> Bundle {
    Bundle::compile(&document(files), &FakeTargets).unwrap_or_else(|mistakes| {
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", mistakes.join("\n"))
    })
}

/// The messages of a bundle that does not compile, one a line.
pub fn refused(files: &BTreeMap<String, String>) -> String {
    let mistakes = Bundle::compile(&document(files), &FakeTargets).unwrap_err();
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The person `subject` of the tests' identity provider.
pub fn person(subject: &str) -> Person {
    Person {
        issuer: "https://people.example".into(),
        subject: subject.into(),
    }
}

/// That person, signed in at `signed_in`, in these groups.
pub fn reviewer(subject: &str, groups: &[&str]) -> Reviewer {
    Reviewer {
        person: person(subject),
        groups: groups
            .iter()
            .map(|group| group.parse().unwrap())
            .collect::<BTreeSet<_>>(),
        evidence: Evidence {
            auth_time: now(),
            acr: None,
            channel: "web".into(),
        },
    }
}

/// The instant questions are asked at.
pub fn now() -> Time {
    Time::from_millis(1_795_343_400_007)
}

/// An agent outside any catalog.
pub fn agent(name: &str, owner: Party) -> Agent {
    Agent {
        name: name.parse().unwrap(),
        owner,
        proof: AgentProof::ApiKey {
            hash: Digest::of(name.as_bytes()),
        },
        origin: AgentOrigin::Operator,
    }
}

/// Parameters from JSON.
pub fn parameters(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// No parameters.
pub fn none() -> Map<String, Value> {
    parameters(json!({}))
}

/// The action of a bundle.
pub fn action<'b>(bundle: &'b Bundle, name: &str) -> &'b Action {
    bundle.action(&name.parse().unwrap()).unwrap()
}

/// The facts of a request.
pub fn ask<'a>(
    agent: &'a Agent,
    action: &'a Action,
    parameters: &'a Map<String, Value>,
) -> Ask<'a> {
    Ask {
        agent,
        on_behalf_of: None,
        action,
        parameters,
        ttl: action.ttl.default,
        now: now(),
    }
}
