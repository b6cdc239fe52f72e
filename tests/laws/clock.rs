//! L15, on the pure core: the ledger's time, the operator's word on the wall clock, and what follows for targets.

use std::time::Duration;

use countersign::domain::command::RefusalCode;
use countersign::domain::{Command, Entry, Event, LeaseId, RequestId, Seconds, Time};
use countersign::issuers::{MintError, MintOrder};

use super::desk::{Desk, server};

const HOUR: i64 = 3_600_000;

fn shifted(time: Time, by: i64) -> Time {
    Time::from_millis(time.millis() + by)
}

fn accept(desk: &mut Desk, wall: Time) -> Result<Vec<Event>, RefusalCode> {
    desk.tell(&Command::AcceptClock { wall, reason: None })
}

#[test]
fn finding_b05_an_entry_is_never_earlier_than_the_one_before() {
    let mut desk = Desk::new();
    let entry = |time| Entry {
        v: desk.entries[0].v,
        seq: desk.world.size,
        time,
        actor: desk.entries[0].actor.clone(),
        event: desk.entries[2].event.clone(),
    };
    let early = entry(shifted(desk.world.time, -1));
    let before = desk.world.clone();
    assert!(desk.world.apply(&early).is_err());
    assert_eq!(desk.world, before, "and then the world is as it was");
}

#[test]
fn finding_b05_only_what_is_apart_is_accepted() {
    let mut desk = Desk::new();
    let now = desk.now;
    for by in [0, 5_000, -5_000] {
        let answer = accept(&mut desk, shifted(now, by));
        assert_eq!(answer, Err(RefusalCode::ClockNotApart), "{by}");
    }
    assert_eq!(accept(&mut desk, shifted(now, -HOUR)).unwrap().len(), 1);
    assert_eq!(desk.world.time, now, "the ledger's time never goes back");
    assert_eq!(desk.world.clock.ahead_at(now), HOUR);
    let again = accept(&mut desk, shifted(now, -HOUR));
    assert_eq!(again, Err(RefusalCode::ClockNotApart));
    assert_eq!(accept(&mut desk, shifted(now, HOUR)).unwrap().len(), 1);
    assert_eq!(
        desk.world.time,
        shifted(now, HOUR),
        "it goes on from the wall clock"
    );
    desk.now = desk.world.time;
    assert_eq!(desk.world.clock.ahead_at(desk.now), 0);
    desk.check();
}

/// What a target was told before the operator's word counts as it was told; what it is told after, less the difference.
#[test]
fn finding_b05_a_target_is_asked_for_the_end_that_it_was_told() {
    let mut desk = Desk::new();
    let live = |desk: &mut Desk, key: &str| {
        let request = desk.submit("reporter", "orders.report").unwrap();
        let lease = desk.collect("reporter", &request, key).unwrap();
        desk.minted(&lease).unwrap();
        desk.world.leases[&lease].clone()
    };
    let before = live(&mut desk, "before");
    desk.now = shifted(desk.now, 10_000);
    let now = desk.now;
    accept(&mut desk, shifted(now, -HOUR)).unwrap();
    let after = live(&mut desk, "after");
    let clock = desk.world.clock;
    assert_eq!(clock.end_of(&before), before.expires, "never too early");
    let off = clock.end_of(&after).millis() - (after.expires.millis() - HOUR);
    let life = i64::try_from(after.ttl_seconds.0 * 1_000).unwrap();
    assert!((0..=life / 2_000).contains(&off), "{off} ms");
    assert_eq!(clock.right_at(shifted(now, -1)), shifted(now, -1));
    assert_eq!(clock.right_at(now), shifted(now, -HOUR));
}

#[test]
fn finding_b05_an_order_says_how_long_and_time_only_shrinks() {
    let ordered = Time::from_millis(1_795_343_400_000);
    let order = MintOrder {
        lease: LeaseId::draw(ordered, 1),
        request: RequestId::draw(ordered, 2),
        agent: "reporter".into(),
        sponsor: "owner".into(),
        scope: serde_json::Value::Null,
        server: server(),
        ordered,
        ttl: Duration::from_secs(300),
        mint_within: Duration::from_secs(60),
    };
    let left = order.left(ordered.plus(Seconds(10))).unwrap();
    assert_eq!(left.ttl, Duration::from_secs(290));
    assert_eq!(left.mint_within, Duration::from_secs(50));
    let earlier = order.left(shifted(ordered, -HOUR)).unwrap();
    assert_eq!(earlier.ttl, order.ttl, "never more than was ordered");
    for late in [60, 300, 3_600] {
        let none = order.left(ordered.plus(Seconds(late)));
        assert!(matches!(none, Err(MintError::Unavailable { .. })), "{late}");
    }
}
