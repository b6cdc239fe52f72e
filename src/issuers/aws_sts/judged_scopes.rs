//! Session policies, judged by an evaluator that is not ours beside resources that are open to everybody.

use iam_rs::{
    Arn, Context, Decision, EvaluationOptions, IAMPolicy, IAMRequest, PolicyEvaluator, Principal,
    PrincipalId,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::judged::{BROKER, EXPIRES, place};
use super::policy::{Effect, Policy, Statement};
use super::scope::{self, Form, LARGEST_POLICY, Scope};

const NOW: &str = "2026-11-22T12:00:00Z";
const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111111111111:table";

fn read(scope: &Value) -> Scope {
    scope::read(scope, &place(), Form::Rendered).unwrap()
}

fn refused(scope: &Value) -> String {
    scope::read(scope, &place(), Form::Rendered)
        .map(|_| scope.to_string())
        .unwrap_err()
}

/// Whether a session may do it where the resource's own policy allows everything to everybody, and no limit but an
/// explicit denial counts against that.
fn allowed_in_the_open(policy: &Policy, call: &Call<'_>) -> bool {
    let open = Policy::new(vec![Statement::new(Effect::Allow, ["*"], ["*"])]);
    allowed(&[policy, &open], call)
}

/// Action, resource, and what AWS knows of the call beside the time.
type Call<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn allowed(policies: &[&Policy], (action, resource, facts): &Call<'_>) -> bool {
    let policies = policies
        .iter()
        .map(|policy| IAMPolicy::from_json(&policy.to_text().unwrap()).unwrap());
    let mut all = vec![("aws:CurrentTime", NOW)];
    all.extend_from_slice(facts);
    let request = IAMRequest::new_with_context(
        Principal::Aws(PrincipalId::String(BROKER.into())),
        *action,
        Arn::parse(resource).unwrap(),
        context(&all),
    );
    let evaluator = PolicyEvaluator::with_policies(policies.collect())
        .with_options(EvaluationOptions::default());
    evaluator.evaluate(&request).unwrap().decision == Decision::Allow
}

/// What AWS knows of a call, each in its kind.
fn context(facts: &[(&str, &str)]) -> Context {
    facts.iter().fold(Context::new(), |context, (key, value)| {
        match (value.parse::<bool>(), value.parse::<i64>()) {
            (Ok(yes), _) => context.with_boolean(*key, yes),
            (_, Ok(number)) => context.with_number(*key, number as f64),
            _ => context.with_string(*key, *value),
        }
    })
}

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

#[test]
fn finding_t17_what_would_not_hold_as_it_reads_is_refused() {
    let prefix = json!({"bucket": "orders", "prefix": "secret"});
    let bucket = json!({"bucket": "orders"});
    let allow =
        json!({"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "prefix": "a"}]});
    let with = |denied: Value| json!({"statements": [allow, denied]});
    let deny = |actions: Value, resource: &Value| {
        with(json!({"effect": "deny", "actions": actions, "resources": [resource]}))
    };
    let when = |action: &str, conditions: Value| {
        let resource = match action {
            "s3:ListBucket" => &bucket,
            "s3:PutObject" => &prefix,
            _ => &json!({"service": "dynamodb", "path": ["table", "t"]}),
        };
        json!({"statements": [{"actions": [action], "resources": [resource], "conditions": conditions}]})
    };
    let one = |operator: &str, key: &str, values: Value| json!([{"operator": operator, "key": key, "values": values}]);
    for (scope, why) in [
        (deny(json!(["s3:ListBucket"]), &prefix), "denied listing"),
        (
            deny(json!(["s3:LISTBUCKETVERSIONS"]), &prefix),
            "denied listing",
        ),
        (deny(json!(["s3:PutObject"]), &bucket), "about objects"),
        (deny(json!(["s3:DeleteBucket"]), &prefix), "about a bucket"),
        (
            deny(json!(["dynamodb:GetItem"]), &bucket),
            "knows no buckets",
        ),
        (
            with(
                json!({"effect": "deny", "actions": ["s3:PutObject"], "resources": [prefix],
                "conditions": one("StringEquals", "s3:x-amz-acl", json!(["public-read"]))}),
            ),
            "no conditions",
        ),
        (
            when(
                "dynamodb:GetItem",
                one("StringEquals", "dynamodb:LeadingKeys", json!(["acme"])),
            ),
            "several values",
        ),
        (
            when(
                "dynamodb:GetItem",
                one("StringEquals", "dynamodb:Attributes", json!(["a"])),
            ),
            "several values",
        ),
        (
            when(
                "dynamodb:GetItem",
                one("StringEquals", "aws:TagKeys", json!(["a"])),
            ),
            "several values",
        ),
        (
            when(
                "dynamodb:GetItem",
                one("StringEquals", "aws:CalledVia", json!(["a"])),
            ),
            "several values",
        ),
        (
            when(
                "dynamodb:GetItem",
                one("StringEquals", "aws:PrincipalOrgPaths", json!(["a"])),
            ),
            "several values",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEquals", "s3:RequestObjectTagKeys", json!(["a"])),
            ),
            "several values",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEqualsIfExists", "s3:x-amz-acl", json!(["private"])),
            ),
            "not offered",
        ),
        (
            when(
                "s3:PutObject",
                one("StringNotEquals", "s3:x-amz-acl", json!(["public-read"])),
            ),
            "not offered",
        ),
        (
            when(
                "s3:PutObject",
                one("StringLike", "s3:x-amz-acl", json!(["private"])),
            ),
            "not offered",
        ),
        (
            when("s3:PutObject", one("Null", "s3:x-amz-acl", json!(["true"]))),
            "not offered",
        ),
        (
            when(
                "s3:PutObject",
                one("ForAllValues:StringEquals", "s3:x-amz-acl", json!(["a"])),
            ),
            "not offered",
        ),
        (
            when(
                "s3:PutObject",
                one("ForAnyValue:StringEquals", "s3:x-amz-acl", json!(["a"])),
            ),
            "not offered",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEquals", "s3:prefix", json!(["secret"])),
            ),
            "s3:ListBucket",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEquals", "dynamodb:Select", json!(["a"])),
            ),
            "unknown to some",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEquals", "aws:CurrentTime", json!(["a"])),
            ),
            "is a time",
        ),
        (
            when(
                "s3:PutObject",
                one("StringEquals", "aws:SourceIp", json!(["192.0.2.1"])),
            ),
            "do not go together",
        ),
        (
            when(
                "s3:PutObject",
                one("IpAddress", "s3:x-amz-acl", json!(["192.0.2.1"])),
            ),
            "do not go together",
        ),
        (
            when(
                "s3:PutObject",
                one("IpAddress", "aws:SourceIp", json!(["192.0.2.0/33"])),
            ),
            "a network",
        ),
        (
            when(
                "s3:PutObject",
                one("Bool", "aws:SecureTransport", json!(["yes"])),
            ),
            "true or false",
        ),
        (
            when(
                "s3:PutObject",
                one("Bool", "aws:SecureTransport", json!(["true", "false"])),
            ),
            "must list 1 to 1",
        ),
        (
            when(
                "s3:ListBucket",
                one("NumericLessThanEquals", "s3:max-keys", json!(["ten"])),
            ),
            "whole number",
        ),
        (
            when(
                "s3:PutObject",
                json!([
                    {"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["private"]},
                    {"operator": "StringEquals", "key": "S3:X-Amz-Acl", "values": ["public-read"]},
                ]),
            ),
            "two conditions",
        ),
    ] {
        let error = refused(&scope);
        assert!(error.contains(why), "{why}: {error}");
    }
    for good in [
        deny(json!(["s3:ListBucket"]), &bucket),
        deny(json!(["s3:GetObject"]), &prefix),
        when(
            "s3:ListBucket",
            one("StringEquals", "s3:prefix", json!(["secret/"])),
        ),
        when(
            "s3:ListBucket",
            one("NumericLessThanEquals", "s3:max-keys", json!(["10"])),
        ),
        when(
            "s3:PutObject",
            one(
                "IpAddress",
                "aws:SourceIp",
                json!(["192.0.2.0/24", "2001:db8::/32"]),
            ),
        ),
        when(
            "s3:PutObject",
            one(
                "StringEquals",
                "s3:ExistingObjectTag/class",
                json!(["public"]),
            ),
        ),
    ] {
        read(&good);
    }
}

#[test]
fn finding_t17_a_listing_in_any_spelling_is_limited_to_its_prefix() {
    for action in ["s3:ListBucket", "s3:listbucket", "s3:ListBucketVersions"] {
        let scope = read(&json!({"statements": [
            {"actions": [action], "resources": [{"bucket": "orders", "prefix": "a"}]}
        ]}));
        let policy = scope.policy(EXPIRES);
        let list = |facts: &[(&str, &str)]| {
            allowed_in_the_open(&policy, &(action, "arn:aws:s3:::orders", facts))
        };
        assert!(list(&[("s3:prefix", "a/")]), "{action}");
        for prefix in ["", "a", "b/", "aa/"] {
            assert!(!list(&[("s3:prefix", prefix)]), "{action} {prefix}");
        }
        assert!(!list(&[]), "{action}");
    }
}

#[test]
fn finding_t16_what_outlives_a_lease_is_refused_or_shown() {
    let scope = |outlives: bool| {
        json!({"outlives": outlives, "statements": [
            {"actions": ["kms:CreateGrant", "kms:Decrypt"], "resources": [{"service": "kms", "path": ["key", "k"]}]}
        ]})
    };
    let error = refused(&scope(false));
    assert!(
        error.contains("kms:CreateGrant changes who may do what"),
        "{error}"
    );
    assert!(error.contains("`outlives = true`"), "{error}");
    let read = read(&scope(true));
    assert_eq!(
        read.outlives,
        ["action kms:CreateGrant changes who may do what, and the change stays"]
    );
    let never = json!({"outlives": true, "statements": [
        {"actions": ["iam:PassRole"], "resources": [{"everything": true}]}
    ]});
    assert!(refused(&never).contains("no scope may have iam:*"));
    let denied = json!({"statements": [
        {"actions": ["kms:Decrypt"], "resources": [{"everything": true}]},
        {"effect": "deny", "actions": ["kms:CreateGrant"], "resources": [{"everything": true}]},
    ]});
    scope::read(&denied, &place(), Form::Rendered).unwrap();
}

#[test]
fn finding_t20_what_the_services_allow_can_be_said_exactly() {
    let colon =
        |service: &str, path: Value| json!({"service": service, "path": path, "separator": ":"});
    let logs = "arn:aws:logs:eu-central-1:111111111111:log-group:/aws/lambda/orders";
    for (action, resource, arn) in [
        (
            "logs:GetLogEvents",
            colon(
                "logs",
                json!([
                    "log-group",
                    "/aws/lambda/orders",
                    "log-stream",
                    "2026/11/22/[$LATEST]a0"
                ]),
            ),
            format!("{logs}:log-stream:2026/11/22/[$LATEST]a0"),
        ),
        (
            "logs:CreateLogStream",
            colon("logs", json!(["log-group", "/aws/lambda/orders"])),
            logs.to_owned(),
        ),
        (
            "secretsmanager:GetSecretValue",
            colon("secretsmanager", json!(["secret", "prod/db-AbCdEf"])),
            "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf".to_owned(),
        ),
        (
            "ssm:GetParameter",
            json!({"service": "ssm", "path": ["parameter", "prod", "db"]}),
            "arn:aws:ssm:eu-central-1:111111111111:parameter/prod/db".to_owned(),
        ),
        (
            "rds-db:connect",
            json!({"service": "rds-db", "path": ["dbuser:db-ABC", "agent"]}),
            "arn:aws:rds-db:eu-central-1:111111111111:dbuser:db-ABC/agent".to_owned(),
        ),
        (
            "s3:GetObject",
            json!({"bucket": "orders", "key": ["", "daily reports", "Müller & Söhne (1).csv"]}),
            "arn:aws:s3:::orders//daily reports/Müller & Söhne (1).csv".to_owned(),
        ),
        (
            "s3:PutObject",
            json!({"bucket": "orders", "key": ["a:b='c\"\\", ""]}),
            "arn:aws:s3:::orders/a:b='c\"\\/".to_owned(),
        ),
    ] {
        let scope = json!({"outlives": true, "statements": [{"actions": [action], "resources": [resource]}]});
        let policy = read(&scope).policy(EXPIRES);
        let meaning = policy.meaning();
        assert!(
            meaning[0].resources.contains(&arn),
            "{arn}: {}",
            policy.to_pretty()
        );
        // The evaluator's ARNs are of fewer letters than AWS's.
        if arn.is_ascii() {
            assert!(allowed_in_the_open(&policy, &(action, &arn, &[])), "{arn}");
            assert!(
                !allowed_in_the_open(&policy, &(action, &format!("{arn}x"), &[])),
                "{arn}"
            );
        }
    }
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
