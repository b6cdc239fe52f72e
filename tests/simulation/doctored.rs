//! A store in the hands of somebody who means harm, or of an unlucky restore. They can write what they like, and they
//! do not have the log's key.

use std::sync::Arc;
use std::time::Duration;

use countersign::broker::{Broker, BrokerError};
use countersign::domain::{Digest, RequestId, World};
use countersign::ledger::{SigningKey, Snapshot, Tree};
use countersign::store::{Fault, Head, KnownHead, MemoryHead, Operation, Store};

use super::forger::{Forged, approval, earlier_head, forge, rewrite, world_of};
use super::{Dice, ask, life};
use crate::support::house::House;

/// A request of `reporter` that waits for a person.
async fn pending(broker: &Broker, key: &str) -> (RequestId, Digest) {
    let agent = "reporter".parse().unwrap();
    let (request, _) = broker
        .submit(&agent, ask("customers.export", key.into()))
        .await
        .unwrap();
    (request.id().clone(), request.submission.digest)
}

/// Waits until the broker says that it does not believe its store.
async fn noticed(broker: &Broker) -> String {
    for _ in 0..1000 {
        if let Err(why) = broker.ready().await {
            return why;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing was noticed");
}

async fn cannot_collect(broker: &Broker, request: &RequestId) {
    let agent = "reporter".parse().unwrap();
    let collected = broker.collect(&agent, request, "k").await;
    assert!(
        matches!(
            collected,
            Err(BrokerError::InDoubt | BrokerError::Refused(_))
        ),
        "{collected:?}"
    );
}

#[test]
fn finding_b01_rows_written_into_the_store_mint_nothing() {
    for how in [
        Forged::KeptCheckpoint,
        Forged::OtherKey,
        Forged::NoCheckpoint,
    ] {
        let house = House::new(1);
        life(async {
            let (broker, _) = house.broker().await.unwrap();
            let (request, digest) = pending(&broker, "k").await;
            forge(&house, &[approval(&request, digest)], how);
            noticed(&broker).await;
            cannot_collect(&broker, &request).await;
            broker.stop().await;

            let (broker, _) = house.broker().await.unwrap();
            noticed(&broker).await;
            cannot_collect(&broker, &request).await;
            broker.stop().await;
        });
        assert_eq!(house.target.minted(), 0, "{how:?}");
    }
}

/// The first broker on a store remembers nothing; the key alone tells.
#[test]
fn finding_b01_rows_written_into_the_store_convince_no_new_broker() {
    let house = House::new(2);
    let request = life(async {
        let (broker, _) = house.broker().await.unwrap();
        let (request, digest) = pending(&broker, "k").await;
        broker.stop().await;
        forge(
            &house,
            &[approval(&request, digest)],
            Forged::KeptCheckpoint,
        );
        request
    });
    let mut elsewhere = house;
    elsewhere.known_head = Arc::default();
    life(async {
        let (broker, _) = elsewhere.broker().await.unwrap();
        noticed(&broker).await;
        cannot_collect(&broker, &request).await;
        broker.stop().await;
    });
    assert_eq!(elsewhere.target.minted(), 0);
}

/// Rows beyond the head tell nobody anything, and no broker begins on them.
#[test]
fn finding_b01_rows_beyond_the_head_are_nobodys_word() {
    let house = House::new(4);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let (request, digest) = pending(&broker, "k").await;
        let before = broker.timeline(&request).await.unwrap();
        let head = house.store.tamper(|contents| contents.head.clone());
        forge(
            &house,
            &[approval(&request, digest)],
            Forged::KeptCheckpoint,
        );
        house.store.tamper(|contents| contents.head = head);
        assert_eq!(broker.timeline(&request).await.unwrap(), before);
        cannot_collect(&broker, &request).await;
        broker.stop().await;

        let (broker, _) = house.broker().await.unwrap();
        let why = noticed(&broker).await;
        assert!(why.contains("beyond"), "{why}");
        broker.stop().await;
    });
    assert_eq!(house.target.minted(), 0);
}

/// A live lease of `reporter`; returns its request.
async fn lease(broker: &Broker, key: &str) -> RequestId {
    let agent = "reporter".parse().unwrap();
    let (request, _) = broker
        .submit(&agent, ask("orders.report", key.into()))
        .await
        .unwrap();
    broker.collect(&agent, request.id(), key).await.unwrap();
    request.id().clone()
}

#[test]
fn finding_b03_a_store_that_was_rolled_back_is_not_continued() {
    let house = House::new(3);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let backup = house.store.tamper(|contents| contents.clone());
        lease(&broker, "k").await;
        assert_eq!(house.target.live().len(), 1);
        house.store.tamper(|contents| *contents = backup.clone());
        noticed(&broker).await;
        let agent = "reporter".parse().unwrap();
        let more = broker.submit(&agent, ask("orders.report", "more".into()));
        assert!(matches!(more.await, Err(BrokerError::InDoubt)));
        // What ends access goes on: the lease is over in time.
        ended(&house).await;
        broker.stop().await;

        let (broker, _) = house.broker().await.unwrap();
        let why = noticed(&broker).await;
        assert!(why.contains("rolled back"), "{why}");
        let more = broker.submit(&agent, ask("orders.report", "more".into()));
        assert!(matches!(more.await, Err(BrokerError::InDoubt)));
        broker.stop().await;
        let size = house.store.head().await.unwrap().size;
        assert_eq!(size, backup.head.size, "nothing was appended");
    });
}

async fn ended(house: &House) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2 * 3600);
    while !house.target.live().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "never ends");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A lease that the rolled back store knows nothing of is found at the target; one it knows as live is ended in time.
#[test]
fn finding_b03_a_broker_that_starts_in_doubt_ends_what_is_at_the_target() {
    let house = House::new(4);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        lease(&broker, "known").await;
        let backup = house.store.tamper(|contents| contents.clone());
        lease(&broker, "lost").await;
        broker.stop().await;
        house.store.tamper(|contents| *contents = backup);
        assert_eq!(house.target.live().len(), 2);
        let (broker, _) = house.broker().await.unwrap();
        noticed(&broker).await;
        ended(&house).await;
        broker.stop().await;
    });
}

#[test]
fn finding_b03_another_history_of_the_same_length_is_not_continued() {
    let house = House::new(5);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let backup = house.store.tamper(|contents| contents.clone());
        pending(&broker, "one").await;
        let first = house
            .store
            .tamper(|contents| std::mem::replace(contents, backup));
        broker.stop().await;
        // Another broker with the same key, which knows nothing of the first history.
        let mut elsewhere = House::new(55);
        elsewhere.store = Arc::clone(&house.store);
        let (other, _) = elsewhere.broker().await.unwrap();
        pending(&other, "two").await;
        other.stop().await;
        let second = house.store.tamper(|contents| contents.clone());
        assert_eq!(first.head.size, second.head.size);
        assert_ne!(first.head.edge, second.head.edge);

        let (broker, _) = house.broker().await.unwrap();
        let why = noticed(&broker).await;
        assert!(why.contains("two histories"), "{why}");
        broker.stop().await;

        // And under a broker that runs.
        house.store.tamper(|contents| *contents = first);
        let (broker, _) = house.broker().await.unwrap();
        assert_eq!(broker.ready().await, Ok(()));
        house.store.tamper(|contents| *contents = second);
        let agent = "reporter".parse().unwrap();
        let more = broker.submit(&agent, ask("orders.report", "more".into()));
        assert!(matches!(more.await, Err(BrokerError::InDoubt)));
        noticed(&broker).await;
        broker.stop().await;
    });
}

#[test]
fn finding_b02_b17_a_snapshot_that_was_changed_is_not_believed() {
    let house = House::new(6);
    life(async {
        let (ports, _) = house.ports();
        let key = SigningKey::generate("countersign.example", |seed| seed.fill(7)).unwrap();
        let (broker, _) = house.broker().await.unwrap();
        let (request, digest) = pending(&broker, "k").await;
        broker.stop().await;
        let honest = house.store.tamper(|contents| contents.clone());
        let tree = Tree::from_head(&honest.head).unwrap();
        let seal =
            |key: &SigningKey, fold: &str, bytes: Vec<u8>| Snapshot::seal(key, &tree, fold, bytes);
        let world = serde_json::to_value(world_of(&honest)).unwrap();
        // The same request, approved in the snapshot only.
        forge(
            &house,
            &[approval(&request, digest)],
            Forged::KeptCheckpoint,
        );
        let mut approved = house.store.tamper(|contents| {
            let world = world_of(contents);
            *contents = honest.clone();
            serde_json::to_value(world).unwrap()
        });
        approved["size"] = world["size"].clone();
        let mut extended = approved.clone();
        extended["a_member_of_another_version"] = true.into();
        let bytes = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
        let other = SigningKey::generate("countersign.example", |seed| seed.fill(8)).unwrap();
        let mut swapped = seal(&key, World::FOLD, bytes(&world));
        swapped.bytes = bytes(&approved);
        let snapshots = [
            swapped,
            seal(&other, World::FOLD, bytes(&approved)),
            seal(&key, "countersign 0.0.1 fold 1", bytes(&approved)),
            seal(&key, World::FOLD, bytes(&extended)),
        ];
        for snapshot in snapshots {
            house
                .store
                .tamper(|contents| contents.snapshot = Some(snapshot));
            let (broker, _) = house.broker().await.unwrap();
            cannot_collect(&broker, &request).await;
            assert_eq!(broker.ready().await, Ok(()), "it is folded from the start");
            broker.stop().await;
        }
        drop(ports);
    });
    assert_eq!(house.target.minted(), 0);
}

/// An honest snapshot ahead of the newest known head continues it, or the store is not believed.
#[test]
fn finding_b03_a_snapshot_of_another_history_is_noticed() {
    let house = House::new(7);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let early = house.store.tamper(|contents| contents.head.clone());
        for n in 0..5 {
            pending(&broker, &format!("k{n}")).await;
        }
        broker.stop().await;
        let key = SigningKey::generate("countersign.example", |seed| seed.fill(7)).unwrap();
        house.store.tamper(|contents| {
            let tree = Tree::from_head(&contents.head).unwrap();
            let bytes = serde_json::to_vec(&world_of(contents)).unwrap();
            let snapshot = Snapshot::seal(&key, &tree, World::FOLD, bytes);
            contents.snapshot = Some(snapshot);
        });
        let knows = async |head: &Head| {
            let known = MemoryHead::default();
            known.keep(head.clone()).await.unwrap();
            Arc::new(known)
        };
        let mut behind = House::new(77);
        behind.known_head = knows(&early).await;
        behind.store = Arc::clone(&house.store);
        let (broker, _) = behind.broker().await.unwrap();
        assert_eq!(broker.ready().await, Ok(()));
        broker.stop().await;

        let other = House::new(78);
        let (broker, _) = other.broker().await.unwrap();
        pending(&broker, "elsewhere").await;
        let elsewhere = other.store.head().await.unwrap();
        broker.stop().await;
        let mut forked = House::new(79);
        forked.known_head = knows(&elsewhere).await;
        forked.store = Arc::clone(&house.store);
        let (broker, _) = forked.broker().await.unwrap();
        let why = noticed(&broker).await;
        assert!(why.contains("two histories"), "{why}");
        broker.stop().await;
    });
}

fn tamper(house: &House, dice: &Dice, victims: &[(RequestId, Digest)]) {
    let approvals: Vec<_> = victims
        .iter()
        .map(|(request, digest)| approval(request, *digest))
        .collect();
    match dice.below(6) {
        0 => forge(house, &approvals, Forged::KeptCheckpoint),
        1 => forge(house, &approvals, Forged::OtherKey),
        2 => forge(house, &approvals, Forged::NoCheckpoint),
        3 => house.store.tamper(|contents| {
            contents.head = earlier_head(contents, dice);
            let size = usize::try_from(contents.head.size).unwrap();
            contents.entries.truncate(size);
        }),
        4 => house
            .store
            .tamper(|contents| contents.head = earlier_head(contents, dice)),
        _ => house.store.tamper(|contents| rewrite(contents, dice)),
    }
}

/// Nobody approves the victims. Whatever is done to the store, while the broker works or between two starts, nothing is
/// minted for them, the store is not believed, and everything that was minted ends.
fn tampered_life(seed: u64) {
    let dice = Dice::new(seed);
    let house = match dice.below(2) {
        0 => House::new(seed),
        _ => House::guarded(seed, 50),
    };
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let mut victims = Vec::new();
        for n in 0..1 + dice.below(3) {
            lease(&broker, &format!("lease {n}")).await;
            victims.push(pending(&broker, &format!("victim {n}")).await);
        }
        let while_it_works = dice.below(2) == 0;
        if !while_it_works {
            broker.stop().await;
        }
        tamper(&house, &dice, &victims);
        if while_it_works {
            for (request, _) in &victims {
                let agent = "reporter".parse().unwrap();
                drop(broker.collect(&agent, request, "k").await);
                drop(
                    broker
                        .submit(&agent, ask("orders.report", request.to_string()))
                        .await,
                );
            }
            broker.stop().await;
        }
        let (broker, _) = house.broker().await.unwrap();
        assert!(
            broker.ready().await.is_err(),
            "seed {seed}: nothing was noticed"
        );
        for (request, _) in &victims {
            cannot_collect(&broker, request).await;
            assert!(
                !house.target.served(request),
                "seed {seed}: minted on a forgery"
            );
        }
        ended(&house).await;
        broker.stop().await;
    });
}

#[test]
fn finding_b01_no_forgery_mints_and_each_is_noticed_under_any_seed() {
    for seed in 0..200 {
        tampered_life(seed);
    }
}

/// A trigger that swallows updates of the head looks like another broker that is always first.
#[test]
fn finding_b03_a_store_that_takes_no_append_is_not_asked_without_end() {
    let house = House::new(8);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        house
            .store
            .set_faults(Some(Box::new(|operation| match operation {
                Operation::Append => Fault::Conflict,
                _ => Fault::Proceed,
            })));
        let agent = "reporter".parse().unwrap();
        let refused = broker.submit(&agent, ask("orders.report", "k".into()));
        assert!(matches!(
            refused.await,
            Err(BrokerError::Unavailable { .. })
        ));
        house.store.set_faults(None);
        lease(&broker, "later").await;
        broker.stop().await;
    });
}
