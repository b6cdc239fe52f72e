//! What a credential can do, and what nobody can do with the broker's own identity.

use serde_json::json;

use super::laws::beyond_scope;
use super::place::{AwsPlace, allow_everything};
use super::{live, revoke};
use crate::e2e::cli::local;
use crate::support::aws::ACCOUNT;

#[tokio::test]
async fn the_example_checks_without_a_word_of_blame() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = local(&["check", "examples/aws"], root).await.fine();
    assert!(
        checked.out.starts_with("ok ") && checked.out.lines().count() == 1,
        "{checked:?}"
    );
}

#[tokio::test]
async fn case_085_a_credential_does_what_its_scope_says_and_nothing_else() {
    let place = AwsPlace::open().await;
    for sibling in ["orders-exports-evil", "orders-export"] {
        place.corner.bucket(sibling).await;
    }
    let broker = place.dev().await;
    let (_, credential) = live(&broker, 60).await;
    assert_eq!(credential["region"], "eu-central-1");
    assert_eq!(credential["account_id"], ACCOUNT);
    let findings = beyond_scope(&place, &place.holder(&credential)).await;
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What a bucket grants to the session itself, or to everybody, adds nothing to its policy; and what the policy has too
/// ends with it.
#[tokio::test]
async fn case_088_what_a_bucket_grants_to_the_session_itself_adds_nothing_and_ends_with_it() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (request, credential) = live(&broker, 60).await;
    let holder = place.holder(&credential);
    assert!(place.works(&holder).await);
    let key = format!("daily/{}/probe", super::DAY);
    assert!(holder.get(&place.bucket, &key).await.denied());

    let role = place.role.arn.rsplit('/').next().unwrap();
    let session = format!(
        "arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{}",
        super::lease(&request)
    );
    for principal in [json!({"AWS": session}), json!("*")] {
        place.corner.open_bucket(&place.bucket, &principal).await;
        assert!(holder.get(&place.bucket, &key).await.denied());
        let link = holder.presigned(&place.bucket, &key);
        assert!(holder.follow(link).await.denied());
        assert!(place.works(&holder).await);
    }
    revoke(&broker, &place.operator(), &request).await;
    assert!(!place.works(&holder).await);
}

#[tokio::test]
async fn case_087_the_brokers_identity_widens_nothing() {
    let place = AwsPlace::open().await;
    let broker = place.corner.broker.clone();
    let name = place.role.arn.rsplit('/').next().unwrap();
    let user = place.corner.broker_user();
    let all = allow_everything().to_string();
    let other = place.corner.guard("other", &allow_everything()).await;
    let role = ("RoleName", name);
    let me = ("UserName", user.as_str());
    let policy = |document| ("PolicyDocument", document);
    let guard = ("PolicyArn", place.guard.as_str());
    for (action, fields) in [
        (
            "PutRolePolicy",
            vec![role, ("PolicyName", "own"), policy(&*all)],
        ),
        ("AttachRolePolicy", vec![role, guard]),
        ("DeleteRolePermissionsBoundary", vec![role]),
        (
            "PutRolePermissionsBoundary",
            vec![role, ("PermissionsBoundary", &other)],
        ),
        ("UpdateAssumeRolePolicy", vec![role, policy(&all)]),
        ("UpdateRole", vec![role, ("MaxSessionDuration", "43200")]),
        ("DeleteRolePolicy", vec![role, ("PolicyName", "own")]),
        (
            "CreateRole",
            vec![("RoleName", "mallory"), ("AssumeRolePolicyDocument", &all)],
        ),
        (
            "PutUserPolicy",
            vec![me, ("PolicyName", "broker"), policy(&all)],
        ),
        ("AttachUserPolicy", vec![me, guard]),
        ("CreateAccessKey", vec![me]),
        ("CreateUser", vec![("UserName", "mallory")]),
        (
            "CreatePolicy",
            vec![("PolicyName", "mallory"), policy(&all)],
        ),
        (
            "CreatePolicyVersion",
            vec![
                ("PolicyArn", &other),
                policy(&all),
                ("SetAsDefault", "true"),
            ],
        ),
        ("SetDefaultPolicyVersion", vec![guard, ("VersionId", "v1")]),
        ("DeletePolicy", vec![guard]),
    ] {
        let answer = broker.iam(action, &fields).await;
        assert!(answer.denied(), "{action}: {answer:?}");
    }
}

/// Whoever has broken into the broker may write the guard. What a role may do stays its own policy's to say.
#[tokio::test]
async fn case_087_a_guard_that_allows_everything_allows_nothing() {
    let place = AwsPlace::open().await;
    let broker = place.corner.broker.clone();
    let all = allow_everything().to_string();
    let fields = [
        ("PolicyArn", place.guard.as_str()),
        ("PolicyDocument", &all),
        ("SetAsDefault", "true"),
    ];
    broker.iam("CreatePolicyVersion", &fields).await.fine();
    assert!(broker.put(&place.bucket, "a").await.denied());
    let narrow = json!([{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]);
    let rights = json!({"Version": "2012-10-17", "Statement": narrow}).to_string();
    let fields = [
        ("RoleName", place.role.arn.rsplit('/').next().unwrap()),
        ("PolicyName", "own"),
        ("PolicyDocument", &rights),
    ];
    place.corner.root.iam("PutRolePolicy", &fields).await.fine();
    let session = [
        ("RoleArn", place.role.arn.as_str()),
        ("RoleSessionName", "lse_narrow"),
        ("ExternalId", &place.role.external_id),
        ("Policy", &all),
    ];
    let session = broker.assume(&session).await.unwrap();
    assert!(session.put(&place.bucket, "a").await.denied());
}
