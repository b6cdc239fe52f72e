//! Wall clocks that are set, stop and drift, under brokers that mint, end and are started again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::broker::{Broker, BrokerError};
use countersign::domain::command::Revoker;
use countersign::domain::{RequestId, Time};
use countersign::system::Clock;

use super::{Dice, ask, calm_life, judge, life, stories};
use crate::support::house::{House, TokioClock, Wall};
use crate::support::target::TargetFault;

const HOUR: i64 = 3_600_000;
/// What a lease may live beyond its time: the most the time leans, and what an end takes.
const TOLERATED: Duration = Duration::from_secs(7);

async fn submitted(broker: &Broker, key: &str) -> RequestId {
    let agent = "reporter".parse().unwrap();
    let asked = broker.submit(&agent, ask("orders.report", key.into()));
    asked.await.unwrap().0.id().clone()
}

async fn collect(broker: &Broker, id: &RequestId, key: &str) -> Result<(), BrokerError> {
    let agent = "reporter".parse().unwrap();
    let collected = broker.collect(&agent, id, key).await?;
    broker.acknowledge(&agent, &collected.lease).await.map(drop)
}

fn is_apart(answer: Result<(), BrokerError>) -> bool {
    matches!(answer, Err(BrokerError::Refused(no)) if no.code.word() == "clock_apart")
}

/// How long the target still takes what it has now.
async fn lives_for(house: &House) -> Duration {
    let begun = tokio::time::Instant::now();
    loop {
        house.target.look_at_the_clock();
        if house.target.live().is_empty() {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(2 * 3600),
            "never ends"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn life_of_a_lease(house: &House, broker: &Broker, key: &str) -> Duration {
    let id = submitted(broker, key).await;
    collect(broker, &id, key).await.unwrap();
    lives_for(house).await
}

fn houses(seed: u64) -> [House; 2] {
    [House::new(seed), House::guarded(seed, 3)]
}

/// L4, L15: what was seen. One entry an hour ahead, by a broker whose wall clock was.
#[test]
fn finding_b05_an_entry_from_an_hour_ahead_makes_no_lease_live_longer() {
    for house in houses(21) {
        life(async {
            let time = house.true_time();
            let (broker, clock) = house.broker_on(&time, &house.wall).await.unwrap();
            let usual = life_of_a_lease(&house, &broker, "usual").await;
            let live = submitted(&broker, "live").await;
            collect(&broker, &live, "live").await.unwrap();
            let ahead = Arc::new(Wall::default());
            ahead.step(HOUR);
            let (stray, _) = house.broker_on(&time, &ahead).await.unwrap();
            submitted(&stray, "stray").await;
            stray.stop().await;
            house.target.set_brokers_clock(clock.clone());
            let id = submitted(&broker, "id").await;
            assert!(is_apart(collect(&broker, &id, "id").await));
            let apart = broker.clock_apart().unwrap();
            assert_eq!(apart.wall, clock.wall());
            assert!(apart.ledger.millis() - apart.wall.millis() > HOUR - 1_000);
            broker.revoke(Revoker::Operator, &live).await.ok();
            assert!(
                lives_for(&house).await < Duration::from_secs(10),
                "revocation works within its usual time"
            );
            let reason = Some("the other host was wrong".to_owned());
            let accepted = broker.accept_clock(clock.wall(), reason).await.unwrap();
            assert!(accepted.ledger > accepted.wall);
            assert_eq!(broker.clock_apart(), None);
            let now = life_of_a_lease(&house, &broker, "now").await;
            assert!(
                now.abs_diff(usual) <= Duration::from_secs(3),
                "{now:?}, not {usual:?}"
            );
            broker.stop().await;
        });
        calm_life(&house);
        judge(&house);
    }
}

/// L15: a wall clock that steps, either way, in the middle of a lease moves its end by nothing.
#[test]
fn finding_b05_a_step_of_the_wall_clock_moves_no_end() {
    for by in [HOUR, -HOUR] {
        for house in houses(22) {
            life(async {
                let time = house.true_time();
                let (broker, clock) = house.broker_on(&time, &house.wall).await.unwrap();
                let usual = life_of_a_lease(&house, &broker, "usual").await;
                let (id, next) = (submitted(&broker, "a").await, submitted(&broker, "b").await);
                collect(&broker, &id, "a").await.unwrap();
                house.wall.step(by);
                assert!(is_apart(collect(&broker, &next, "b").await));
                let stepped = lives_for(&house).await;
                assert!(
                    stepped.abs_diff(usual) <= Duration::from_secs(1),
                    "{stepped:?}, not {usual:?}"
                );
                house.wall.set_right();
                let again = submitted(&broker, "c").await;
                collect(&broker, &again, "c").await.unwrap();
                let revoked = broker.revoke(Revoker::Operator, &again).await;
                assert_eq!(revoked.unwrap().state.word(), "ending");
                assert_eq!(
                    clock.apart(),
                    None,
                    "set right again, nobody has to say anything"
                );
                broker.stop().await;
            });
            calm_life(&house);
            judge(&house);
        }
    }
}

/// L15: a wall clock that is accepted where it is ahead takes the ledger's time along, and what is over by then ends.
#[test]
fn finding_b05_a_wall_clock_accepted_ahead_ends_what_is_over() {
    let house = House::new(23);
    life(async {
        let time = house.true_time();
        let (broker, clock) = house.broker_on(&time, &house.wall).await.unwrap();
        let id = submitted(&broker, "a").await;
        collect(&broker, &id, "a").await.unwrap();
        let told = broker.accept_clock(clock.wall(), None).await;
        assert!(
            matches!(&told, Err(BrokerError::Refused(no)) if no.code.word() == "clock_not_apart"),
            "{told:?}"
        );
        house.wall.step(HOUR);
        let told = broker.accept_clock(clock.now(), None).await;
        assert!(
            matches!(&told, Err(BrokerError::Refused(no)) if no.code.word() == "clocks_differ"),
            "{told:?}"
        );
        broker.accept_clock(clock.wall(), None).await.unwrap();
        assert_eq!((clock.apart(), clock.now()), (None, clock.wall()));
        assert!(lives_for(&house).await < Duration::from_secs(10));
        broker.stop().await;
    });
    calm_life(&house);
    judge(&house);
}

/// L4, L15: a target that ends its sessions by its own clock, and was told too late an end, is not relied upon.
#[test]
fn finding_b05_a_session_that_its_target_still_takes_is_cut_off_at_its_end() {
    let mut house = House::guarded(25, 3);
    // At the very first start nothing tells that the wall clock is ahead.
    house.wall.step(180_000);
    house.time = life(async {
        let time = house.true_time();
        let (broker, _) = house.broker_on(&time, &house.wall).await.unwrap();
        let lived = life_of_a_lease(&house, &broker, "a").await;
        assert!(lived <= Duration::from_secs(300) + TOLERATED, "{lived:?}");
        let begun = tokio::time::Instant::now();
        while !broker.leases(&|_| true).is_empty() {
            house.target.look_at_the_clock();
            assert!(
                house.target.live().is_empty(),
                "what is cut off stays cut off"
            );
            assert!(begun.elapsed() < Duration::from_secs(300), "never ends");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        broker.stop().await;
        time.now()
    });
    calm_life(&house);
    judge(&house);
}

/// L15: a restart is no way around it, as long as the machine ran on; a weekend off needs nobody's word.
#[test]
fn finding_b05_a_restart_tells_a_step_from_a_weekend() {
    let start = |house: &mut House| {
        let (apart, now, time) = life(async {
            let time = house.true_time();
            let (broker, clock) = house.broker_on(&time, &house.wall).await.unwrap();
            let id = submitted(&broker, &format!("{}", clock.wall())).await;
            let minted = collect(&broker, &id, "key").await;
            broker.stop().await;
            *house.kept.lock().unwrap() = clock.kept();
            (is_apart(minted), clock.now(), time.now())
        });
        house.time = time;
        (apart, now)
    };
    let mut house = House::new(24);
    let (apart, before) = start(&mut house);
    assert!(!apart);
    house.wall.step(HOUR);
    let (apart, now) = start(&mut house);
    assert!(
        apart && now.millis() - before.millis() < 60_000,
        "the same start of the machine"
    );
    house.wall.set_right();
    let weekend = 2 * 24 * HOUR;
    for boots in [0, 1] {
        house.time = Time::from_millis(house.time.millis() + weekend);
        house.boots.fetch_add(boots, Ordering::SeqCst);
        assert!(
            !start(&mut house).0,
            "off for a weekend, {boots} starts of the machine"
        );
    }
    house.wall.step(-HOUR);
    house.boots.fetch_add(1, Ordering::SeqCst);
    assert!(start(&mut house).0, "behind the ledger");
}

/// Sets the wall clock as nobody should, and now and then says that it is right.
async fn meddle(house: &House, broker: &Broker, time: &TokioClock, honest: bool, dice: &Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.below(60_000))).await;
        let far = i64::try_from(dice.below(2 * 3_600_000)).unwrap() - HOUR;
        match dice.below(8) {
            0 | 1 => house.wall.step(far),
            2 => house.wall.step(far / 1000),
            3 => house.wall.stop(time.now()),
            4 => {
                for _ in 0..60 {
                    house.wall.step(far / 3_600);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            5 => {
                // A target that keeps its own time by what the operator says takes them at their word.
                if honest {
                    house.wall.set_right();
                }
                let wall = house.wall.shows(time.now());
                drop(broker.accept_clock(wall, None).await);
            }
            _ => house.wall.set_right(),
        }
    }
}

/// Sees that nothing lives beyond its time, and that nothing is minted while apart.
async fn watch(house: &House) {
    loop {
        let overdue = house.target.overdue(TOLERATED);
        for handle in &overdue {
            for entry in house.entries().await {
                let text = format!("{:?}", entry);
                if text.contains(&handle[4..]) || text.contains("Clock") {
                    eprintln!(
                        "DBG {} {}",
                        entry.seq,
                        text.chars().take(700).collect::<String>()
                    );
                }
            }
        }
        assert_eq!(overdue, Vec::<String>::new(), "L4, L15");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[test]
fn finding_b05_l15_holds_under_any_wall_clock() {
    let mut minted = 0;
    for seed in 0..100 {
        let dice = Dice::new(seed);
        let [plain, guarded] = houses(seed);
        let mut house = if seed % 2 == 0 { plain } else { guarded };
        for round in 0..2 {
            house.time = life(async {
                let time = house.true_time();
                let (broker, clock) = house.broker_on(&time, &house.wall).await.unwrap();
                let wrong = Arc::new(Mutex::new(Vec::new()));
                let (seen, clocks) = (Arc::clone(&wrong), Arc::clone(&clock));
                house.target.set_faults(Some(Box::new(move |call| {
                    if call == "mint"
                        && let Some(apart) = clocks.apart()
                    {
                        seen.lock().unwrap().push(apart.to_string());
                    }
                    TargetFault::Works
                })));
                let told = async {
                    for turn in 0..3 {
                        stories(&broker, seed * 7 + round * 3 + turn, 3).await;
                    }
                };
                tokio::select! {
                    () = told => {}
                    () = meddle(&house, &broker, &time, seed % 2 == 1, &dice) => {}
                    () = watch(&house) => {}
                }
                assert_eq!(
                    *wrong.lock().unwrap(),
                    Vec::<String>::new(),
                    "L8: minted while apart"
                );
                broker.stop().await;
                *house.kept.lock().unwrap() = clock.kept();
                time.now()
            });
            house.boots.fetch_add(dice.below(2), Ordering::SeqCst);
        }
        house.target.set_faults(None);
        calm_life(&house);
        judge(&house);
        minted += house.target.minted();
    }
    assert!(minted > 100, "too few mints to mean anything: {minted}");
}
