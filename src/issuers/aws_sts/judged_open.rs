//! Session policies, judged by an evaluator that is not ours beside resources that are open to everybody.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::judged::{EXPIRES, place};
use super::judged_scopes::{Call, TABLE, allowed, allowed_in_the_open, read};
use super::policy::Policy;
use super::scope::{self, Form, LARGEST_POLICY};

fn shop() -> Value {
    json!({"statements": [
        {"actions": ["s3:GetObject", "s3:PutObject"], "resources": [{"bucket": "orders", "prefix": ["exports", "acme"]}]},
        {"actions": ["s3:ListBucket"], "resources": [{"bucket": "orders", "prefix": ["exports", "acme"]}]},
        {"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "key": "readme.txt"}]},
        {"actions": ["dynamodb:GetItem"], "resources": [{"service": "dynamodb", "path": ["table", "orders"]}]},
        {"actions": ["sqs:ListQueues"], "resources": [{"everything": true}]},
    ]})
}

#[test]
fn finding_t15_resources_open_to_everybody_add_nothing() {
    let scope = read(&shop());
    assert_eq!(scope.undenied, [""; 0]);
    let policy = scope.policy(EXPIRES);
    let table = format!("{TABLE}/orders");
    let below = [("s3:prefix", "exports/acme/2026")];
    let calls: [Call<'_>; 5] = [
        ("s3:GetObject", "arn:aws:s3:::orders/exports/acme/a", &[]),
        ("s3:GetObject", "arn:aws:s3:::orders/readme.txt", &[]),
        ("s3:ListBucket", "arn:aws:s3:::orders", &below),
        ("dynamodb:GetItem", &table, &[]),
        (
            "sqs:ListQueues",
            "arn:aws:sqs:eu-central-1:111111111111:q",
            &[],
        ),
    ];
    for call in calls {
        assert!(allowed(&[&policy], &call), "{call:?}");
        assert!(allowed_in_the_open(&policy, &call), "{call:?}");
    }
    let other_table = format!("{TABLE}/orders2");
    let above = [("s3:prefix", "exports/")];
    let calls: [Call<'_>; 12] = [
        ("s3:GetObject", "arn:aws:s3:::org-wide/handbook.pdf", &[]),
        ("s3:GetObject", "arn:aws:s3:::orders/exports/acme2/a", &[]),
        ("s3:PutObject", "arn:aws:s3:::orders/readme.txt", &[]),
        ("s3:DeleteObject", "arn:aws:s3:::orders/exports/acme/a", &[]),
        ("s3:ListBucket", "arn:aws:s3:::orders", &[]),
        ("s3:ListBucket", "arn:aws:s3:::orders", &above),
        ("s3:ListBucket", "arn:aws:s3:::org-wide", &below),
        ("dynamodb:GetItem", &other_table, &[]),
        ("dynamodb:PutItem", &table, &[]),
        (
            "sqs:SendMessage",
            "arn:aws:sqs:eu-central-1:111111111111:q",
            &[],
        ),
        (
            "sts:AssumeRole",
            "arn:aws:iam::111111111111:role/other",
            &[],
        ),
        (
            "kms:Decrypt",
            "arn:aws:kms:eu-central-1:111111111111:key/k",
            &[],
        ),
    ];
    for call in calls {
        assert!(!allowed_in_the_open(&policy, &call), "{call:?}");
    }
}

#[test]
fn finding_t15_conditions_hold_in_the_open_too_whether_the_key_is_there_or_not() {
    let under = |operator: &str, key: &str, values: Value| {
        let condition = json!({"operator": operator, "key": key, "values": values});
        let resource = json!({"bucket": "orders", "prefix": "in"});
        read(&json!({"statements": [
            {"actions": ["s3:PutObject"], "resources": [resource], "conditions": [condition]}
        ]}))
    };
    for (operator, key, values, good, bad) in [
        (
            "StringEquals",
            "s3:x-amz-acl",
            json!(["private", "bucket-owner-read"]),
            "private",
            "public-read",
        ),
        (
            "Bool",
            "aws:SecureTransport",
            json!(["true"]),
            "true",
            "false",
        ),
    ] {
        let scope = under(operator, key, values);
        assert_eq!(scope.undenied, [""; 0]);
        let policy = scope.policy(EXPIRES);
        let put = |facts: &[(&str, &str)]| {
            let call = ("s3:PutObject", "arn:aws:s3:::orders/in/a", facts);
            assert_eq!(
                allowed(&[&policy], &call),
                allowed_in_the_open(&policy, &call)
            );
            allowed(&[&policy], &call)
        };
        assert!(put(&[(key, good)]), "{key}");
        assert!(!put(&[(key, bad)]), "{key}");
        assert!(!put(&[]), "{key}");
    }
}

/// Two prefixes of one bucket: each denial leaves what the other statement allows.
#[test]
fn finding_t15_what_two_statements_allow_together_stays_allowed() {
    let scope = read(&json!({"statements": [
        {"actions": ["s3:ListBucket"], "resources": [
            {"bucket": "orders", "prefix": "a"}, {"bucket": "orders", "prefix": "b"}
        ]},
        {"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "prefix": "a"}],
         "conditions": [{"operator": "Bool", "key": "aws:SecureTransport", "values": ["true"]}]},
        {"actions": ["s3:getobject"], "resources": [{"bucket": "orders", "key": ["a", "open"]}]},
    ]}));
    let policy = scope.policy(EXPIRES);
    for (prefix, may) in [("a/", true), ("b/", true), ("c/", false), ("", false)] {
        let facts = [("s3:prefix", prefix)];
        let call = ("s3:ListBucket", "arn:aws:s3:::orders", facts.as_slice());
        assert_eq!(allowed_in_the_open(&policy, &call), may, "{prefix}");
        assert_eq!(allowed(&[&policy], &call), may, "{prefix}");
    }
    let open: Call<'_> = ("s3:GetObject", "arn:aws:s3:::orders/a/open", &[]);
    assert!(allowed(&[&policy], &open), "{}", policy.to_pretty());
    // One statement cannot say "below a, but not this key".
    assert_eq!(
        scope.undenied,
        ["s3:GetObject on arn:aws:s3:::orders/a/* where its conditions are not met"]
    );
}

#[test]
fn finding_t15_what_there_is_no_room_to_deny_is_said() {
    let resources: Vec<_> = (0..22)
        .map(|n| json!({"bucket": format!("orders-of-customer-number-{n}"), "prefix": "exports"}))
        .collect();
    let scope =
        read(&json!({"statements": [{"actions": ["s3:GetObject"], "resources": resources}]}));
    assert_eq!(scope.undenied, ["s3:GetObject on other resources"]);
    let policy = scope.policy(EXPIRES);
    assert!(policy.to_text().unwrap().len() <= LARGEST_POLICY);
    let put: Call<'_> = ("s3:PutObject", "arn:aws:s3:::org-wide/a", &[]);
    assert!(!allowed_in_the_open(&policy, &put));
    let get: Call<'_> = ("s3:GetObject", "arn:aws:s3:::org-wide/a", &[]);
    assert!(allowed_in_the_open(&policy, &get) && !allowed(&[&policy], &get));
}

fn resource() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["a", "b", "a b", "a.b"]);
    prop_oneof![
        name.clone()
            .prop_map(|prefix| json!({"bucket": "orders", "prefix": prefix})),
        name.clone()
            .prop_map(|key| json!({"bucket": "orders", "key": [key, "x"]})),
        name.prop_map(|table| json!({"service": "dynamodb", "path": ["table", table]})),
        Just(json!({"service": "dynamodb", "path": ["table", "a"], "and_below": true})),
        Just(json!({"bucket": "orders"})),
        Just(json!({"everything": true})),
    ]
}

fn statement() -> impl Strategy<Value = Value> {
    let s3 = vec![
        "s3:GetObject",
        "s3:putobject",
        "s3:PutObject",
        "s3:ListBucket",
        "dynamodb:Query",
        "s3:GetBucketTagging",
    ];
    let actions = prop::collection::vec(prop::sample::select(s3), 1..3);
    let condition = prop_oneof![
        Just(json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["private"]})),
        Just(json!({"operator": "Bool", "key": "aws:SecureTransport", "values": ["true"]})),
        Just(json!({"operator": "NumericLessThanEquals", "key": "s3:max-keys", "values": ["10"]})),
    ];
    let conditions = prop::collection::vec(condition, 0..3);
    let resources = prop::collection::vec(resource(), 1..3);
    let effect = prop::sample::select(vec!["allow", "allow", "allow", "deny"]);
    (effect, actions, resources, conditions).prop_map(|(effect, actions, resources, conditions)| {
        let conditions = if effect == "deny" { Vec::new() } else { conditions };
        json!({"effect": effect, "actions": actions, "resources": resources, "conditions": conditions})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// Whatever a scope says: what a resource that is open to everybody adds to its policy is nothing, or is said; and
    /// the denials take nothing away from what its statements allow.
    #[test]
    fn finding_t15_no_open_resource_widens_a_scope_and_no_denial_narrows_it(
        statements in prop::collection::vec(statement(), 1..4),
        facts in prop::collection::vec(
            prop::sample::select(vec![
                ("s3:x-amz-acl", "private"), ("s3:x-amz-acl", "public-read"),
                ("aws:SecureTransport", "true"), ("aws:SecureTransport", "false"),
                ("s3:max-keys", "5"), ("s3:prefix", "a/"), ("s3:prefix", ""),
            ]),
            0..4,
        ),
    ) {
        let scope = scope::read(&json!({"statements": statements}), &place(), Form::Rendered);
        prop_assume!(scope.is_ok());
        let scope = scope.unwrap();
        let policy = scope.policy(EXPIRES);
        let allows = Policy::new(scope.asked().to_vec());
        let (one, index) = (format!("{TABLE}/a"), format!("{TABLE}/a/index/i"));
        for action in ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:GetBucketTagging", "dynamodb:Query", "s3:DeleteObject"] {
            for resource in [
                "arn:aws:s3:::orders", "arn:aws:s3:::orders/a/x", "arn:aws:s3:::orders/a/y", "arn:aws:s3:::orders/b/x",
                "arn:aws:s3:::other/a/x", one.as_str(), index.as_str(),
            ] {
                let call = (action, resource, facts.as_slice());
                let by_itself = allowed(&[&policy], &call);
                prop_assert_eq!(by_itself, allowed(&[&allows], &call), "{:?}: {}", call, policy.to_pretty());
                if scope.undenied.is_empty() {
                    let open = allowed_in_the_open(&policy, &call);
                    prop_assert_eq!(open, by_itself, "{:?}: {}", call, policy.to_pretty());
                }
            }
        }
    }
}
