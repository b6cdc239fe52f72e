//! Would these tests notice? With a safeguard taken away on the wire, each as if the broker had left it out, the laws
//! find exactly what they are there to find.

use super::ends::expiry;
use super::laws::{beyond_scope, outlives, survives_revocation};
use super::live;
use super::place::AwsPlace;
use crate::support::aws::Meddling;

#[tokio::test]
async fn a_guard_that_is_never_written_is_noticed() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let (one, credential) = live(&broker, 60).await;
    let holder = place.holder(&credential);
    let (_, credential) = live(&broker, 60).await;
    let other = place.holder(&credential);
    place.meddler.meddle(Meddling::NoGuard);
    let findings = survives_revocation(&place, &broker, (&one, &holder), &other).await;
    assert_eq!(findings, ["it works after its revocation"]);
}

#[tokio::test]
async fn a_session_without_its_fence_is_noticed() {
    let place = AwsPlace::open().await;
    let mut broker = place.dev().await;
    place.meddler.meddle(Meddling::NoFence);
    let (_, credential) = live(&broker, 5).await;
    broker.kill().await;
    let findings = outlives(&place, &place.holder(&credential), expiry(&credential)).await;
    assert_eq!(findings, ["it works after its time"]);
}

#[tokio::test]
async fn a_session_without_a_policy_of_its_own_is_noticed() {
    let place = AwsPlace::open().await;
    for sibling in ["orders-exports-evil", "orders-export"] {
        place.corner.bucket(sibling).await;
    }
    let broker = place.dev().await;
    place.meddler.meddle(Meddling::NoSessionPolicy);
    let (_, credential) = live(&broker, 60).await;
    let findings = beyond_scope(&place, &place.holder(&credential)).await;
    for what in [
        "put orders.csv",
        "put into ",
        "GET /",
        "ListQueues",
        "ListTables",
    ] {
        let noticed = findings.iter().any(|finding| finding.starts_with(what));
        assert!(noticed, "{what}: {findings:#?}");
    }
}
