//! A ledger that is ahead of the wall clock, under the real broker.

use std::fs;
use std::time::Duration;

use countersign::domain::{Seconds, Time};
use serde_json::{Value, json};

use super::REPORTER;
use super::broker::Broker;
use super::cli::{countersign, local, run};
use super::place::{Place, column};

/// As if the last broker on this start of the machine had gone on from a ledger that was an hour ahead.
fn put_ahead(place: &Place) {
    let path = place.dir.join("state/clock.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let time: Time = serde_json::from_value(kept["time"].clone()).unwrap();
    kept["time"] = json!(time.plus(Seconds(3600)));
    fs::write(&path, kept.to_string()).unwrap();
}

async fn accept(broker: &Broker, operator: &str) -> Option<i32> {
    let words = ["clock", "accept", "--reason", "the other host was wrong"];
    run(countersign(&broker.base, operator, &words)).await.code
}

#[tokio::test]
async fn finding_b05_a_ledger_an_hour_ahead_is_told_of_and_makes_no_lease_live_longer() {
    let place = Place::open().await;
    let operator = {
        let mut broker = Broker::dev(&place).await;
        broker.live(600).await;
        broker.stop().await;
        put_ahead(&place);
        place.operator()
    };
    let broker = Broker::dev(&place).await;
    let request = broker.ask_for_report(60).await;
    let refused = broker.collect(REPORTER, &request).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["code"]),
        (503, &json!("clock_apart")),
        "{refused:?}"
    );
    let ready = broker.get("/readyz", "").await.body;
    let told = |side: &str| ready["clock_apart"][side].as_str().unwrap().to_owned();
    assert!(told("ledger") > told("wall"), "{ready}");
    let looked = local(&["doctor", "."], &place.dir).await;
    assert!(
        looked.out.contains("behind the ledger's time"),
        "{looked:?}"
    );
    assert_eq!(accept(&broker, &operator).await, Some(0));
    assert_eq!(
        accept(&broker, &operator).await,
        Some(9),
        "there is nothing to accept"
    );
    let collected = broker.collect(REPORTER, &request).await;
    assert_eq!(
        collected.status, 200,
        "the approval was not used up: {collected:?}"
    );
    assert_eq!(
        broker.finish(REPORTER, &request).await["outcome"],
        "completed"
    );
    let (short, credential) = broker.live(3).await;
    let mut session = place.log_in(&credential).await.unwrap();
    let outcome = broker
        .closed(Duration::from_secs(30), REPORTER, &short)
        .await;
    assert_eq!(outcome, "expired");
    assert!(column(&mut session, "SELECT 1::text").await.is_err());
    let log = fs::read_to_string(&broker.log).unwrap();
    assert!(log.contains("nothing is minted, what has to end ends"));
}
