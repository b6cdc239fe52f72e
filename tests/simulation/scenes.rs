//! Single scenes: an orphan, a target away or hanging, a ledger that is down, two brokers.

use std::time::Duration;

use countersign::broker::BrokerError;
use countersign::domain::RequestId;
use countersign::store::{Fault, Operation};
use countersign::system::Clock;
use serde_json::Map;

use super::{Dice, ask, calm_life, judge, life, stories};
use crate::support::house::House;
use crate::support::target::TargetFault;

/// L3: orphans are gone within 30 s of the restart.
#[test]
fn l03_an_orphan_is_gone_within_30_seconds_of_a_restart() {
    let house = House::new(1);
    let dice = Dice::new(9);
    let lost = RequestId::draw(house.time, u128::from(dice.below(u64::MAX)));
    let handle = format!("jit_{}", lost.bare());
    house.target.plant(&handle, lost);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !house.target.live().is_empty() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "case_118: the orphan lives on"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        broker.stop().await;
    });
    judge(&house);
}

/// L3: an orphan that cannot be ended holds up no other, and is ended as soon as it can be.
#[test]
fn finding_t05_an_orphan_that_cannot_be_ended_stops_no_clean_up() {
    let house = House::new(11);
    let dice = Dice::new(9);
    let handles: Vec<_> = (0..5)
        .map(|_| {
            let lost = RequestId::draw(house.time, u128::from(dice.below(u64::MAX)));
            let handle = format!("jit_{}", lost.bare());
            house.target.plant(&handle, lost);
            handle
        })
        .collect();
    house.target.set_stuck(&handles[2], true);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let live = async |wanted: &[String], at_most| {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(at_most);
            while house.target.live() != wanted {
                assert!(tokio::time::Instant::now() < deadline, "{wanted:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        live(&handles[2..3], 30).await;
        house.target.set_stuck(&handles[2], false);
        live(&[], 61).await;
        broker.stop().await;
    });
    judge(&house);
}

/// L4, L8: another server answers for a while. Nothing is minted there, nothing is called ended, and when the old one is
/// back what had to end ends.
#[test]
fn finding_t14_nothing_is_minted_or_proven_at_another_server() {
    let house = House::new(12);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let submit = async |key: &str| {
            let asked = broker.submit(&agent, ask("orders.report", key.into()));
            asked.await.unwrap().0.id().clone()
        };
        let (live, waiting) = (submit("a").await, submit("b").await);
        broker.collect(&agent, &live, "a").await.unwrap();
        house.target.set_elsewhere(true);
        let refused = broker.collect(&agent, &waiting, "b").await;
        assert!(
            matches!(&refused, Err(BrokerError::Refused(no)) if no.code.word() == "target_changed"),
            "{refused:?}"
        );
        broker.finish(&agent, &live, Map::new()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let request = broker.request(&live).await.unwrap().unwrap();
        assert_eq!(request.state.word(), "ending", "never called ended");
        assert_eq!(house.target.live().len(), 1);
        house.target.set_elsewhere(false);
        let closed = broker.wait(&live, "ending", Duration::from_secs(61)).await;
        assert_eq!(closed.unwrap().unwrap().state.word(), "closed");
        let collected = broker.collect(&agent, &waiting, "b").await;
        assert!(collected.is_ok(), "the approval was not used up");
        broker.finish(&agent, &waiting, Map::new()).await.unwrap();
        let closed = broker.wait(&waiting, "ending", Duration::from_secs(61));
        assert_eq!(closed.await.unwrap().unwrap().state.word(), "closed");
        broker.stop().await;
    });
    judge(&house);
}

/// L4, L8: the target is away for two hours; the revocation is never given up.
#[test]
fn l08_case_124_a_revocation_is_retried_for_ever() {
    let house = House::new(2);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let (request, _) = broker
            .submit(&agent, ask("orders.report", "k".into()))
            .await
            .unwrap();
        broker.collect(&agent, request.id(), "k").await.unwrap();
        house
            .target
            .set_faults(Some(Box::new(|_| TargetFault::Away)));
        broker
            .finish(&agent, request.id(), Map::new())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        assert_eq!(house.target.live().len(), 1);
        house.target.set_faults(None);
        let at_most = Duration::from_secs(61);
        let request = broker
            .wait(request.id(), "ending", at_most)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            request.state.word(),
            "closed",
            "ended within a minute of the return"
        );
        broker.stop().await;
    });
    judge(&house);
}

/// L4, L5, L8: while the ledger cannot be written nothing is minted, and what has to end ends all the same.
#[test]
fn l08_case_143_revocation_goes_on_while_the_ledger_is_down() {
    let house = House::new(4);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        let mut ids = Vec::new();
        for key in ["finished", "expiring"] {
            let (request, _) = broker
                .submit(&agent, ask("orders.report", key.into()))
                .await
                .unwrap();
            broker.collect(&agent, request.id(), key).await.unwrap();
            ids.push(request.id().clone());
        }
        house
            .target
            .set_faults(Some(Box::new(|_| TargetFault::Away)));
        broker.finish(&agent, &ids[0], Map::new()).await.unwrap();
        house.store.set_faults(Some(Box::new(|operation| {
            if operation == Operation::Append {
                Fault::Fail
            } else {
                Fault::Proceed
            }
        })));
        house.target.set_faults(None);
        let refused = broker
            .submit(&agent, ask("orders.report", "new".into()))
            .await;
        assert!(
            matches!(refused, Err(BrokerError::Unavailable { .. })),
            "{refused:?}"
        );
        let before = house.entries().await.len();
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(
            house.target.live(),
            Vec::<String>::new(),
            "both ended without an entry"
        );
        assert_eq!(house.entries().await.len(), before);
        house.store.set_faults(None);
        for id in &ids {
            let at_most = Duration::from_secs(60);
            broker.wait(id, "live", at_most).await.unwrap();
            let request = broker.wait(id, "ending", at_most).await.unwrap().unwrap();
            assert_eq!(request.state.word(), "closed", "the entries follow");
        }
        broker.stop().await;
    });
    judge(&house);
}

/// L12: two brokers on one store serve the same stories; nothing is done twice.
#[test]
fn l12_case_137_two_brokers_on_one_store_never_both_act() {
    for seed in 0..60 {
        let mut house = House::new(seed);
        house.time = life(async {
            let (first, clock) = house.broker().await.unwrap();
            let (second, _) = house.broker().await.unwrap();
            tokio::join!(stories(&first, seed, 3), stories(&second, seed, 3));
            clock.now()
        });
        calm_life(&house);
        judge(&house);
    }
}

/// L10: a target that hangs for ever delays no other agent's verdict.
#[test]
fn l10_a_hanging_target_delays_no_verdict() {
    let house = House::new(3);
    life(async {
        let (broker, _) = house.broker().await.unwrap();
        let agent = "reporter".parse().unwrap();
        house
            .target
            .set_faults(Some(Box::new(|_| TargetFault::HangsBefore)));
        let (first, _) = broker
            .submit(&agent, ask("orders.report", "a".into()))
            .await
            .unwrap();
        let hanging = {
            let broker = broker.clone();
            let agent = agent.clone();
            let id = first.id().clone();
            async move { broker.collect(&agent, &id, "a").await }
        };
        let quick = async {
            let before = tokio::time::Instant::now();
            broker
                .submit(&agent, ask("orders.report", "b".into()))
                .await
                .unwrap();
            before.elapsed()
        };
        let (hung, took) = tokio::join!(hanging, quick);
        assert!(
            matches!(hung, Err(BrokerError::Unavailable { .. })),
            "L8: {hung:?}"
        );
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
    calm_life(&house);
    judge(&house);
}
