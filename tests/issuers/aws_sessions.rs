//! What only sessions of an AWS role have to promise.

use std::time::Duration;

use countersign::domain::{Seconds, ServerId, Time, lease};
use countersign::issuers::{Ending, Guard, GuardContent, Issuer, MintError, Proof};
use tokio::net::TcpListener;

use super::aws_account::{Account, cloud, issuer, now};
use super::orders::{draw_lease, ending_at, order_for, until};
use crate::support::aws::{ACCOUNT, Meddling};

#[tokio::test]
async fn case_091_of_two_sessions_the_one_that_is_cut_off_ends() {
    let account = Account::open().await;
    let (cut, other) = (account.mint(600).await, account.mint(600).await);
    assert!(account.works(&cut).await && account.works(&other).await);
    let proof = account
        .issuer
        .prove(&ending_at(&cut.handle, Some(cut.expires)))
        .await;
    assert_eq!(proof.unwrap_err().code, "still_allowed");
    account.cut(&[&cut.handle]).await.unwrap();
    assert!(!account.works(&cut).await);
    assert!(account.works(&other).await);
    let proof = account
        .issuer
        .prove(&ending_at(&cut.handle, Some(cut.expires)))
        .await;
    let seen = ["canary_denied_throughout_2s", "new_control_allowed_after"].map(String::from);
    let until = cut.expires;
    assert_eq!(
        proof.unwrap(),
        Proof::CutOff {
            seen: seen.into(),
            until
        }
    );
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
        .prove(&ending_at(&session.handle, Some(session.expires)))
        .await
        .unwrap();
    let Proof::Gone { seen, .. } = proof else {
        panic!("{proof:?}");
    };
    assert_eq!(
        seen,
        [
            "fence_passed",
            "canary_denied_throughout_2s",
            "new_control_allowed_after"
        ]
    );
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
            .any(|line| line.starts_with("everything else is denied explicitly"))
    );
}

#[tokio::test]
async fn a_session_that_is_past_by_every_clock_is_over_though_nobody_can_be_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let account = Account::open().await;
    let cloud = cloud(&url.parse().unwrap(), &account.corner.broker.keys);
    let (_, issuer) = issuer(&cloud, &account.guard_config, &account.role).unwrap();
    let handle = lease::handle_of(&draw_lease());
    let just_now = Time::from_millis(now().millis() - 60 * 1000);
    let unknown = issuer
        .prove(&ending_at(&handle, Some(just_now)))
        .await
        .unwrap_err();
    assert_eq!(unknown.code, "target_unavailable");
    let long_ago = Time::from_millis(now().millis() - 26 * 60 * 1000);
    let over = issuer
        .prove(&ending_at(&handle, Some(long_ago)))
        .await
        .unwrap();
    assert_eq!(over, Proof::gone(["past_credential_expiry"]));
}

#[tokio::test]
async fn case_095_a_mint_that_stays_unanswered_is_sent_once() {
    let account = Account::open().await;
    account.meddler.meddle(Meddling::HoldAnswers("AssumeRole"));
    let minted = account.try_mint(&draw_lease(), 600).await;
    assert!(
        matches!(minted, Err(MintError::Unknown { .. })),
        "{minted:?}"
    );
    assert_eq!(account.meddler.calls("AssumeRole"), 1);
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

#[tokio::test]
async fn finding_t19_a_denial_must_last_and_a_new_control_follows_it() {
    let account = Account::open().await;
    let session = account.mint(600).await;
    account.cut(&[&session.handle]).await.unwrap();
    let prove = async || {
        let sessions = account.meddler.calls("AssumeRole");
        let begun = tokio::time::Instant::now();
        let ending = ending_at(&session.handle, Some(session.expires));
        let proof = account.issuer.prove(&ending).await.unwrap();
        assert!(matches!(proof, Proof::CutOff { .. }), "{proof:?}");
        // The canary's and the control's, each time.
        assert_eq!(account.meddler.calls("AssumeRole") - sessions, 2);
        begun.elapsed()
    };
    let settle = Duration::from_secs(2);
    let calls = account.meddler.calls("ListQueues");
    assert!(prove().await >= settle);
    // Two denials at least, however slow AWS is, and the control's call.
    let calls = account.meddler.calls("ListQueues") - calls;
    assert!(calls >= 3, "{calls}");
    // The second, half a second after the first, is let through: it begins again.
    let second = account.meddler.calls("ListQueues") + 2;
    account.meddler.meddle(Meddling::LetsThrough(second));
    assert!(prove().await >= Duration::from_millis(500) + settle);
    account.meddler.meddle(Meddling::None);
}

#[tokio::test]
async fn finding_t14_a_role_that_is_not_the_sealed_one_mints_and_proves_nothing() {
    let account = Account::open().await;
    let server = account.issuer.identify().await.unwrap();
    let arn = &account.role.arn;
    assert_eq!(server.as_str(), format!("aws {ACCOUNT} {arn}"));
    let other: ServerId = format!("aws 999999999999 {arn}").parse().unwrap();
    let order = order_for(&draw_lease(), &account.scope(), &other);
    let minted = account.issuer.mint(&order).await;
    assert!(
        matches!(minted, Err(MintError::Elsewhere { .. })),
        "{minted:?}"
    );
    let session = account.mint(600).await;
    account.cut(&[&session.handle]).await.unwrap();
    let at = |server, expires| Ending {
        server: Some(server),
        ..ending_at(&session.handle, Some(expires))
    };
    let elsewhere = account.issuer.prove(&at(&other, session.expires)).await;
    assert_eq!(elsewhere.unwrap_err().code, "target_changed");
    let here = account.issuer.prove(&at(&server, session.expires)).await;
    assert!(matches!(here, Ok(Proof::CutOff { .. })), "{here:?}");
    // Long after its time it is over at any role.
    let long_ago = Time::from_millis(now().millis() - 26 * 60 * 1000);
    let over = account.issuer.prove(&at(&other, long_ago)).await.unwrap();
    assert_eq!(over, Proof::gone(["past_credential_expiry"]));
}

#[tokio::test]
async fn finding_t14_a_session_made_in_another_account_is_not_handed_out() {
    let account = Account::open().await;
    account.meddler.meddle(Meddling::Elsewhere);
    let minted = account.try_mint(&draw_lease(), 600).await;
    let Err(MintError::Elsewhere { detail }) = minted else {
        panic!("{minted:?}");
    };
    assert!(
        detail.contains("999999999999") && detail.contains(ACCOUNT),
        "{detail}"
    );
}
