//! Guards: written whole, by several brokers, without losing an entry.

use std::sync::Arc;

use countersign::config::{GuardConfig, GuardWriter};
use countersign::domain::lease;
use countersign::issuers::aws_sts::IamGuard;
use countersign::issuers::{Deployment, Guard, GuardContent, Issuer, Proof};
use serde_json::json;

use super::aws_account::{Account, cloud, content, empty_guard, issuer, wide_rights};
use super::shop::{draw_lease, ending_at};
use crate::support::aws::{Corner, Meddling, Role, policy};

fn handle() -> String {
    lease::handle_of(&draw_lease())
}

#[tokio::test]
async fn case_092_of_two_writers_neither_loses_an_entry() {
    let account = Account::open().await;
    let cloud = cloud(&account.meddler.url, &account.corner.broker.keys);
    let (other, _) = issuer(&cloud, &account.guard_config, &account.role).unwrap();
    let (a, b) = (handle(), handle());
    account.cut(&[&a]).await.unwrap();
    let contended = other.publish(&content(&[&b])).await.unwrap_err();
    assert_eq!(contended.code, "guard_contended");
    assert!(account.guard.holds(&content(&[&a])).await.unwrap());
    other.publish(&content(&[&a, &b])).await.unwrap();
    let contended = account.cut(&[&a]).await.unwrap_err();
    assert_eq!(contended.code, "guard_contended");
    account.cut(&[&a, &b]).await.unwrap();
    // What is known may be left out once it is over.
    account.cut(&[&b]).await.unwrap();
    assert!(account.guard.holds(&content(&[&b])).await.unwrap());
}

/// What another broker writes between the look and the write is seen at once, and not lost for longer than that.
#[tokio::test]
async fn finding_t18_a_version_written_in_between_is_noticed() {
    let account = Account::open().await;
    let cloud = cloud(&account.corner.root.url, &account.corner.broker.keys);
    let (other, _) = issuer(&cloud, &account.guard_config, &account.role).unwrap();
    let (a, b) = (handle(), handle());
    account.cut(&[]).await.unwrap();
    other.publish(&content(&[])).await.unwrap();
    account
        .meddler
        .meddle(Meddling::HoldCalls("CreatePolicyVersion"));
    let (one, of_a) = ([a.as_str()], content(&[&a]));
    let (published, ()) = tokio::join!(account.cut(&one), async {
        account.meddler.holds().await;
        other.publish(&content(&[&b])).await.unwrap();
        account.meddler.meddle(Meddling::None);
    });
    let contended = published.unwrap_err();
    assert_eq!(contended.code, "guard_contended", "{contended}");
    // It is in force, and the caller knows that it must render again.
    assert!(account.guard.holds(&of_a).await.unwrap());
    account.cut(&[&a, &b]).await.unwrap();
    assert!(account.guard.holds(&content(&[&a, &b])).await.unwrap());
}

/// Two Countersigns on one guard would undo each other's denials: the second one writes nothing.
#[tokio::test]
async fn finding_t18_a_guard_of_another_countersign_is_left_alone() {
    for account in [Account::open().await, Account::open_inline().await] {
        let a = handle();
        account.cut(&[&a]).await.unwrap();
        let cloud = cloud(&account.corner.root.url, &account.corner.broker.keys);
        let name = "exports".parse().unwrap();
        let keeper = Deployment::of("another one");
        let other = IamGuard::new(&name, &account.guard_config, cloud, keeper).unwrap();
        for _ in 0..2 {
            let refused = other.publish(&content(&[&handle()])).await.unwrap_err();
            assert_eq!(refused.code, "guard_of_another", "{refused}");
        }
        assert!(account.guard.holds(&content(&[&a])).await.unwrap());
    }
}

/// The rehearsal's version is no other writer's.
#[tokio::test]
async fn finding_t18_a_rehearsal_between_two_publishes_is_no_contention() {
    let account = Account::open().await;
    let (a, b) = (handle(), handle());
    account.cut(&[&a]).await.unwrap();
    account.issuer.rehearse(&[]).await.unwrap();
    account.cut(&[&a, &b]).await.unwrap();
}

#[tokio::test]
async fn case_092_two_writers_at_once_come_to_hold_both() {
    let account = Account::open().await;
    let cloud = cloud(&account.meddler.url, &account.corner.broker.keys);
    let (other, _) = issuer(&cloud, &account.guard_config, &account.role).unwrap();
    let all: Vec<String> = (0..8).map(|_| handle()).collect();
    let ledger = Arc::new(std::sync::Mutex::new(GuardContent::default()));
    let revoke = async |guard: &dyn Guard, handles: &[String]| {
        for handle in handles {
            ledger.lock().unwrap().cut.insert(handle.clone());
            loop {
                let content = ledger.lock().unwrap().clone();
                match guard.publish(&content).await {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error.code, "guard_contended", "{error}"),
                }
            }
        }
    };
    tokio::join!(
        revoke(&*account.guard, &all[..4]),
        revoke(&*other, &all[4..])
    );
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    // The last write may have been an older rendering; whoever made it was told so and wrote again.
    assert!(account.guard.holds(&content(&all)).await.unwrap());
}

#[tokio::test]
async fn case_092_two_hundred_revocations_fit_and_meet_no_version_limit() {
    let account = Account::open().await;
    let session = account.mint(600).await;
    let mut handles: Vec<String> = (0..190).map(|_| handle()).collect();
    for _ in 0..9 {
        handles.push(handle());
        let all: Vec<&str> = handles.iter().map(String::as_str).collect();
        account.cut(&all).await.unwrap();
    }
    assert!(account.works(&session).await);
    handles.push(session.handle.clone());
    let all: Vec<&str> = handles.iter().map(String::as_str).collect();
    account.cut(&all).await.unwrap();
    assert!(!account.works(&session).await);
    let writes = account.meddler.calls("CreatePolicyVersion");
    account.cut(&all).await.unwrap();
    assert_eq!(account.meddler.calls("CreatePolicyVersion"), writes);

    let room = account.guard.room().room;
    let too_many: Vec<String> = (0..=room).map(|_| handle()).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    let full = account.cut(&too_many).await.unwrap_err();
    assert_eq!(full.code, "guard_full");
}

/// The broker has not crashed, so it remembers another version than the one that is in force.
#[tokio::test]
async fn l03_a_publish_whose_answer_is_lost_is_made_good_by_the_next() {
    let account = Account::open().await;
    let (a, b) = (handle(), handle());
    account.cut(&[&a]).await.unwrap();
    account
        .meddler
        .meddle(Meddling::HoldAnswers("CreatePolicyVersion"));
    let lost = account.cut(&[&a, &b]).await.unwrap_err();
    assert_eq!(lost.code, "target_unavailable");
    account.meddler.meddle(Meddling::None);
    let writes = account.meddler.calls("CreatePolicyVersion");
    account.cut(&[&a, &b]).await.unwrap();
    assert_eq!(account.meddler.calls("CreatePolicyVersion"), writes);
    assert!(account.guard.holds(&content(&[&a, &b])).await.unwrap());
}

#[tokio::test]
async fn a_guard_in_another_account_is_written_by_a_role_there() {
    let corner = Corner::open().await;
    let theirs = corner.in_account("210987654321");
    let policy_arn = theirs.guard("guard", &empty_guard()).await;
    let role = theirs.role("role", &policy_arn, &wide_rights()).await;
    let write = json!([{
        "Effect": "Allow",
        "Action": [
            "iam:CreatePolicyVersion", "iam:DeletePolicyVersion",
            "iam:GetPolicyVersion", "iam:ListPolicyVersions"
        ],
        "Resource": policy_arn
    }]);
    let everything = theirs.guard("everything", &empty_guard()).await;
    let writer: Role = theirs.role("writer", &everything, &write).await;
    let name = writer.arn.rsplit('/').next().unwrap();
    let trust = policy(&json!([{
        "Effect": "Allow",
        "Principal": {"AWS": corner.broker_arn()},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": writer.external_id}}
    }]))
    .to_string();
    let fields = [("RoleName", name), ("PolicyDocument", &trust)];
    theirs
        .root
        .iam("UpdateAssumeRolePolicy", &fields)
        .await
        .fine();
    let guard = GuardConfig::Boundary {
        policy_arn,
        writer: Some(GuardWriter {
            role_arn: writer.arn,
            external_id: writer.external_id,
        }),
    };
    let cloud = cloud(&corner.broker.url, &corner.broker.keys);
    let (guard, issuer) = issuer(&cloud, &guard, &role).unwrap();
    let (a, b) = (handle(), handle());
    guard.publish(&content(&[&a])).await.unwrap();
    guard.publish(&content(&[&a, &b])).await.unwrap();
    assert!(guard.holds(&content(&[&a, &b])).await.unwrap());
    let proof = issuer.prove(&ending_at(&a, None)).await;
    assert!(matches!(proof, Ok(Proof::CutOff { .. })), "{proof:?}");
    let mended = issuer.rehearse(&[]).await.unwrap();
    assert!(mended.problems.is_empty(), "{:#?}", mended.problems);
}
