//! What every issuer promises, kept by sessions of an AWS role.

use countersign::domain::{Seconds, Time, lease};
use countersign::issuers::{Guard, GuardContent, Issuer, MintError, Proof};
use serde_json::Value;
use tokio::net::TcpListener;

use super::aws_account::{Account, cloud, issuer, now};
use super::shop::{draw_lease, until};
use crate::support::aws::Meddling;

#[tokio::test]
async fn mint_use_end_prove() {
    let account = Account::open().await;
    let session = account.mint(600).await;
    assert!(account.works(&session).await);
    account
        .issuer
        .end(&session.handle, &account.scope())
        .await
        .unwrap();
    let expires = Some(session.expires);
    let early = account.issuer.prove(&session.handle, expires).await;
    assert_eq!(early.unwrap_err().code, "still_allowed");

    for _ in 0..2 {
        account.cut(&[&session.handle]).await.unwrap();
        account
            .issuer
            .end(&session.handle, &account.scope())
            .await
            .unwrap();
        let Proof::CutOff { seen, until } = account
            .issuer
            .prove(&session.handle, expires)
            .await
            .unwrap()
        else {
            panic!("it is not over yet");
        };
        assert_eq!(seen, ["canary_denied", "control_allowed"]);
        assert_eq!(until, session.expires);
    }
    assert!(!account.works(&session).await);
    assert!(account.issuer.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn case_085_siblings_with_look_alike_names_are_out_of_scope() {
    let account = Account::open().await;
    let session = account.mint(600).await;
    let sibling = account.corner.bucket("orders-old").await;
    assert!(account.works(&session).await);
    for (bucket, key) in [
        (&account.bucket, "exports/acme2/a"),
        (&account.bucket, "exports/acme"),
        (&account.bucket, "exports/a"),
        (&account.bucket, "a"),
        (&sibling, "exports/acme/a"),
    ] {
        let put = session.holder.put(bucket, key).await;
        assert!(put.denied(), "{bucket}/{key}: {put:?}");
    }
    let got = session.holder.get(&account.bucket, "exports/acme/a").await;
    assert!(got.denied(), "{got:?}");
}

#[tokio::test]
async fn case_087_a_session_cannot_grow() {
    let account = Account::open().await;
    let session = account.mint(600).await;
    let name = account.role.arn.rsplit('/').next().unwrap();
    let assume = [
        ("RoleArn", account.role.arn.as_str()),
        ("RoleSessionName", "lse_mine"),
        ("ExternalId", &account.role.external_id),
    ];
    let mut answers = vec![session.holder.sts("AssumeRole", &assume).await];
    answers.push(session.holder.sts("GetSessionToken", &[]).await);
    for (action, fields) in [
        ("CreateAccessKey", vec![("UserName", "somebody")]),
        ("DeleteRolePermissionsBoundary", vec![("RoleName", name)]),
        ("ListRoles", vec![]),
    ] {
        answers.push(session.holder.iam(action, &fields).await);
    }
    for answer in answers {
        assert!(answer.denied(), "{answer:?}");
    }
}

#[tokio::test]
async fn case_091_of_two_sessions_the_one_that_is_cut_off_ends() {
    let account = Account::open().await;
    let (cut, other) = (account.mint(600).await, account.mint(600).await);
    assert!(account.works(&cut).await && account.works(&other).await);
    account.cut(&[&cut.handle]).await.unwrap();
    assert!(!account.works(&cut).await);
    assert!(account.works(&other).await);
    account.cut(&[&cut.handle, &other.handle]).await.unwrap();
    assert!(!account.works(&other).await);
}

#[tokio::test]
async fn l04_the_fence_ends_a_session_whom_nobody_cut_off() {
    let account = Account::open().await;
    let session = account.mint(5).await;
    assert!(account.works(&session).await);
    until(async || !account.works(&session).await).await;
    assert!(now() >= session.expires);
    let proof = account
        .issuer
        .prove(&session.handle, Some(session.expires))
        .await
        .unwrap();
    let Proof::Gone(seen) = proof else {
        panic!("{proof:?}");
    };
    assert_eq!(seen, ["fence_passed", "canary_denied", "control_allowed"]);
}

#[tokio::test]
async fn ends_come_in_any_order_and_for_what_never_was() {
    let account = Account::open().await;
    let never = lease::handle_of(&draw_lease());
    account.issuer.end(&never, &Value::Null).await.unwrap();
    let past = account.issuer.prove(&never, Some(Time::default())).await;
    assert!(matches!(past, Ok(Proof::Gone(_))), "{past:?}");
    account.cut(&[&never]).await.unwrap();
    let ahead = account.issuer.prove(&never, None).await;
    assert!(matches!(ahead, Ok(Proof::CutOff { .. })), "{ahead:?}");
    for wrong in ["jit_short", "exports", ""] {
        assert!(account.issuer.end(wrong, &Value::Null).await.is_err());
        assert!(account.issuer.prove(wrong, None).await.is_err());
    }
}

#[tokio::test]
async fn a_kill_switch_ends_every_session_and_later_ones_work() {
    let account = Account::open().await;
    let before = account.mint(600).await;
    assert!(account.works(&before).await);
    let all = GuardContent {
        issued_before: Some(now()),
        ..GuardContent::default()
    };
    account.guard.publish(&all).await.unwrap();
    assert!(!account.works(&before).await);
    until(async || account.works(&account.mint(600).await).await).await;
    assert!(!account.works(&before).await);
}

#[tokio::test]
async fn case_090_a_lease_is_as_short_as_it_says_and_never_longer_than_a_role_allows() {
    let account = Account::open().await;
    let session = account.mint(120).await;
    assert!(session.expires <= now().plus(Seconds(120)));
    assert_eq!(account.issuer.longest_ttl(), Seconds(3600));
    let told = account.issuer.explain(&account.scope(), Seconds(120));
    assert!(
        told.ending.iter().any(|line| line.contains("15m")),
        "{told:?}"
    );
    assert!(told.exact.contains("(end of the lease)"));
    assert!(
        told.words
            .iter()
            .any(|line| line.contains("names this very session"))
    );
}

#[tokio::test]
async fn a_target_that_is_down_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut account = Account::open().await;
    let cloud = cloud(&url.parse().unwrap(), &account.corner.broker.keys);
    let (guard, issuer) = issuer(&cloud, &account.guard_config, &account.role).unwrap();
    account.issuer = issuer;
    let minted = account.try_mint(&draw_lease(), 600).await;
    assert!(
        matches!(minted, Err(MintError::Unavailable { .. })),
        "{minted:?}"
    );
    let handle = lease::handle_of(&draw_lease());
    let soon = Some(now().plus(Seconds(60)));
    let nobody = GuardContent::default();
    let (proven, published, held, rehearsed) = tokio::join!(
        account.issuer.prove(&handle, soon),
        guard.publish(&nobody),
        guard.holds(&nobody),
        account.issuer.rehearse(&[]),
    );
    for error in [
        proven.unwrap_err(),
        published.unwrap_err(),
        held.unwrap_err(),
        rehearsed.unwrap_err(),
    ] {
        assert_eq!(error.code, "target_unavailable", "{error}");
    }
    // By any clock and AWS's own rules it is over: nobody has to be asked.
    let long_ago = Time::from_millis(now().millis() - 26 * 60 * 1000);
    let over = account.issuer.prove(&handle, Some(long_ago)).await.unwrap();
    assert_eq!(over, Proof::Gone(vec!["past_credential_expiry".into()]));
}

#[tokio::test]
async fn case_095_a_lost_answer_is_unknown_and_can_be_cut_off() {
    let account = Account::open().await;
    let id = draw_lease();
    account.meddler.meddle(Meddling::HoldAnswers("AssumeRole"));
    let minted = account.try_mint(&id, 600).await;
    assert!(
        matches!(minted, Err(MintError::Unknown { .. })),
        "{minted:?}"
    );
    assert_eq!(account.meddler.calls("AssumeRole"), 1);
    account.meddler.meddle(Meddling::None);
    let handle = lease::handle_of(&id);
    account.cut(&[&handle]).await.unwrap();
    let expires = Some(now().plus(Seconds(600)));
    let proof = account.issuer.prove(&handle, expires).await;
    assert!(matches!(proof, Ok(Proof::CutOff { .. })), "{proof:?}");
}

#[tokio::test]
async fn a_target_that_hangs_is_unknown_within_seconds() {
    let account = Account::open().await;
    account.meddler.meddle(Meddling::HoldCalls("AssumeRole"));
    let id = draw_lease();
    let minted = account.try_mint(&id, 600);
    let patience = std::time::Duration::from_secs(30);
    let minted = tokio::time::timeout(patience, minted).await.unwrap();
    assert!(
        matches!(minted, Err(MintError::Unknown { .. })),
        "{minted:?}"
    );
}

#[tokio::test]
async fn case_096_throttling_is_met_with_patience_and_an_end() {
    let account = Account::open().await;
    account.meddler.meddle(Meddling::Throttle("AssumeRole"));
    let minted = account.try_mint(&draw_lease(), 600).await;
    assert!(
        matches!(minted, Err(MintError::Unavailable { .. })),
        "{minted:?}"
    );
    let calls = account.meddler.calls("AssumeRole");
    assert!((2..=5).contains(&calls), "{calls}");
    account.meddler.meddle(Meddling::None);
    account.mint(600).await;
}

#[tokio::test]
async fn a_mint_refused_by_the_role_says_so() {
    let mut account = Account::open().await;
    account.role.external_id = "f".repeat(32);
    let keys = &account.corner.broker.keys;
    let cloud = cloud(&account.meddler.url, keys);
    account.issuer = issuer(&cloud, &account.guard_config, &account.role)
        .unwrap()
        .1;
    let minted = account.try_mint(&draw_lease(), 600).await;
    let Err(MintError::Refused { code, .. }) = minted else {
        panic!("{minted:?}");
    };
    assert_eq!(code, "access_denied");
}
