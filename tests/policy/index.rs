//! The scope index never changes an answer: every question gets what Cedar says over the whole set.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicyId, PolicySet, Request, Schema,
};
use countersign::domain::rules::Question;
use countersign::domain::{Agent, Party, Policy, Reviewer, Ruling};
use countersign::policy::Bundle;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{action, agent, ask, compile, now, parameters, person, reviewer};

const ACTIONS: [&str; 3] = ["a", "b.x", "c"];
const GROUPS: [&str; 3] = ["red", "green", "blue"];

fn catalog() -> String {
    let mut text = String::new();
    for name in ACTIONS {
        text += &format!(
            "[actions.\"{name}\"]\ntitle = \"T\"\ndescription = \"D\"\ntarget = \"shop\"\n\
             ttl = {{ default = \"10m\", longest = \"30m\" }}\nscope = {{ roles = [\"r\"], rows = {{ n = \"{{n}}\" }} }}\n\
             review = {{ groups = {{ red = 1, blue = 1 }} }}\n\
             parameters = {{ n = {{ type = \"integer\", min = 0, max = 9 }} }}\n"
        );
    }
    for (name, owner) in [
        ("one", "dev:ana"),
        ("two", "group:red"),
        ("three", "group:green"),
    ] {
        let hash = format!("{}{}", "0".repeat(63), name.len());
        let hash = if name == "two" {
            hash.replacen('0', "a", 1)
        } else {
            hash
        };
        text += &format!(
            "[agents.{name}]\nowner = \"{owner}\"\nproof = {{ kind = \"api_key_sha256\", hash = \"{hash}\" }}\n"
        );
    }
    text
}

fn scope() -> impl Strategy<Value = String> {
    let principal = prop_oneof![
        Just("principal".to_owned()),
        Just("principal is Agent".to_owned()),
        Just("principal is Person".to_owned()),
        Just("principal == Agent::\"one\"".to_owned()),
        Just("principal == Agent::\"two\"".to_owned()),
        Just("principal == Person::\"dev:ben\"".to_owned()),
        Just("principal in Person::\"dev:ana\"".to_owned()),
        Just("principal in Group::\"red\"".to_owned()),
        Just("principal is Agent in Group::\"green\"".to_owned()),
        Just("principal is Person in Group::\"blue\"".to_owned()),
    ];
    let kind = prop::sample::select(vec!["request", "routine", "review", "revoke"]);
    let member = (kind.clone(), prop::sample::select(ACTIONS.to_vec()))
        .prop_map(|(kind, name)| format!("Action::\"{kind}:{name}\""));
    let group = kind.prop_map(|kind| format!("Action::\"{kind}\""));
    let either = prop_oneof![member.clone(), group];
    let action = prop_oneof![
        Just("action".to_owned()),
        member.prop_map(|uid| format!("action == {uid}")),
        either.clone().prop_map(|uid| format!("action in {uid}")),
        prop::collection::vec(either, 1..4)
            .prop_map(|uids| format!("action in [{}]", uids.join(", "))),
    ];
    let name = prop::sample::select(ACTIONS.to_vec());
    let resource = prop_oneof![
        Just("resource".to_owned()),
        Just("resource is NamedAction".to_owned()),
        Just("resource in Target::\"shop\"".to_owned()),
        Just("resource is NamedAction in Target::\"shop\"".to_owned()),
        name.clone()
            .prop_map(|name| format!("resource == NamedAction::\"{name}\"")),
        name.prop_map(|name| format!("resource in NamedAction::\"{name}\"")),
    ];
    (principal, action, resource).prop_map(|(p, a, r)| format!("({p}, {a}, {r})"))
}

fn policy() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "permit", "forbid"]);
    let condition = prop::sample::select(vec![
        "",
        "",
        "when { context.parameters.n > 4 }",
        "unless { context.parameters.n == 3 }",
        "when { context has on_behalf_of }",
        "when { resource.reviewer_groups.contains(Group::\"red\") }",
        "when { context.parameters.n * 9223372036854775807 > 0 }",
        "when { context.now < datetime(\"2026-12-01\") }",
    ]);
    (effect, scope(), condition).prop_map(|(e, s, c)| format!("{e} {s} {c};"))
}

/// Cedar's own answer over the whole set, with entities read from JSON.
fn naive(
    set: &PolicySet,
    schema: &Schema,
    question: &Question<'_>,
) -> (bool, BTreeSet<String>, usize) {
    let (kind, reviewer, ask) = match question {
        Question::Request(ask) => ("request", None, ask),
        Question::Routine(ask) => ("routine", None, ask),
        Question::Review(reviewer, ask) => ("review", Some(reviewer), ask),
        Question::Revoke(reviewer, ask) => ("revoke", Some(reviewer), ask),
    };
    let entity = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let name = ask.action.name.as_str();
    let (owner, above) = match &ask.agent.owner {
        Party::Person(person) => {
            let id = format!("dev:{}", person.subject);
            (id.clone(), entity("Person", &id))
        }
        Party::Group(group) => (format!("group:{group}"), entity("Group", group.as_str())),
    };
    let groups = GROUPS[..1]
        .iter()
        .chain(&GROUPS[2..])
        .map(|g| json!({"__entity": entity("Group", g)}));
    let mut entities = vec![
        json!({"uid": entity("NamedAction", name), "parents": [entity("Target", "shop")], "attrs": {
            "name": name, "target": {"__entity": entity("Target", "shop")}, "longest_ttl_seconds": 1800,
            "reviewer_groups": groups.collect::<Vec<_>>()}}),
        json!({"uid": entity("Agent", ask.agent.name.as_str()), "parents": [above],
            "attrs": {"name": ask.agent.name, "owner": owner}}),
    ];
    let mut context = json!({"ttl_seconds": ask.ttl.0, "parameters": ask.parameters,
        "now": {"__extn": {"fn": "datetime", "arg": ask.now.to_string()}}});
    if let Some(person) = ask.on_behalf_of {
        context["on_behalf_of"] = Value::from(format!("dev:{}", person.subject));
    }
    let mut principal = format!("Agent::\"{}\"", ask.agent.name);
    if let Some(reviewer) = reviewer {
        context["agent"] = json!({"__entity": entity("Agent", ask.agent.name.as_str())});
        context["auth_age_seconds"] = Value::from(0);
        let id = format!("dev:{}", reviewer.person.subject);
        let groups: Vec<_> = reviewer
            .groups
            .iter()
            .map(|g| entity("Group", g.as_str()))
            .collect();
        entities.push(json!({"uid": entity("Person", &id), "parents": groups, "attrs": {}}));
        principal = format!("Person::\"{id}\"");
    }
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let member = uid(&format!("Action::\"{kind}:{name}\""));
    let request = Request::new(
        uid(&principal),
        member.clone(),
        uid(&format!("NamedAction::\"{name}\"")),
        Context::from_json_value(context, Some((schema, &member))).unwrap(),
        Some(schema),
    )
    .unwrap();
    let entities = Entities::from_json_value(Value::from(entities), Some(schema)).unwrap();
    let response = Authorizer::new().is_authorized(&request, set, &entities);
    let errors = response.diagnostics().errors().count();
    (
        response.decision() == Decision::Allow && errors == 0,
        response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect(),
        errors,
    )
}

fn compile_policies(policies: &[String]) -> Option<(Bundle, PolicySet, Schema)> {
    let named: Vec<_> = (0..)
        .zip(policies)
        .map(|(n, p)| format!("@id(\"p{n}\") {p}"))
        .collect();
    let files = BTreeMap::from([
        ("catalog/a.toml".to_owned(), catalog()),
        ("policies/a.cedar".to_owned(), named.join("\n")),
    ]);
    let bundle = Bundle::compile(&super::document(&files), &super::FakeTargets).ok()?;
    let schema = Schema::from_cedarschema_str(bundle.schema()).unwrap().0;
    let parsed = (0..).zip(policies).map(|(n, text): (usize, _)| {
        cedar_policy::Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).unwrap()
    });
    Some((bundle, PolicySet::from_policies(parsed).unwrap(), schema))
}

fn agree(ruling: &Ruling, naive: &(bool, BTreeSet<String>, usize)) -> bool {
    let policies: BTreeSet<_> = ruling.policies.iter().cloned().collect();
    ruling.permitted == naive.0 && policies == naive.1 && ruling.errors.len() == naive.2
}

/// Whether the validator accepts the policy on its own.
fn is_valid(policy: &str) -> bool {
    static SCHEMA: std::sync::LazyLock<Schema> =
        std::sync::LazyLock::new(|| compile_policies(&[]).unwrap().2);
    let policy = cedar_policy::Policy::parse(None, policy).unwrap();
    let set = PolicySet::from_policies([policy]).unwrap();
    let validator = cedar_policy::Validator::new(SCHEMA.clone());
    validator
        .validate(&set, cedar_policy::ValidationMode::Strict)
        .validation_passed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_index_never_changes_an_answer(
        policies in prop::collection::vec(policy(), 0..24),
        number in 0_i64..10,
        on_behalf in any::<bool>(),
        groups in prop::sample::subsequence(GROUPS.to_vec(), 0..=3),
    ) {
        // Policies that the validator refuses (a person asking, say) are left out.
        let policies: Vec<_> = policies.into_iter().filter(|policy| is_valid(policy)).collect();
        let (bundle, set, schema) = compile_policies(&policies).unwrap();
        let given = parameters(json!({ "n": number }));
        let ana = person("ana");
        let outsider = agent("outsider", Party::Person(person("eve")));
        let agents: Vec<&Agent> = bundle.agents().iter().chain([&outsider]).collect();
        let people: [Reviewer; 2] = [reviewer("ben", &groups), reviewer("ana", &groups)];
        for (agent, name) in agents.into_iter().flat_map(|a| ACTIONS.map(|name| (a, name))) {
            let mut facts = ask(agent, action(&bundle, name), &given);
            facts.on_behalf_of = on_behalf.then_some(&ana);
            facts.now = now();
            let mut questions = vec![Question::Request(facts.clone()), Question::Routine(facts.clone())];
            for person in &people {
                questions.push(Question::Review(person, facts.clone()));
                questions.push(Question::Revoke(person, facts.clone()));
            }
            for question in &questions {
                let (ruling, naive) = (bundle.ask(question), naive(&set, &schema, question));
                prop_assert!(agree(&ruling, &naive), "{question:?}\n{ruling:?}\n{naive:?}\n{policies:#?}");
            }
        }
    }
}

#[test]
fn a_question_meets_only_the_policies_that_could_decide_it() {
    let many: String = (0..1000)
        .map(|n| {
            format!(
                "permit (principal == Agent::\"a{n}\", action in Action::\"request\", resource);\n"
            )
        })
        .collect();
    let files = BTreeMap::from([
        ("catalog/a.toml".to_owned(), catalog()),
        ("policies/a.cedar".to_owned(), many),
    ]);
    let bundle = compile(&files);
    let given = parameters(json!({"n": 1}));
    let known = agent("a500", Party::Group("red".parse().unwrap()));
    let ruling = bundle.ask(&Question::Request(ask(
        &known,
        action(&bundle, "a"),
        &given,
    )));
    assert_eq!(ruling.policies, ["policies/a.cedar:501"]);
}
