//! What must hold of a credential for one day's exports, as findings: empty when all is well.

use std::time::Duration;

use countersign::domain::Time;
use countersign::system::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::place::AwsPlace;
use super::{DAY, lease};
use crate::e2e::broker::Broker;
use crate::support::aws::{Answer, Caller};

/// What the credential does beyond its scope, or does not do within it.
pub async fn beyond_scope(place: &AwsPlace, holder: &Caller) -> Vec<String> {
    let bucket = &place.bucket;
    let mine = format!("daily/{DAY}/orders.csv");
    let mut findings = Vec::new();
    for key in [mine.clone(), format!("daily/{DAY}/a/b")] {
        let put = holder.put(bucket, &key).await;
        if !put.allowed() {
            findings.push(format!("cannot put {key}: {put:?}"));
        }
    }
    for (what, answer) in forbidden(place, holder, &mine).await {
        if !answer.denied() {
            findings.push(format!("{what}: {answer:?}"));
        }
    }
    findings
}

async fn forbidden(place: &AwsPlace, holder: &Caller, mine: &str) -> Vec<(String, Answer)> {
    let bucket = &place.bucket;
    let mut tried = Vec::new();
    for key in [
        "orders.csv".to_owned(),
        format!("daily/{DAY}"),
        format!("daily/{DAY}-copy/orders.csv"),
        "daily/2026-11-23/orders.csv".into(),
        format!("weekly/daily/{DAY}/orders.csv"),
    ] {
        tried.push((format!("put {key}"), holder.put(bucket, &key).await));
    }
    // Names that only look like the bucket's.
    let shorter = bucket.strip_suffix('s').unwrap().to_owned();
    for sibling in [format!("{bucket}-evil"), shorter] {
        tried.push((
            format!("put into {sibling}"),
            holder.put(&sibling, mine).await,
        ));
    }
    for (method, path) in [
        ("GET", format!("/{bucket}/{mine}")),
        ("DELETE", format!("/{bucket}/{mine}")),
        ("GET", format!("/{bucket}?list-type=2&prefix=daily/{DAY}/")),
        ("GET", format!("/{bucket}?policy")),
        ("DELETE", format!("/{bucket}")),
        ("GET", "/".into()),
    ] {
        tried.push((
            format!("{method} {path}"),
            holder.s3(method, &path, "").await,
        ));
    }
    tried.push(("ListQueues".into(), holder.sqs("ListQueues", &[]).await));
    let tables = holder.dynamodb("ListTables", &json!({})).await;
    tried.push(("ListTables".into(), tables));
    tried.extend(growing(place, holder).await);
    tried
}

/// Calls with which a credential could grow or outlive its end.
async fn growing(place: &AwsPlace, holder: &Caller) -> Vec<(String, Answer)> {
    let role = &place.role;
    let name = role.arn.rsplit('/').next().unwrap();
    let user = place.corner.broker_user();
    let all = super::place::allow_everything().to_string();
    let mut tried = Vec::new();
    for (action, fields) in [
        ("CreateAccessKey", vec![("UserName", user.as_str())]),
        ("CreateUser", vec![("UserName", "mallory")]),
        ("DeleteRolePermissionsBoundary", vec![("RoleName", name)]),
        (
            "PutRolePolicy",
            vec![
                ("RoleName", name),
                ("PolicyName", "more"),
                ("PolicyDocument", &all),
            ],
        ),
        (
            "CreatePolicyVersion",
            vec![
                ("PolicyArn", &place.guard),
                ("PolicyDocument", &all),
                ("SetAsDefault", "true"),
            ],
        ),
    ] {
        tried.push((action.to_owned(), holder.iam(action, &fields).await));
    }
    let chain = [
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", "lse_chained"),
        ("ExternalId", &role.external_id),
    ];
    tried.push(("AssumeRole".into(), holder.sts("AssumeRole", &chain).await));
    tried
}

/// Whether the credential is denied at some time within `patience`, and stays so for a moment.
pub async fn denied_within(patience: Duration, place: &AwsPlace, holder: &Caller) -> bool {
    let give_up = Instant::now() + patience;
    while place.works(holder).await {
        if Instant::now() >= give_up {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    !place.works(holder).await
}

/// What is wrong with how a lease ends by itself at `expires`.
pub async fn outlives(place: &AwsPlace, holder: &Caller, expires: Time) -> Vec<String> {
    let mut findings = Vec::new();
    let left = |now: Time| u64::try_from(expires.millis() - now.millis()).unwrap_or(0);
    // One second less than promised is what IAM's whole seconds cost.
    let early = left(SystemClock::start().now()).saturating_sub(1500);
    if !place.works(holder).await {
        findings.push("it does not work at all".into());
    }
    sleep(Duration::from_millis(early)).await;
    if !place.works(holder).await {
        findings.push("it ended before its time".into());
    }
    let late = left(SystemClock::start().now()) + 500;
    if !denied_within(Duration::from_millis(late), place, holder).await {
        findings.push("it works after its time".into());
    }
    findings
}

/// What is wrong with how a revocation cuts one lease off and leaves the other alone.
pub async fn survives_revocation(
    place: &AwsPlace,
    broker: &Broker,
    (request, holder): (&Value, &Caller),
    other: &Caller,
) -> Vec<String> {
    let operator = place.operator();
    let mut findings = Vec::new();
    let path = format!("/v1/leases/{}/revoke", lease(request));
    let answer = broker.post(&path, &operator, &json!({})).await;
    if !answer.status.is_success() {
        findings.push(format!("it cannot be revoked: {answer:?}"));
    }
    if !denied_within(Duration::from_secs(8), place, holder).await {
        findings.push("it works after its revocation".into());
    }
    if !place.works(other).await {
        findings.push("another lease of the role ended with it".into());
    }
    findings
}
