//! Duties under load and misfortune: a dead target, an issuer that panics, a loop that ends, an order cut short by a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::broker::Broker;
use countersign::domain::{Event, RequestId};
use countersign::store::{Fault, Operation};
use countersign::system::Clock;
use serde_json::Map;
use tokio::sync::Notify;

use super::{ask, calm_life, judge, life};
use crate::support::house::House;
use crate::support::target::TargetFault;

/// A live lease of a new request.
async fn live(broker: &Broker, key: &str) -> RequestId {
    let agent = "reporter".parse().unwrap();
    let asked = broker.submit(&agent, ask("orders.report", key.into()));
    let id = asked.await.unwrap().0.id().clone();
    broker.collect(&agent, &id, key).await.unwrap();
    id
}

async fn closes(broker: &Broker, id: &RequestId, within: u64) {
    let within = Duration::from_secs(within);
    for stage in ["live", "ending"] {
        broker.wait(id, stage, within).await.unwrap();
    }
    let request = broker.request(id).await.unwrap().unwrap();
    assert_eq!(request.state.word(), "closed");
}

/// B6: many leases due at a target that is dead for an hour cost a handful of entries, and end within a minute of its return.
#[test]
fn finding_b06_a_dead_target_costs_no_entries_and_is_done_with_when_it_returns() {
    let house = House::new(21);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let mut ids = Vec::new();
        for number in 0..90 {
            ids.push(live(&broker, &format!("k{number}")).await);
        }
        house
            .target
            .set_faults(Some(Box::new(|_| TargetFault::Away)));
        for id in &ids {
            broker.finish(&agent, id, Map::new()).await.unwrap();
        }
        let before = house.entries().await.len();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let grown = house.entries().await.len() - before;
        assert!(grown < 30, "{grown} entries in an hour for 90 leases");
        assert!(broker.outage(&"shop".parse().unwrap()).is_some());
        house.target.set_faults(None);
        for id in &ids {
            closes(&broker, id, 60).await;
        }
        assert!(broker.outage(&"shop".parse().unwrap()).is_none());
        let entries = house.entries().await;
        let of_kind = |kind| entries.iter().filter(|it| it.event.kind() == kind).count();
        assert_eq!((of_kind("target.away"), of_kind("target.back")), (1, 1));
        broker.stop().await;
    });
    judge(&house);
}

/// B6: a target that hangs is away, too; its leases end when it answers again.
#[test]
fn finding_b06_a_hanging_target_is_away() {
    let house = House::new(22);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let id = live(&broker, "k").await;
        house
            .target
            .set_faults(Some(Box::new(|_| TargetFault::HangsBefore)));
        broker.finish(&agent, &id, Map::new()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(house.entries().await.len() < 30);
        house.target.set_faults(None);
        closes(&broker, &id, 60).await;
        broker.stop().await;
    });
    judge(&house);
}

/// B6: a lease that fights leaves an entry when it is news, and holds up no other.
#[test]
fn finding_b06_a_lease_that_fights_for_an_hour_leaves_few_entries() {
    let house = House::new(23);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let fighter = live(&broker, "a").await;
        let handle = house.target.live().pop().unwrap();
        house.target.set_stuck(&handle, true);
        broker.finish(&agent, &fighter, Map::new()).await.unwrap();
        let before = house.entries().await.len();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let grown = house.entries().await.len() - before;
        assert!(grown <= 10, "{grown} entries in an hour");
        let other = live(&broker, "b").await;
        broker.finish(&agent, &other, Map::new()).await.unwrap();
        closes(&broker, &other, 5).await;
        house.target.set_stuck(&handle, false);
        closes(&broker, &fighter, 61).await;
        broker.stop().await;
    });
    judge(&house);
}

/// B9: an end that panics forgets no lease.
#[test]
fn finding_b09_a_panic_while_ending_forgets_no_lease() {
    let house = House::new(24);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let id = live(&broker, "k").await;
        let panicked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&panicked);
        house.target.set_faults(Some(Box::new(move |call| {
            assert!(
                call != "end" || count.fetch_add(1, Ordering::SeqCst) > 0,
                "as the test wants it"
            );
            TargetFault::Works
        })));
        broker.finish(&agent, &id, Map::new()).await.unwrap();
        closes(&broker, &id, 60).await;
        assert!(panicked.load(Ordering::SeqCst) > 1, "it was tried again");
        broker.stop().await;
    });
    judge(&house);
}

/// B9: a broker that has lost one of its loops says so, and is not ready.
#[test]
fn finding_b09_the_end_of_a_loop_is_the_end_of_the_broker() {
    let house = House::new(25);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        assert_eq!(broker.ready().await, Ok(()));
        house.target.set_panicking();
        let agent = "reporter".parse().unwrap();
        let asked = broker.submit(&agent, ask("orders.report", "k".into()));
        asked.await.unwrap();
        let why = tokio::time::timeout(Duration::from_secs(60), broker.broken());
        let why = why.await.unwrap();
        assert!(why.contains("shop"), "{why}");
        assert_eq!(broker.ready().await, Err(why));
    });
}

/// B9: a store that cannot be written, such as one on a full disk, is not ready, and is again without anybody's call.
#[test]
fn finding_b09_ready_means_that_a_write_is_possible() {
    let house = House::new(26);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        house
            .store
            .set_faults(Some(Box::new(|operation| match operation {
                Operation::Append | Operation::Remember => Fault::Fail,
                _ => Fault::Proceed,
            })));
        let agent = "reporter".parse().unwrap();
        let asked = broker.submit(&agent, ask("orders.report", "k".into()));
        assert!(asked.await.is_err());
        assert!(broker.ready().await.is_err());
        assert!(broker.ready().await.is_err(), "still");
        house.store.set_faults(None);
        assert_eq!(broker.ready().await, Ok(()));
        broker.stop().await;
    });
    calm_life(&house);
    judge(&house);
}

/// B12: the broker dies right after the one entry of an order; the next one does what it asks for.
#[test]
fn finding_b12_an_order_outlives_a_crash_right_after_its_entry() {
    let mut house = House::new(27);
    house.time = life(async {
        let (broker, clock) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        for key in ["a", "b"] {
            live(&broker, key).await;
        }
        let asked = broker.submit(&agent, ask("customers.export", "c".into()));
        asked.await.unwrap();
        let written = Arc::new(Notify::new());
        let tell = Arc::clone(&written);
        house.store.set_faults(Some(Box::new(move |operation| {
            if operation != Operation::Append {
                return Fault::Proceed;
            }
            tell.notify_one();
            Fault::HangAfter
        })));
        tokio::select! {
            _ = broker.disable_agent(&agent) => panic!("the store hangs"),
            () = written.notified() => {}
        }
        clock.now()
    });
    let last = life(async { house.entries().await.pop().unwrap() });
    assert!(
        matches!(last.event, Event::AgentDisabled { .. }),
        "{last:?}"
    );
    assert_eq!(house.target.live().len(), 2);
    calm_life(&house);
    judge(&house);
}
