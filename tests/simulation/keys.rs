//! B8: what an idempotency key led to is looked up in the ledger; the world holds the keys of the last minutes only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::broker::{Broker, BrokerError};
use countersign::domain::{AgentName, Digest, Request, World};
use countersign::store::{Fault, Operation, Store};

use super::{House, ask, life};

fn agent() -> AgentName {
    "reporter".parse().unwrap()
}

async fn submit(broker: &Broker, key: &str) -> (Request, bool) {
    let asked = ask("orders.report", key.into());
    broker.submit(&agent(), asked).await.unwrap()
}

/// Lets time pass, in the ledger too.
async fn pass(broker: &Broker, seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (tick, _) = submit(broker, &format!("tick {:?}", broker.now())).await;
    broker.withdraw(&agent(), tick.id()).await.unwrap();
}

#[test]
fn finding_b08_a_key_stands_for_its_request_for_a_day() {
    let house = House::new(31);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let (first, replayed) = submit(&broker, "k").await;
        assert!(!replayed);
        let again = async |state: &str| {
            let (again, replayed) = submit(&broker, "k").await;
            assert_eq!((again.id(), replayed), (first.id(), true));
            assert_eq!(again.state.word(), state);
        };
        again("approved").await;
        pass(&broker, 601).await;
        again("approved").await;
        broker.withdraw(&agent(), first.id()).await.unwrap();
        again("closed").await;
        pass(&broker, 23 * 3600).await;
        again("closed").await;

        let mut world = World::default();
        for entry in &house.entries().await {
            world.apply(entry).unwrap();
        }
        let held: usize = world.recent.values().map(|keys| keys.len()).sum();
        assert_eq!(held, 1, "the latest tick: the world holds no others");

        let mut other = ask("orders.report", "k".into());
        other.fingerprint = Digest::of(b"another body");
        let refused = broker.submit(&agent(), other).await;
        assert!(
            matches!(&refused, Err(BrokerError::Refused(no)) if no.code.word() == "idempotency_mismatch"),
            "{refused:?}"
        );
        let fixer = "fixer".parse().unwrap();
        let theirs = broker.submit(&fixer, ask("orders.report", "k".into()));
        assert!(
            !theirs.await.unwrap().1,
            "another agent's key is another key"
        );

        pass(&broker, 3600).await;
        let (anew, replayed) = submit(&broker, "k").await;
        assert!(
            !replayed && anew.id() != first.id(),
            "a day later it is free"
        );
        broker.stop().await;
    });
}

/// L8: without an answer from the store nobody knows whether the key was used, so nothing is asked twice.
#[test]
fn finding_b08_a_key_that_cannot_be_looked_up_leads_to_nothing() {
    let house = House::new(32);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let (first, _) = submit(&broker, "k").await;
        pass(&broker, 601).await;
        let before = house.entries().await.len();
        let agent = agent();
        let asked = || broker.submit(&agent, ask("orders.report", "k".into()));
        house
            .store
            .set_faults(Some(Box::new(|operation| match operation {
                Operation::Find => Fault::Fail,
                _ => Fault::Proceed,
            })));
        let answer = asked().await;
        assert!(
            matches!(answer, Err(BrokerError::Unavailable { .. })),
            "{answer:?}"
        );
        house.store.set_faults(None);
        // Somebody with the database in hand hides the key, and puts it on another entry.
        let hidden = house.store.tamper(|contents| {
            let rows = contents.entries.iter_mut();
            let mut with_keys = rows.filter(|row| row.index.key.is_some());
            let (first, second) = (with_keys.next().unwrap(), with_keys.next().unwrap());
            std::mem::swap(&mut first.index.key, &mut second.index.key);
            (first.seq, second.seq)
        });
        let answer = asked().await;
        assert!(
            matches!(answer, Err(BrokerError::Unavailable { .. })),
            "{hidden:?}: {answer:?}"
        );
        assert_eq!(house.entries().await.len(), before, "nothing was asked");
        house.store.tamper(|contents| {
            let rows = contents.entries.iter_mut();
            let mut with_keys = rows.filter(|row| row.index.key.is_some());
            let (first, second) = (with_keys.next().unwrap(), with_keys.next().unwrap());
            std::mem::swap(&mut first.index.key, &mut second.index.key);
        });
        assert_eq!(asked().await.unwrap().0.id(), first.id());
        broker.stop().await;
    });
}

/// B8: a broker that stops leaves the next start nothing to fold.
#[test]
fn finding_b08_a_broker_that_stops_writes_a_snapshot() {
    let house = House::new(33);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        submit(&broker, "k").await;
        assert_eq!(house.store.snapshot().await.unwrap(), None);
        broker.stop().await;
        let snapshot = house.store.snapshot().await.unwrap().unwrap();
        assert_eq!(snapshot.size, house.store.head().await.unwrap().size);
    });
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        assert!(
            submit(&broker, "k").await.1,
            "what it folded into is all there"
        );
        broker.stop().await;
    });
}

/// A new key costs the store nothing; one of a day ago is looked up, also by a broker that has just started.
#[test]
fn finding_b08_only_keys_that_may_be_known_are_looked_up() {
    let house = House::new(33);
    let found = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&found);
    house.store.set_faults(Some(Box::new(move |operation| {
        if operation == Operation::Find {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Fault::Proceed
    })));
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let (first, _) = submit(&broker, "k").await;
        pass(&broker, 601).await;
        broker.stop().await;
        let (broker, _) = house.broker().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = found.load(Ordering::SeqCst);
        for number in 0..5 {
            let (new, replayed) = submit(&broker, &format!("new {number}")).await;
            assert!(!replayed && new.id() != first.id());
        }
        assert_eq!(
            found.load(Ordering::SeqCst),
            before,
            "nothing was looked up"
        );
        let (again, replayed) = submit(&broker, "k").await;
        assert_eq!((again.id(), replayed), (first.id(), true));
        assert!(found.load(Ordering::SeqCst) > before);
        broker.stop().await;
    });
}
