//! The example bundle of the shop: it teaches, so it has to be right.

use countersign::config::Config;
use countersign::domain::rules::Question;
use countersign::domain::{Agent, Policy, Seconds};
use countersign::policy::{check, render};
use serde_json::json;

use super::{
    FakeTargets, action, ask, compile, directory, document, none, now, parameters, person, reviewer,
};

fn named<'b>(bundle: &'b dyn Policy, name: &str) -> &'b Agent {
    let mut agents = bundle.agents().iter();
    agents.find(|agent| agent.name.as_str() == name).unwrap()
}

#[test]
fn the_shop_checks_without_a_word_of_blame() {
    let report = check(&document(&directory("examples/shop")), &FakeTargets);
    let text = render(&report);
    assert!(
        report.mistakes.is_empty() && report.warnings.is_empty(),
        "{text}"
    );
    let (first, rest) = text.split_once(": ").unwrap();
    assert!(first.starts_with("bundle "), "{text}");
    assert_eq!(
        rest,
        "3 actions, 2 agents, 8 policies\n10 policy tests ran\n0 mistakes, 0 warnings\n"
    );
}

#[test]
fn its_configuration_parses() {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/examples/shop/countersign.toml")).unwrap();
    let config = Config::parse(&text).unwrap();
    assert!(config.targets.keys().any(|name| name.as_str() == "shop"));
}

#[test]
fn its_schema_is_as_expected() {
    let bundle = compile(&directory("examples/shop"));
    super::mistakes::golden("tests/policy/golden/shop.cedarschema", bundle.schema());
}

#[test]
fn l11_the_shortest_ttl_of_the_policies_that_decided_is_told() {
    let bundle = compile(&directory("examples/shop"));
    let report = action(&bundle, "orders.report");
    let parameters = none();
    let facts = ask(named(&bundle, "reporter"), report, &parameters);
    let request = bundle.ask(&Question::Request(facts.clone()));
    assert_eq!((request.permitted, request.ttl_at_most), (true, None));
    assert_eq!(request.policies, ["reporter-asks"]);
    let routine = bundle.ask(&Question::Routine(facts));
    assert_eq!(
        (routine.permitted, routine.ttl_at_most),
        (true, Some(Seconds(300)))
    );
    assert_eq!(routine.policies, ["orders-are-routine"]);
}

#[test]
fn a_forbid_beats_permits_and_is_named() {
    let bundle = compile(&directory("examples/shop"));
    let (parameters, someone) = (none(), person("dmitri"));
    let mut facts = ask(
        named(&bundle, "reporter"),
        action(&bundle, "orders.report"),
        &parameters,
    );
    facts.on_behalf_of = Some(&someone);
    let ruling = bundle.ask(&Question::Routine(facts));
    assert!(!ruling.permitted);
    assert_eq!(ruling.policies, ["acting-for-a-person-is-never-routine"]);
    assert_eq!(ruling.ttl_at_most, None);
}

#[test]
fn who_may_review_follows_groups_parameters_and_sign_in() {
    let bundle = compile(&directory("examples/shop"));
    let export = action(&bundle, "customers.export");
    let agent = named(&bundle, "reporter");
    let may = |country: &str, groups: &[&str], ttl: u64, signed_in_ago: i64| {
        let parameters = parameters(json!({ "country": country }));
        let mut facts = ask(agent, export, &parameters);
        facts.ttl = Seconds(ttl);
        let mut ben = reviewer("ben", groups);
        ben.evidence.auth_time =
            countersign::domain::Time::from_millis(now().millis() - signed_in_ago * 1000);
        bundle.ask(&Question::Review(&ben, facts)).permitted
    };
    assert!(may("de", &["support-leads"], 900, 0));
    assert!(!may(
        "de",
        &["security", "Support-leads", "support-leads "],
        900,
        0
    ));
    assert!(!may("de", &[], 900, 0));
    assert!(may("es", &["support-leads"], 900, 9999));
    assert!(may("es", &["support-leads"], 1000, 3600));
    assert!(!may("es", &["support-leads"], 1000, 3601));
}

#[test]
fn revoking_is_for_security_and_reviewers() {
    let bundle = compile(&directory("examples/shop"));
    let parameters = none();
    let facts = ask(
        named(&bundle, "migrator"),
        action(&bundle, "schema.migrate"),
        &parameters,
    );
    let may = |groups: &[&str]| {
        let reviewer = reviewer("chloe", groups);
        bundle.ask(&Question::Revoke(&reviewer, facts.clone()))
    };
    assert_eq!(
        may(&["security"]).policies,
        [
            "reviewers-revoke-what-they-may-review",
            "security-revokes-anything-in-the-shop"
        ]
    );
    assert!(may(&["dba"]).permitted);
    assert!(!may(&["support-leads"]).permitted);
}
