//! What scopes say and may not say, judged by an evaluator that is not ours.

use iam_rs::{
    Arn, Context, Decision, EvaluationOptions, IAMPolicy, IAMRequest, PolicyEvaluator, Principal,
    PrincipalId,
};
use serde_json::{Value, json};

use super::judged::{BROKER, EXPIRES, place};
use super::policy::{Effect, Policy, Statement};
use super::scope::{self, Form, Scope};

const NOW: &str = "2026-11-22T12:00:00Z";
pub(super) const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111111111111:table";

pub(super) fn read(scope: &Value) -> Scope {
    scope::read(scope, &place(), Form::Rendered).unwrap()
}

fn refused(scope: &Value) -> String {
    scope::read(scope, &place(), Form::Rendered)
        .map(|_| scope.to_string())
        .unwrap_err()
}

/// Whether a session may do it where the resource's own policy allows everything to everybody, and no limit but an
/// explicit denial counts against that.
pub(super) fn allowed_in_the_open(policy: &Policy, call: &Call<'_>) -> bool {
    let open = Policy::new(vec![Statement::new(Effect::Allow, ["*"], ["*"])]);
    allowed(&[policy, &open], call)
}

/// Action, resource, and what AWS knows of the call beside the time.
pub(super) type Call<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

pub(super) fn allowed(policies: &[&Policy], (action, resource, facts): &Call<'_>) -> bool {
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

/// Action, conditions, and why they are refused together.
const UNSOUND: [(&str, &str, &str); 21] = [
    (
        "dynamodb:GetItem",
        "StringEquals dynamodb:LeadingKeys acme",
        "several values",
    ),
    (
        "dynamodb:GetItem",
        "StringEquals dynamodb:Attributes a",
        "several values",
    ),
    (
        "dynamodb:GetItem",
        "StringEquals aws:TagKeys a",
        "several values",
    ),
    (
        "dynamodb:GetItem",
        "StringEquals aws:CalledVia a",
        "several values",
    ),
    (
        "dynamodb:GetItem",
        "StringEquals aws:PrincipalOrgPaths a",
        "several values",
    ),
    (
        "s3:PutObject",
        "StringEquals s3:RequestObjectTagKeys a",
        "several values",
    ),
    (
        "s3:PutObject",
        "StringEqualsIfExists s3:x-amz-acl private",
        "not offered",
    ),
    (
        "s3:PutObject",
        "StringNotEquals s3:x-amz-acl public-read",
        "not offered",
    ),
    (
        "s3:PutObject",
        "StringLike s3:x-amz-acl private",
        "not offered",
    ),
    ("s3:PutObject", "Null s3:x-amz-acl true", "not offered"),
    (
        "s3:PutObject",
        "ForAllValues:StringEquals s3:x-amz-acl a",
        "not offered",
    ),
    (
        "s3:PutObject",
        "ForAnyValue:StringEquals s3:x-amz-acl a",
        "not offered",
    ),
    (
        "s3:PutObject",
        "StringEquals s3:prefix secret",
        "s3:ListBucket",
    ),
    (
        "s3:PutObject",
        "StringEquals dynamodb:Select a",
        "unknown to some",
    ),
    (
        "s3:PutObject",
        "StringEquals aws:CurrentTime a",
        "is a time",
    ),
    (
        "s3:PutObject",
        "StringEquals aws:SourceIp 192.0.2.1",
        "do not go together",
    ),
    (
        "s3:PutObject",
        "IpAddress s3:x-amz-acl 192.0.2.1",
        "do not go together",
    ),
    (
        "s3:PutObject",
        "IpAddress aws:SourceIp 192.0.2.0/33",
        "a network",
    ),
    (
        "s3:PutObject",
        "Bool aws:SecureTransport yes",
        "true or false",
    ),
    (
        "s3:PutObject",
        "Bool aws:SecureTransport true false",
        "must list 1 to 1",
    ),
    (
        "s3:ListBucket",
        "NumericLessThanEquals s3:max-keys ten",
        "whole number",
    ),
];

/// The same, where nothing is wrong.
const SOUND: [(&str, &str); 4] = [
    ("s3:ListBucket", "StringEquals s3:prefix secret/"),
    ("s3:ListBucket", "NumericLessThanEquals s3:max-keys 10"),
    (
        "s3:PutObject",
        "IpAddress aws:SourceIp 192.0.2.0/24 2001:db8::/32",
    ),
    (
        "s3:PutObject",
        "StringEquals s3:ExistingObjectTag/class public",
    ),
];

/// A scope of one action under these conditions: operator, key, values.
fn under(action: &str, conditions: &[&str]) -> Value {
    let resource = match action {
        "s3:ListBucket" => json!({"bucket": "orders"}),
        "s3:PutObject" => json!({"bucket": "orders", "prefix": "secret"}),
        _ => json!({"service": "dynamodb", "path": ["table", "t"]}),
    };
    let conditions = conditions.iter().map(|condition| {
        let words: Vec<&str> = condition.split(' ').collect();
        json!({"operator": words[0], "key": words[1], "values": words[2..]})
    });
    let conditions: Vec<Value> = conditions.collect();
    json!({"statements": [{"actions": [action], "resources": [resource], "conditions": conditions}]})
}

#[test]
fn finding_t17_conditions_that_would_not_hold_as_they_read_are_refused() {
    for (action, condition, why) in UNSOUND {
        let error = refused(&under(action, &[condition]));
        assert!(error.contains(why), "{condition}: {error}");
    }
    for (action, condition) in SOUND {
        read(&under(action, &[condition]));
    }
    let twice = [
        "StringEquals s3:x-amz-acl private",
        "StringEquals S3:X-Amz-Acl public-read",
    ];
    let error = refused(&under("s3:PutObject", &twice));
    assert!(error.contains("two conditions"), "{error}");
}

#[test]
fn finding_t17_denials_that_would_not_hold_as_they_read_are_refused() {
    let below = json!({"bucket": "orders", "prefix": "secret"});
    let bucket = json!({"bucket": "orders"});
    let deny = |action: &str, resource: &Value, conditions: Value| {
        let allow = json!({"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "prefix": "a"}]});
        json!({"statements": [allow, {
            "effect": "deny", "actions": [action], "resources": [resource], "conditions": conditions
        }]})
    };
    let acl = json!([{"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["private"]}]);
    for (action, resource, conditions, why) in [
        ("s3:ListBucket", &below, json!([]), "denied listing"),
        ("s3:LISTBUCKETVERSIONS", &below, json!([]), "denied listing"),
        ("s3:PutObject", &bucket, json!([]), "about objects"),
        ("s3:DeleteBucket", &below, json!([]), "about a bucket"),
        ("dynamodb:GetItem", &bucket, json!([]), "knows no buckets"),
        ("s3:PutObject", &below, acl, "no conditions"),
    ] {
        let error = refused(&deny(action, resource, conditions));
        assert!(error.contains(why), "{action}: {error}");
    }
    read(&deny("s3:ListBucket", &bucket, json!([])));
    read(&deny("s3:GetObject", &below, json!([])));
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
