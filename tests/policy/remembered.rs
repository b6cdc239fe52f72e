//! A bundle that remembers its answers gives the same ones.

use countersign::domain::rules::Question;
use countersign::domain::{Party, Policy, Time};
use countersign::policy::Remembered;
use serde_json::json;

use super::{action, agent, ask, compile, directory, files, now, parameters};

const CATALOG: &str = r#"
[actions."a"]
title = "A"
description = "An action."
target = "shop"
ttl = { default = "10m", longest = "30m" }
scope = { roles = ["r"], rows = { n = "{n}" } }
review = { groups = { dba = 1 } }
parameters = { n = { type = "integer", min = 1, max = 9 } }
"#;

#[test]
fn what_an_answer_depends_on_is_asked_anew() {
    let texts = files(&[
        ("catalog/a.toml", CATALOG),
        (
            "policies/a.cedar",
            r#"@id("odd") permit (principal, action in Action::"request", resource)
               when { context has parameters && [1, 3, 5].contains(context.parameters.n) };
               @id("bob") permit (principal == Agent::"bob", action in Action::"routine", resource)
               when { context.ttl_seconds < 601 };"#,
        ),
    ]);
    let bundle = compile(&texts);
    assert!(!bundle.looks_at_the_clock());
    let remembered = Remembered::new(compile(&texts));
    // Twice: asked first, remembered then.
    for _ in 0..2 {
        for name in ["ann", "bob"] {
            for n in 1..6 {
                for more in [0, 1] {
                    let agent = agent(name, Party::Group("bots".parse().unwrap()));
                    let parameters = parameters(json!({"n": n}));
                    let mut facts = ask(&agent, action(&bundle, "a"), &parameters);
                    facts.ttl.0 += more;
                    for question in [Question::Request(facts.clone()), Question::Routine(facts)] {
                        assert_eq!(remembered.ask(&question), bundle.ask(&question));
                    }
                }
            }
        }
    }
}

#[test]
fn a_policy_that_looks_at_the_clock_is_asked_each_time() {
    let clock = |condition: &str| {
        let policy = format!(
            "@id(\"early\") permit (principal, action in Action::\"request\", resource) when {{ {condition} }};"
        );
        files(&[
            ("catalog/a.toml", CATALOG),
            ("policies/a.cedar", policy.as_str()),
        ])
    };
    let later = Time::from_millis(now().millis() + 3_600_000);
    for condition in [
        r#"context.now < datetime("2026-11-22T10:30:01Z")"#,
        r#"context["n\u{6f}w"] < datetime("2026-11-22T10:30:01Z")"#,
    ] {
        let bundle = compile(&clock(condition));
        let remembered = Remembered::new(compile(&clock(condition)));
        let agent = agent("bob", Party::Group("bots".parse().unwrap()));
        let parameters = parameters(json!({"n": 1}));
        let mut facts = ask(&agent, action(&bundle, "a"), &parameters);
        assert!(remembered.ask(&Question::Request(facts.clone())).permitted);
        facts.now = later;
        assert!(!remembered.ask(&Question::Request(facts)).permitted);
    }
    assert!(!compile(&directory("examples/shop")).looks_at_the_clock());
}
