//! The policy tests beside a bundle, `policies/tests.toml`: what somebody expects, and what policy says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::agents::person;
use super::bundle::{Bundle, TESTS};
use super::fields::{self, Fields, show};
use super::mistake::{Findings, Source, closest};
use crate::domain::person::Evidence;
use crate::domain::rules::{Ask, Question, is_requesters_side};
use crate::domain::{
    Action, ActionName, Agent, AgentName, GroupName, Person, Policy, Reviewer, Ruling, Seconds,
    Time,
};

/// The instant a case is asked at when it does not say: Monday 2026-01-05, 10:00 UTC.
const USUAL_TIME: i64 = 1_767_607_200_000;

/// One case, read and resolved.
struct Case<'b> {
    name: String,
    agent: &'b Agent,
    action: &'b Action,
    parameters: Map<String, Value>,
    ttl: Seconds,
    now: Time,
    on_behalf_of: Option<Person>,
    expectation: Expectation,
}

enum Expectation {
    /// Of the request: allow, review or deny.
    Answer(String),
    /// Of a person: whether they may review, and whether they may revoke.
    Person {
        reviewer: Reviewer,
        review: Option<bool>,
        revoke: Option<bool>,
    },
}

/// Runs all cases. What cannot be read is a mistake, and so is what comes out otherwise. Returns how many ran.
pub(super) fn run(
    text: &str,
    bundle: &Bundle,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> usize {
    let source = Source { file: TESTS, text };
    let Some(table) = fields::parse(source, findings) else {
        return 0;
    };
    let mut top = Fields::new(source, 0, "tests.toml", &table);
    let cases = top.get("case").and_then(|cases| cases.get_ref().as_array());
    top.finish(findings);
    let Some(cases) = cases else {
        findings.mistake(source, 0, "there are no cases in it", "[[case]]");
        return 0;
    };
    let mut ran = 0;
    for case in cases {
        let offset = case.span().start;
        let Some(table) = case.get_ref().as_table() else {
            findings.mistake(source, offset, "a case is a table", "[[case]]");
            continue;
        };
        let fields = Fields::new(source, offset, "the case", table);
        if let Some(case) = read(fields, bundle, people, findings) {
            ran += 1;
            case.judge(source, offset, bundle, findings);
        }
    }
    ran
}

fn read<'b>(
    mut fields: Fields<'_, '_>,
    bundle: &'b Bundle,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Case<'b>> {
    let source = fields.source;
    let name = fields.text("name", "\"what it shows\"", findings);
    let agent = fields.parsed::<AgentName>("agent", "\"reporter\"", findings);
    let agent = agent.and_then(|name| {
        let found = bundle.agents().iter().find(|agent| agent.name == name);
        if found.is_none() {
            let known = bundle.agents().iter().map(|agent| agent.name.as_str());
            let instead = closest(name.as_str(), known).unwrap_or("an agent of the catalog");
            findings.mistake(
                source,
                fields.at("agent"),
                format!("there is no agent {name}"),
                instead,
            );
        }
        found
    });
    let action = fields.parsed::<ActionName>("action", "\"orders.report\"", findings);
    let action = action.and_then(|name| {
        let found = bundle.action(&name);
        if found.is_none() {
            let known = bundle
                .actions()
                .into_iter()
                .map(|action| action.name.as_str());
            let instead = closest(name.as_str(), known).unwrap_or("an action of the catalog");
            findings.mistake(
                source,
                fields.at("action"),
                format!("there is no action {name}"),
                instead,
            );
        }
        found
    });
    let parameters = parameters(&mut fields, action, findings);
    let ttl = fields.duration(
        "ttl",
        Some(action.map_or(Seconds(1), |a| a.ttl.default)),
        findings,
    );
    let now = instant(&mut fields, findings);
    let on_behalf_of = someone(&mut fields, "on_behalf_of", people, findings);
    let expectation = expectation(&mut fields, now.unwrap_or_default(), people, findings);
    fields.finish(findings);
    Some(Case {
        name: show(name?),
        agent: agent?,
        action: action?,
        parameters: parameters?,
        ttl: ttl?,
        now: now?,
        on_behalf_of,
        expectation: expectation?,
    })
}

fn parameters(
    fields: &mut Fields<'_, '_>,
    action: Option<&Action>,
    findings: &mut Findings,
) -> Option<Map<String, Value>> {
    let given = match fields.get("parameters") {
        None => Map::new(),
        Some(value) => match fields::json(value, 2) {
            Ok(Value::Object(map)) => map,
            _ => {
                let message = "parameters are a table of texts, whole numbers, true and false";
                let instead = "parameters = { country = \"de\" }";
                findings.mistake(fields.source, value.span().start, message, instead);
                return None;
            }
        },
    };
    for mistake in action?.check_parameters(&given).err().unwrap_or_default() {
        let at = fields.at("parameters");
        findings.mistake(
            fields.source,
            at,
            mistake.to_string(),
            "parameters that fit the action",
        );
    }
    action?.check_parameters(&given).is_ok().then_some(given)
}

fn instant(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<Time> {
    let example = "\"2026-01-05T10:00:00Z\"";
    let Some(text) = fields.optional_text("at", example, findings) else {
        return Some(Time::from_millis(USUAL_TIME));
    };
    let time = serde_json::from_value(Value::from(text)).ok();
    if time.is_none() {
        let message = "`at` is not an instant in RFC 3339";
        findings.mistake(
            fields.source,
            fields.at("at"),
            message,
            format!("at = {example}"),
        );
    }
    time
}

fn someone(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Person> {
    let text = fields.optional_text(key, "\"dev:ana\"", findings)?;
    match person(text, people) {
        Ok(person) => Some(person),
        Err((message, instead)) => {
            findings.mistake(
                fields.source,
                fields.at(key),
                message,
                format!("{key} = {instead}"),
            );
            None
        }
    }
}

fn expectation(
    fields: &mut Fields<'_, '_>,
    now: Time,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Expectation> {
    let source = fields.source;
    let answer = fields.optional_text("expect", "\"allow\"", findings);
    let is_person = fields.get("person").is_some();
    let person = someone(fields, "person", people, findings);
    let groups = fields.get("groups").is_some();
    let groups = if groups {
        fields.texts("groups", "[\"dba\"]", findings)
    } else {
        None
    };
    let review = fields.boolean("expect_review", findings);
    let revoke = fields.boolean("expect_revoke", findings);
    match (answer, is_person, review.or(revoke)) {
        (Some(answer @ ("allow" | "review" | "deny")), false, None) => {
            Some(Expectation::Answer(answer.into()))
        }
        (None, true, Some(_)) => {
            let groups = groups.unwrap_or_default().into_iter();
            let groups = groups.map(|group| group.into_inner().parse::<GroupName>());
            let Ok(groups) = groups.collect::<Result<BTreeSet<_>, _>>() else {
                let message = "a group has a name that no group can have";
                findings.mistake(source, fields.at("groups"), message, "groups = [\"dba\"]");
                return None;
            };
            let evidence = Evidence {
                auth_time: now,
                acr: None,
                channel: "web".into(),
            };
            let reviewer = Reviewer {
                person: person?,
                groups,
                evidence,
            };
            Some(Expectation::Person {
                reviewer,
                review,
                revoke,
            })
        }
        _ => {
            let message =
                "a case expects one thing: an answer to a request, or what a person may do";
            let instead = "expect = \"allow\", \"review\" or \"deny\"; or person, groups and expect_review = true or false";
            findings.mistake(source, fields.offset, message, instead);
            None
        }
    }
}

impl Case<'_> {
    fn ask(&self) -> Ask<'_> {
        Ask {
            agent: self.agent,
            on_behalf_of: self.on_behalf_of.as_ref(),
            action: self.action,
            parameters: &self.parameters,
            ttl: self.ttl,
            now: self.now,
        }
    }

    fn judge(&self, source: Source<'_>, offset: usize, bundle: &Bundle, findings: &mut Findings) {
        let mut wrong = |what: &str, expected: &str, got: &str, by: &[Ruling]| {
            let name = &self.name;
            let message = format!(
                "case \"{name}\": {what} is {got}, not {expected}; {}",
                decided(by)
            );
            let instead = format!("a policy that makes it {expected}, or the expectation {got}");
            findings.mistake(source, offset, message, instead);
        };
        match &self.expectation {
            Expectation::Answer(expected) => {
                let request = bundle.ask(&Question::Request(self.ask()));
                let routine = bundle.ask(&Question::Routine(self.ask()));
                let got = match (request.permitted, routine.permitted) {
                    (false, _) => "deny",
                    (true, true) => "allow",
                    (true, false) => "review",
                };
                let by = if got == "deny" {
                    vec![request]
                } else {
                    vec![request, routine]
                };
                if got != expected {
                    wrong("the answer", expected, got, &by);
                }
            }
            Expectation::Person {
                reviewer,
                review,
                revoke,
            } => {
                let word = |yes| if yes { "true" } else { "false" };
                if let Some(expected) = *review {
                    let ruling = bundle.ask(&Question::Review(reviewer, self.ask()));
                    // The broker refuses self-approval whatever policy says; so do its tests.
                    let own =
                        is_requesters_side(reviewer, &self.agent.owner, self.on_behalf_of.as_ref());
                    let got = ruling.permitted && !own;
                    if got != expected {
                        let by = if own { own_side() } else { ruling };
                        wrong("expect_review", word(expected), word(got), &[by]);
                    }
                }
                if let Some(expected) = *revoke {
                    let ruling = bundle.ask(&Question::Revoke(reviewer, self.ask()));
                    if ruling.permitted != expected {
                        wrong(
                            "expect_revoke",
                            word(expected),
                            word(ruling.permitted),
                            &[ruling],
                        );
                    }
                }
            }
        }
    }
}

/// What stands in for a policy where none is asked.
fn own_side() -> Ruling {
    let who = "the rule that an agent's owner and whom it acts for never review".into();
    Ruling {
        policies: vec![who],
        ..Ruling::default()
    }
}

fn decided(rulings: &[Ruling]) -> String {
    let errors: Vec<_> = rulings.iter().flat_map(|r| r.errors.clone()).collect();
    if !errors.is_empty() {
        return format!("because of an error: {}", errors.join("; "));
    }
    let policies: BTreeSet<_> = rulings.iter().flat_map(|r| r.policies.clone()).collect();
    if policies.is_empty() {
        return "no policy decided, so nothing is permitted".into();
    }
    let policies: Vec<_> = policies.into_iter().collect();
    format!("decided by {}", policies.join(", "))
}
