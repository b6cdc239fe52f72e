//! Access ends: when somebody says so, and at its time, whatever has become of the broker.

use std::time::Duration;

use countersign::domain::Time;
use serde_json::Value;

use super::laws::{outlives, survives_revocation};
use super::place::AwsPlace;
use super::{EXPORTER, lease, live, revoke, told};
use crate::e2e::until;

/// When a collected credential ends.
pub fn expiry(credential: &Value) -> Time {
    serde_json::from_value(credential["expires_at"].clone()).unwrap()
}

#[tokio::test]
async fn l04_case_091_of_two_sessions_of_a_role_one_is_revoked_and_the_other_works_on() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (one, credential) = live(&broker, 20).await;
    let holder = place.holder(&credential);
    let (other, credential) = live(&broker, 60).await;
    let others = place.holder(&credential);
    let findings = survives_revocation(&place, &broker, (&one, &holder), &others).await;
    assert!(findings.is_empty(), "{findings:#?}");

    // It is not called ended before it has run out: until then the guard is what holds it.
    let operator = place.operator();
    let cut = until("the lease is seen to be cut off", async || {
        let request = broker.request(EXPORTER, &one).await;
        (request["lease"]["state"] == "cut_off").then_some(request)
    })
    .await;
    assert_eq!(cut["state"], "ending", "{cut}");
    assert!(cut["lease"]["cut_off_at"].is_string(), "{cut}");
    let outcome = broker.closed(Duration::from_secs(40), EXPORTER, &one).await;
    assert_eq!(outcome, "revoked");
    assert!(!place.works(&holder).await);
    assert!(place.works(&others).await);
    let told = told(&broker, &operator, lease(&one)).await;
    let kinds: Vec<_> = told.iter().map(String::as_str).collect();
    let cut = kinds.iter().position(|kind| *kind == "lease.cut_off");
    let ended = kinds.iter().position(|kind| *kind == "lease.ended");
    assert!(cut.is_some() && cut < ended, "{kinds:?}");
    assert_eq!(broker.request(EXPORTER, &other).await["state"], "live");
}

#[tokio::test]
async fn l04_case_090_a_lease_ends_at_its_second_with_the_broker_dead() {
    let place = AwsPlace::open().await;
    let mut broker = place.dev().await;
    let (_, credential) = live(&broker, 6).await;
    broker.kill().await;
    let holder = place.holder(&credential);
    let findings = outlives(&place, &holder, expiry(&credential)).await;
    assert!(findings.is_empty(), "{findings:#?}");
}

#[tokio::test]
async fn l04_a_lease_that_ran_out_by_itself_is_proven_ended_without_any_word_to_iam() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let writes = place.meddler.calls("CreatePolicyVersion");
    let (request, credential) = live(&broker, 3).await;
    let outcome = broker
        .closed(Duration::from_secs(30), EXPORTER, &request)
        .await;
    assert_eq!(outcome, "expired");
    assert!(!place.works(&place.holder(&credential)).await);
    assert_eq!(place.meddler.calls("CreatePolicyVersion"), writes);
}

#[tokio::test]
async fn l04_a_finished_lease_is_cut_off_before_the_agent_is_told() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (request, credential) = live(&broker, 60).await;
    let holder = place.holder(&credential);
    assert!(place.works(&holder).await);
    let finished = broker.finish(EXPORTER, &request).await;
    assert_eq!(finished["lease"]["state"], "cut_off", "{finished}");
    assert!(!place.works(&holder).await);
    // Once more changes nothing.
    let again = revoke(&broker, &place.operator(), &request).await;
    assert_eq!(again["lease"]["state"], "cut_off", "{again}");
}
