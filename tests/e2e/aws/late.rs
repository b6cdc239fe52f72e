//! AWS takes its time, and the broker does not say otherwise.

use std::time::Duration;

use serde_json::json;

use super::place::AwsPlace;
use super::{EXPORTER, ask, lease, live, revoke};
use crate::e2e::until;
use crate::support::aws::Meddling;

#[tokio::test]
async fn l04_nothing_is_called_cut_off_while_iam_still_lets_it_work() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (request, credential) = live(&broker, 120).await;
    let holder = place.holder(&credential);
    place
        .meddler
        .meddle(Meddling::LateGuard(Duration::from_secs(4)));
    let path = format!("/v1/leases/{}/revoke", lease(&request));
    broker.post(&path, &place.operator(), &json!({})).await;
    // IAM shows the new version from here on.
    until("the guard is written", async || {
        (place.meddler.calls("CreatePolicyVersion") > 1).then_some(())
    })
    .await;
    let mut worked = 0;
    until("the lease is called cut off", async || {
        // Asked before it is tried: what is called cut off must be denied from then on.
        let state = broker.request(EXPORTER, &request).await["lease"]["state"].clone();
        let works = place.works(&holder).await;
        assert!(
            !(works && state == "cut_off"),
            "it works, and is called {state}"
        );
        worked += usize::from(works);
        (state == "cut_off").then_some(())
    })
    .await;
    assert!(
        worked > 10,
        "IAM was not late: the credential worked {worked} times"
    );
    place.meddler.meddle(Meddling::None);
}

#[tokio::test]
async fn case_096_a_throttled_mint_uses_no_approval_up() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let request = ask(&broker, 60).await;
    place.meddler.meddle(Meddling::Throttle("AssumeRole"));
    let busy = broker.collect(EXPORTER, &request).await;
    assert!(busy.status.is_server_error(), "{busy:?}");
    place.meddler.meddle(Meddling::None);
    let collected = until("it can be collected", async || {
        let answer = broker.collect(EXPORTER, &request).await;
        answer.status.is_success().then_some(answer)
    })
    .await;
    let holder = place.holder(&collected.body["credential"]);
    assert!(place.works(&holder).await);
}

#[tokio::test]
async fn case_096_a_throttled_guard_delays_the_cut_and_loses_nothing() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (request, credential) = live(&broker, 120).await;
    place
        .meddler
        .meddle(Meddling::Throttle("CreatePolicyVersion"));
    let path = format!("/v1/leases/{}/revoke", lease(&request));
    broker.post(&path, &place.operator(), &json!({})).await;
    until("IAM was asked", async || {
        (place.meddler.calls("CreatePolicyVersion") > 2).then_some(())
    })
    .await;
    let state = broker.request(EXPORTER, &request).await;
    assert_eq!(state["lease"]["state"], "ending", "{state}");
    place.meddler.meddle(Meddling::None);
    let cut = revoke(&broker, &place.operator(), &request).await;
    assert_eq!(cut["lease"]["state"], "cut_off", "{cut}");
    assert!(!place.works(&place.holder(&credential)).await);
}
