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
