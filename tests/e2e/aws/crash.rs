//! The broker dies, or an answer of AWS is lost, at each step between intent and end. Nothing is left that works.

use std::time::Duration;

use serde_json::json;

use super::laws::denied_within;
use super::place::AwsPlace;
use super::{EXPORTER, ask, lease, live, told};
use crate::e2e::broker::Broker;
use crate::e2e::{until, within};
use crate::support::aws::{Caller, Meddling};

const PATIENCE: Duration = Duration::from_secs(30);

/// The session AWS made although nobody got it.
async fn minted(place: &AwsPlace) -> (String, Caller) {
    place.meddler.holds().await;
    let lease = place.meddler.leases().pop().expect("no session was made");
    let holder = place.meddler.minted(&lease).unwrap();
    (lease, holder)
}

#[tokio::test]
async fn l03_case_122_a_session_made_when_the_broker_died_is_cut_off_after_its_restart() {
    let place = AwsPlace::open().await;
    let mut broker = place.dev().await;
    let request = ask(&broker, 300).await;
    place.meddler.meddle(Meddling::HoldAnswers("AssumeRole"));
    let (lease, holder) = tokio::select! {
        minted = minted(&place) => minted,
        answer = broker.collect(EXPORTER, &request) => panic!("it was given out: {answer:?}"),
    };
    broker.kill().await;
    place.meddler.meddle(Meddling::None);
    assert!(
        place.works(&holder).await,
        "AWS knows nothing of the broker's death"
    );

    broker.start_again().await;
    assert!(
        denied_within(PATIENCE, &place, &holder).await,
        "it works on"
    );
    // Nobody got that one, so the grant stands.
    let collected = within(PATIENCE, "it can be collected", async || {
        let answer = broker.collect(EXPORTER, &request).await;
        answer.status.is_success().then_some(answer.body)
    })
    .await;
    assert_ne!(collected["lease"]["id"], lease.as_str(), "{collected}");
    assert!(place.works(&place.holder(&collected["credential"])).await);
    assert!(!place.works(&holder).await);
}

/// Without a death: the answer never comes, so whether there is a session is unknown until it must be over.
#[tokio::test]
async fn case_095_a_session_whose_answer_was_lost_counts_as_live_and_is_cut_off() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let request = ask(&broker, 300).await;
    place.meddler.meddle(Meddling::HoldAnswers("AssumeRole"));
    let (lost, (lease, holder)) = tokio::join!(broker.collect(EXPORTER, &request), minted(&place));
    assert!(!lost.status.is_success(), "{lost:?}");
    place.meddler.meddle(Meddling::None);
    assert!(
        denied_within(PATIENCE, &place, &holder).await,
        "it works on"
    );
    // Nobody holds it, but it has not run out: the ledger does not call it ended.
    let kinds = until("the ledger tells of the cut", async || {
        let kinds = told(&broker, &place.operator(), &lease).await;
        kinds
            .iter()
            .any(|kind| kind == "lease.cut_off")
            .then_some(kinds)
    })
    .await;
    assert!(
        !kinds
            .iter()
            .any(|kind| kind == "lease.ended" || kind == "lease.live"),
        "{kinds:?}"
    );
    let listed = broker.get("/v1/leases", &place.operator()).await.body;
    assert_eq!(listed["data"][0]["id"], lease.as_str(), "{listed}");
    assert_eq!(listed["data"][0]["state"], "cut_off", "{listed}");
}

/// Kills the broker while a call of `action` hangs that a revocation needs, and starts it again.
async fn killed_while_revoking(meddling: Meddling) {
    let place = AwsPlace::open().await;
    let mut broker = place.dev().await;
    let (request, credential) = live(&broker, 300).await;
    let (_, other) = live(&broker, 300).await;
    let (holder, other) = (place.holder(&credential), place.holder(&other));
    place.meddler.meddle(meddling);
    let path = format!("/v1/leases/{}/revoke", lease(&request));
    broker.post(&path, &place.operator(), &json!({})).await;
    place.meddler.holds().await;
    broker.kill().await;
    place.meddler.meddle(Meddling::None);

    broker.start_again().await;
    assert!(
        denied_within(PATIENCE, &place, &holder).await,
        "it works on"
    );
    assert!(place.works(&other).await);
    cut_off(&broker, &request).await;
}

async fn cut_off(broker: &Broker, request: &serde_json::Value) {
    // Another broker's claim has to run out first: the one that died holds it.
    within(
        Duration::from_secs(60),
        "it is called cut off",
        async || {
            let request = broker.request(EXPORTER, request).await;
            (request["lease"]["state"] == "cut_off").then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn l03_case_122_killed_before_the_guard_is_written() {
    killed_while_revoking(Meddling::HoldCalls("CreatePolicyVersion")).await;
}

#[tokio::test]
async fn l03_case_122_killed_after_the_guard_is_written() {
    killed_while_revoking(Meddling::HoldAnswers("CreatePolicyVersion")).await;
}

#[tokio::test]
async fn l03_case_122_killed_while_it_looks_whether_the_session_is_denied() {
    killed_while_revoking(Meddling::HoldAnswers("ListQueues")).await;
}

#[tokio::test]
async fn l04_access_is_cut_while_the_proof_cannot_be_had() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (request, credential) = live(&broker, 300).await;
    let holder = place.holder(&credential);
    place.meddler.meddle(Meddling::HoldCalls("ListQueues"));
    let path = format!("/v1/leases/{}/revoke", lease(&request));
    broker.post(&path, &place.operator(), &json!({})).await;
    assert!(
        denied_within(PATIENCE, &place, &holder).await,
        "it works on"
    );
    let now = broker.request(EXPORTER, &request).await;
    assert_eq!(now["lease"]["state"], "ending", "{now}");
    place.meddler.meddle(Meddling::None);
    until("it is called cut off", async || {
        let now = broker.request(EXPORTER, &request).await;
        (now["lease"]["state"] == "cut_off").then_some(())
    })
    .await;
}
