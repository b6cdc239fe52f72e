//! The broker dies between the target's commit and its own record of it.

use std::time::Duration;

use super::broker::Broker;
use super::cli::local;
use super::place::Place;
use super::relay::Relay;
use super::{REPORTER, until, within};

#[tokio::test]
async fn l03_case_122_killed_between_mint_and_record_nothing_is_left_after_the_restart() {
    let place = Place::open().await;
    let target = place.superuser.port().unwrap();
    let relay = Relay::to(([127, 0, 0, 1], target).into()).await;
    place.edit("countersign.toml", |text| {
        text.replace(
            &format!("port = {target}"),
            &format!("port = {}", relay.port),
        )
    });
    let mut broker = Broker::dev(&place).await;
    let request = broker.ask_for_report(300).await;

    relay.hold_answers_after(b"lease_mint(");
    let collecting = broker.collect(REPORTER, &request);
    let minted = async {
        relay.holds().await;
        until("the role exists", async || place.credentials().await.pop()).await
    };
    let role = tokio::select! {
        role = minted => role,
        answer = collecting => panic!("the credential was given out: {answer:?}"),
    };
    broker.kill().await;
    relay.release();
    assert_eq!(place.credentials().await, [role.as_str()]);

    broker.start_again().await;
    within(Duration::from_secs(30), "the role is gone", async || {
        place.credentials().await.is_empty().then_some(())
    })
    .await;
    // Nobody got that credential, so the grant stands and may be collected once more.
    until("its end is proven", async || {
        let now = broker.request(REPORTER, &request).await;
        (now["state"] == "approved").then_some(())
    })
    .await;
    let collected = broker.collect(REPORTER, &request).await;
    assert_ne!(
        collected.body["credential"]["user"],
        role.as_str(),
        "{collected:?}"
    );
    broker.finish(REPORTER, &request).await;
    let ledger = broker.ledger(&place.operator()).await;
    // Intent, with the lease the role is named after, came before the target was called.
    let lease = role.strip_prefix("jit_").unwrap();
    let intended = ledger.iter().find(|entry| entry.contains("lease.intended"));
    assert!(
        intended.unwrap().contains(&format!("lse_{lease}")),
        "{role}: {ledger:#?}"
    );
    assert!(broker.stop().await.success());
    let verified = local(&["ledger", "verify", "state"], &place.dir)
        .await
        .fine();
    assert!(verified.out.contains("verified"), "{verified:?}");
}

#[tokio::test]
async fn l03_a_broker_killed_while_it_serves_comes_back_with_a_ledger_that_verifies() {
    let place = Place::open().await;
    let mut broker = Broker::dev(&place).await;
    let (request, credential) = broker.live(60).await;
    broker.kill().await;
    assert!(place.log_in(&credential).await.is_ok());
    broker.start_again().await;
    let closed = broker.finish(REPORTER, &request).await;
    assert_eq!(closed["outcome"], "completed");
    assert!(place.log_in(&credential).await.is_err());
    broker.kill().await;
    local(&["ledger", "verify", "state"], &place.dir)
        .await
        .fine();
}
