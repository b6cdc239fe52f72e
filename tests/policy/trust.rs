//! When something is missing, broken or too much, the answer is no.

use countersign::domain::rules::Question;
use countersign::domain::{Agent, Party, Policy};
use serde_json::json;

use super::{action, agent, ask, compile, directory, files, none, parameters, person, reviewer};

const CATALOG: &str = r#"
[actions."a"]
title = "A"
description = "An action."
target = "shop"
ttl = { default = "10m", longest = "30m" }
scope = { roles = ["r"], rows = { n = "{n}" } }
review = { groups = { dba = 1 } }
parameters = { n = { type = "integer", min = 1, max = 3 } }
"#;

fn bot() -> Agent {
    agent("bot", Party::Group("bots".parse().unwrap()))
}

#[test]
fn case_080_a_forbid_that_errs_denies() {
    let bundle = compile(&files(&[
        ("catalog/a.toml", CATALOG),
        (
            "policies/a.cedar",
            r#"@id("all") permit (principal, action in Action::"request", resource);
               @id("errs") forbid (principal, action == Action::"request:a", resource)
               when { context.parameters.n * 9223372036854775807 > 0 };"#,
        ),
    ]));
    let (bot, parameters) = (bot(), parameters(json!({"n": 2})));
    let facts = ask(&bot, action(&bundle, "a"), &parameters);
    let ruling = bundle.ask(&Question::Request(facts));
    assert!(!ruling.permitted && ruling.ttl_at_most.is_none());
    assert!(
        ruling.errors[0].contains("`errs`: integer overflow"),
        "{:?}",
        ruling.errors
    );
}

#[test]
fn case_080_a_forbid_about_an_unknown_attribute_is_not_loaded() {
    let text = super::refused(&files(&[
        ("catalog/a.toml", CATALOG),
        (
            "policies/a.cedar",
            r#"forbid (principal, action in Action::"request", resource) when { principal.blocked };"#,
        ),
    ]));
    assert!(
        text.contains("attribute `blocked` on entity type `Agent` not found"),
        "{text}"
    );
}

#[test]
fn case_081_an_empty_set_permits_nothing() {
    let bundle = compile(&files(&[("catalog/a.toml", CATALOG)]));
    let (bot, parameters, ben) = (
        bot(),
        parameters(json!({"n": 2})),
        reviewer("ben", &["dba"]),
    );
    let facts = ask(&bot, action(&bundle, "a"), &parameters);
    for question in [
        Question::Request(facts.clone()),
        Question::Routine(facts.clone()),
        Question::Review(&ben, facts.clone()),
        Question::Revoke(&ben, facts),
    ] {
        let ruling = bundle.ask(&question);
        assert!(!ruling.permitted && ruling.policies.is_empty() && ruling.errors.is_empty());
    }
    assert!(compile(&files(&[])).actions().is_empty());
}

#[test]
fn l08_facts_that_do_not_fit_the_bundle_are_denied() {
    let permit = r#"permit (principal, action, resource);"#;
    let bundle = compile(&files(&[
        ("catalog/a.toml", CATALOG),
        ("policies/a.cedar", permit),
    ]));
    let other = compile(&files(&[
        ("catalog/a.toml", &CATALOG.replace("\"a\"", "\"b\"")),
        ("policies/a.cedar", permit),
    ]));
    let (bot, fits) = (bot(), parameters(json!({"n": 2})));
    let known = ask(&bot, action(&bundle, "a"), &fits);
    assert!(bundle.ask(&Question::Request(known.clone())).permitted);

    let mut stranger = person("eve");
    stranger.issuer = "https://people.example/".into();
    let mut on_behalf = known.clone();
    on_behalf.on_behalf_of = Some(&stranger);
    let owned = agent("bot", Party::Person(stranger.clone()));
    let (text, missing) = (parameters(json!({"n": "2"})), none());
    let foreign = [
        (
            ask(&bot, action(&other, "b"), &fits),
            "there is no action b",
        ),
        (
            ask(&bot, action(&bundle, "a"), &text),
            "parameter n does not fit",
        ),
        (
            ask(&bot, action(&bundle, "a"), &missing),
            "parameter n does not fit",
        ),
        (on_behalf, "no identity provider of ours has the issuer"),
        (
            ask(&owned, action(&bundle, "a"), &fits),
            "no identity provider of ours has the issuer",
        ),
    ];
    for (facts, why) in foreign {
        let ruling = bundle.ask(&Question::Request(facts));
        assert!(!ruling.permitted);
        assert!(ruling.errors[0].contains(why), "{:?}", ruling.errors);
    }
    let mut eve = reviewer("eve", &["dba"]);
    eve.person = stranger;
    assert!(!bundle.ask(&Question::Review(&eve, known)).permitted);
}

#[test]
fn an_agent_is_in_the_person_or_group_that_owns_it() {
    let bundle = compile(&files(&[
        ("catalog/a.toml", CATALOG),
        (
            "policies/a.cedar",
            r#"@id("team") permit (principal in Group::"bots", action in Action::"request", resource);
               @id("ana") permit (principal in Person::"dev:ana", action in Action::"request", resource);
               @id("by") permit (principal, action in Action::"review", resource)
               when { context.agent.owner == "group:bots" && principal in Group::"dba" };"#,
        ),
    ]));
    let fits = parameters(json!({"n": 2}));
    let by = |agent: &Agent| {
        bundle
            .ask(&Question::Request(ask(agent, action(&bundle, "a"), &fits)))
            .policies
    };
    assert_eq!(by(&bot()), ["team"]);
    assert_eq!(by(&agent("x", Party::Person(person("ana")))), ["ana"]);
    assert_eq!(by(&agent("x", Party::Person(person("ben")))), [""; 0]);
    assert_eq!(
        by(&agent("x", Party::Group("Bots".parse().unwrap()))),
        [""; 0]
    );
    let (bot, ben) = (bot(), reviewer("ben", &["dba", "x"]));
    let facts = ask(&bot, action(&bundle, "a"), &fits);
    assert_eq!(bundle.ask(&Question::Review(&ben, facts)).policies, ["by"]);
}

#[test]
fn case_084_deep_and_long_policies_are_refused_or_deny() {
    let nested =
        |open: &str, close: &str, n: usize| format!("{}true{}", open.repeat(n), close.repeat(n));
    // Just within the bounds: Cedar must bear these, in a debug build and on a small stack.
    let within = [
        nested("(", ")", 13),
        nested("[", "]", 13),
        format!(
            "{}true{}",
            "if true then (".repeat(13),
            ") else false".repeat(13)
        ),
        format!(
            "{}true",
            "if context.ttl_seconds == 1 then false else ".repeat(16)
        ),
        format!("true{}", " && true".repeat(1000)),
        format!("true{}", "&&1==1".repeat(1300)),
        format!("1{} > 0", "+1".repeat(4000)),
        format!("context{}", ".a".repeat(4000)),
        format!("context{} has a", ".parameters".repeat(700)),
    ];
    let beyond = [
        nested("(", ")", 20_000),
        nested("!", "", 100_000),
        nested("[", "]", 20_000),
        nested("if true then ", " else false", 20_000),
        format!("true{}", " && true".repeat(50_000)),
        format!("1{} > 0", " + 1".repeat(100_000)),
        format!("context{}", ".a".repeat(100_000)),
    ];
    for condition in within.iter().chain(&beyond) {
        let policy = format!(
            "permit (principal, action in Action::\"request\", resource) when {{ {condition} }};"
        );
        let files = files(&[("catalog/a.toml", CATALOG), ("policies/a.cedar", &policy)]);
        // Parsing must come back with an answer; when it loads, so must asking.
        match countersign::policy::Bundle::compile(&super::document(&files), &super::FakeTargets) {
            Err(mistakes) => assert!(!mistakes.is_empty()),
            Ok(bundle) => {
                let (bot, fits) = (bot(), parameters(json!({"n": 2})));
                let facts = ask(&bot, action(&bundle, "a"), &fits);
                let ruling = bundle.ask(&Question::Request(facts));
                assert!(ruling.errors.is_empty() || !ruling.permitted);
            }
        }
    }
    let deep = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(super::refused(&files(&[("catalog/a.toml", &deep)])).contains("not TOML"));
}

#[test]
fn the_shop_names_no_agent_twice() {
    let bundle = compile(&directory("examples/shop"));
    let names: Vec<_> = bundle
        .agents()
        .iter()
        .map(|agent| agent.name.as_str())
        .collect();
    assert_eq!(names, ["migrator", "reporter"]);
}
