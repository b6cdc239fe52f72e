//! What the rehearsal says about an account that is not as it should be.

use countersign::issuers::Issuer;
use serde_json::{Value, json};

use super::aws_account::{Account, empty_guard, wide_rights};
use crate::support::aws::policy;

/// The problems found, and the warnings.
async fn found(account: &Account) -> (Vec<String>, Vec<String>) {
    let rehearsal = account.issuer.rehearse(&[account.scope()]).await.unwrap();
    (rehearsal.problems, rehearsal.warnings)
}

async fn assert_problem(account: &Account, words: &[&str]) {
    let (problems, _) = found(account).await;
    let named = |problem: &&String| words.iter().all(|word| problem.contains(word));
    assert!(
        problems.iter().any(|p| named(&p)),
        "{words:?}: {problems:#?}"
    );
}

fn role_name(account: &Account) -> &str {
    account.role.arn.rsplit('/').next().unwrap()
}

async fn trust(account: &Account, conditions: Value) {
    let document = policy(&json!([{
        "Effect": "Allow",
        "Principal": {"AWS": account.corner.broker_arn()},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Condition": conditions
    }]))
    .to_string();
    let fields = [
        ("RoleName", role_name(account)),
        ("PolicyDocument", &document),
    ];
    let root = &account.corner.root;
    root.iam("UpdateAssumeRolePolicy", &fields).await.fine();
}

#[tokio::test]
async fn a_guard_is_published_before_the_rehearsal_can_pass() {
    let account = Account::open().await;
    assert_problem(&account, &["publish pending", "start the broker"]).await;
    account.cut(&[]).await.unwrap();
    let (problems, warnings) = found(&account).await;
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(warnings.is_empty(), "{warnings:#?}");
    assert!(account.guard_is_as_it_was().await);
}

impl Account {
    /// The rehearsal has left the guard as it was.
    async fn guard_is_as_it_was(&self) -> bool {
        use countersign::issuers::Guard;
        let content = super::aws_account::content(&[]);
        self.guard.holds(&content).await.unwrap()
    }
}

#[tokio::test]
async fn case_093_a_role_that_asks_for_no_external_id_is_not_enabled() {
    let account = Account::open().await;
    account.cut(&[]).await.unwrap();
    trust(
        &account,
        json!({"StringLike": {"sts:RoleSessionName": "lse_*"}}),
    )
    .await;
    assert_problem(&account, &["without the external id", "sts:ExternalId"]).await;
    let id = &account.role.external_id;
    trust(&account, json!({"StringEquals": {"sts:ExternalId": id}})).await;
    assert_problem(&account, &["session name", "sts:RoleSessionName"]).await;
    let unknown = json!({"StringEquals": {"sts:ExternalId": "another"}});
    trust(&account, unknown).await;
    assert_problem(&account, &["may not assume", "trust policy"]).await;
    let (problems, _) = found(&account).await;
    assert!(!problems.concat().contains(id.as_str()), "{problems:#?}");
}

#[tokio::test]
async fn a_role_outside_its_guard_is_not_enabled() {
    let account = Account::open().await;
    account.cut(&[]).await.unwrap();
    let name = role_name(&account);
    let other = account.corner.guard("other", &empty_guard()).await;
    let fields = [("RoleName", name), ("PermissionsBoundary", other.as_str())];
    let root = &account.corner.root;
    root.iam("PutRolePermissionsBoundary", &fields).await.fine();
    assert_problem(&account, &["put-role-permissions-boundary", name]).await;
}

#[tokio::test]
async fn a_role_that_may_not_make_the_canary_call_is_not_enabled() {
    let account = Account::open().await;
    account.cut(&[]).await.unwrap();
    let narrow = json!([{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]);
    let document = policy(&narrow).to_string();
    let fields = [
        ("RoleName", role_name(&account)),
        ("PolicyName", "own"),
        ("PolicyDocument", &document),
    ];
    account
        .corner
        .root
        .iam("PutRolePolicy", &fields)
        .await
        .fine();
    assert_problem(&account, &["canary call", "sqs:ListQueues", "\"Allow\""]).await;
}

#[tokio::test]
async fn a_broker_that_may_not_write_the_guard_is_told_what_it_lacks() {
    let account = Account::open().await;
    account.cut(&[]).await.unwrap();
    let assume = json!([{
        "Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Resource": account.role.arn
    }]);
    account.corner.let_broker(&policy(&assume)).await;
    assert_problem(&account, &["cannot be written", "iam:CreatePolicyVersion"]).await;
    assert_problem(&account, &["cannot be read", "iam:GetPolicyVersion"]).await;
}

#[tokio::test]
async fn a_broker_that_may_too_much_is_told_what_is_excess() {
    let account = Account::open().await;
    account.cut(&[]).await.unwrap();
    account.corner.let_broker(&policy(&wide_rights())).await;
    let (problems, warnings) = found(&account).await;
    for excess in [
        "iam:PutRolePolicy",
        "iam:AttachRolePolicy",
        "iam:CreatePolicyVersion",
    ] {
        assert!(
            problems.iter().any(|p| p.contains(excess)),
            "{excess}: {problems:#?}"
        );
    }
    assert!(
        warnings.iter().any(|w| w.contains("iam:ListRoles")),
        "{warnings:#?}"
    );
    assert!(
        warnings.iter().any(|w| w.contains("sqs:ListQueues")),
        "{warnings:#?}"
    );
}
