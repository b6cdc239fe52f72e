//! Duties that scale: orders are one entry, failures are told when they are news, a target that is away is told once.

use std::time::Duration;

use countersign::domain::command::{EndFailure, RefusalCode};
use countersign::domain::event::{BlobRef, Freeze};
use countersign::domain::request::{Outcome, ReviewDecision};
use countersign::domain::{
    Actor, Command, Digest, EndCause, Event, LeaseId, LeaseState, Owed, RequestId, Seconds,
};
use serde_json::Map;

use super::desk::{Desk, settle};
use crate::support::rules::reviewer;

/// A live lease of a new request.
fn live(desk: &mut Desk) -> (RequestId, LeaseId) {
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    (request, lease)
}

fn finish(desk: &mut Desk, request: &RequestId) {
    let agent = "reporter".parse().unwrap();
    let (request, report) = (request.clone(), Map::new());
    desk.tell(&Command::Finish {
        agent,
        request,
        report,
    })
    .unwrap();
}

fn freeze(desk: &mut Desk, on: bool) -> Vec<Event> {
    desk.tell(&Command::SetFreeze {
        by: Actor::Operator,
        freeze: Freeze::Everything,
        on,
    })
    .unwrap()
}

fn failed(code: &str, attempts: u32) -> EndFailure {
    EndFailure {
        code: code.into(),
        detail: String::new(),
        attempts,
        retry_in: Seconds(60),
    }
}

fn away(desk: &mut Desk, broker: &str) -> Vec<Event> {
    away_because(desk, broker, "target_unavailable")
}

fn away_because(desk: &mut Desk, broker: &str, code: &str) -> Vec<Event> {
    desk.tell(&Command::NoteTargetAway {
        target: "shop".parse().unwrap(),
        broker: broker.into(),
        code: code.into(),
        detail: "connection refused".into(),
    })
    .unwrap()
}

fn back(desk: &mut Desk) -> Vec<Event> {
    let target = "shop".parse().unwrap();
    desk.tell(&Command::NoteTargetBack { target }).unwrap()
}

fn abandon(desk: &mut Desk, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
    desk.tell(&Command::AbandonLease {
        lease: lease.clone(),
        reason: BlobRef {
            sha256: Digest::of(b"the server burned down"),
        },
    })
}

/// B12: a freeze is one entry, whatever it covers; `due` does the rest.
#[test]
fn finding_b12_a_freeze_is_one_entry_and_hands_nothing_out_before_its_duties_are_done() {
    let mut desk = Desk::new();
    let (held, lease) = live(&mut desk);
    let minting = desk.submit("reporter", "orders.report").unwrap();
    let minted = desk.collect("reporter", &minting, "k").unwrap();
    let approved = desk.submit("reporter", "orders.report").unwrap();
    let pending = desk.submit("reporter", "customers.export").unwrap();
    assert_eq!(freeze(&mut desk, true).len(), 1);
    // Lifting it brings nothing back, although nothing of it is done yet.
    freeze(&mut desk, false);

    let ben = reviewer("ben", &["support-leads"]);
    let approve = desk.review(&pending, &ben, ReviewDecision::Approve);
    assert_eq!(approve, Err(RefusalCode::NotPending));
    let collected = desk.collect("reporter", &approved, "k");
    assert_eq!(collected, Err(RefusalCode::Frozen));
    assert_eq!(
        desk.outcome(&approved),
        Some(Outcome::Frozen),
        "carried out"
    );
    let again = desk.collect("reporter", &held, "k");
    assert_eq!(again, Err(RefusalCode::Frozen));
    let cause = |desk: &Desk, lease: &LeaseId| match desk.world.leases[lease].state {
        LeaseState::Ending { cause, .. } => Some(cause),
        _ => None,
    };
    assert_eq!(cause(&desk, &lease), Some(EndCause::Frozen));
    let events = desk.minted(&minted).unwrap();
    assert!(
        matches!(
            &events[..],
            [Event::LeaseEnding {
                cause: EndCause::Frozen,
                ..
            }]
        ),
        "minted, and handed to nobody: {events:?}"
    );
    let lapsed = desk.lapse();
    assert_eq!(lapsed.len(), 1, "{lapsed:?}");
    assert_eq!(desk.outcome(&pending), Some(Outcome::Frozen));
    let fresh = desk.submit("reporter", "orders.report").unwrap();
    assert!(
        desk.collect("reporter", &fresh, "k").is_ok(),
        "it is lifted"
    );
    settle(&mut desk);
    assert_eq!(desk.outcome(&held), Some(Outcome::Revoked));
    desk.check();
}

/// B6: what lapses together is one command.
#[test]
fn finding_b06_lapses_go_in_batches() {
    let mut desk = Desk::new();
    let requests: Vec<_> = (0..80)
        .map(|_| desk.submit("reporter", "customers.export").unwrap())
        .collect();
    assert_eq!(desk.lapse(), [], "not yet");
    desk.now = desk.world.requests[&requests[0]].submission.pending_until;
    assert_eq!(desk.lapse().len(), 80);
    let lapsed = |request| desk.outcome(request) == Some(Outcome::Lapsed);
    assert!(requests.iter().all(lapsed));
    assert_eq!(desk.world.next_deadline(), None);
    desk.check();
}

/// B6: entries for changes of state, not for attempts.
#[test]
fn finding_b06_a_lease_that_fights_its_end_is_told_of_when_it_is_news() {
    let mut desk = Desk::new();
    let (request, lease) = live(&mut desk);
    finish(&mut desk, &request);
    let owed = Owed::Lease(lease.clone());
    desk.claim(&owed, "b1").unwrap();
    let mut told = Vec::new();
    for attempt in 1..=100 {
        let events = desk.record(&owed, "b1", Err(failed("session_alive", attempt)));
        if !events.unwrap().is_empty() {
            told.push(attempt);
        }
        desk.now = desk.now.plus(Seconds(60));
    }
    assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
    let other = desk.record(&owed, "b2", Err(failed("cleanup_blocked", 101)));
    assert_eq!(other.unwrap().len(), 1, "something else is in the way");
    let LeaseState::Ending {
        attempts, trouble, ..
    } = &desk.world.leases[&lease].state
    else {
        panic!();
    };
    assert_eq!(
        (*attempts, trouble.as_deref()),
        (101, Some("cleanup_blocked"))
    );
    settle(&mut desk);
    desk.check();
}

/// B6: an outage is one entry, its end another; what was claimed there is free at once.
#[test]
fn finding_b06_a_target_is_away_once_and_back_once() {
    let mut desk = Desk::new();
    let leases: Vec<_> = (0..3).map(|_| live(&mut desk)).collect();
    for (request, _) in &leases {
        finish(&mut desk, request);
    }
    let owed = |n: usize| Owed::Lease(leases[n].1.clone());
    desk.claim(&owed(0), "b1").unwrap();
    desk.claim(&owed(1), "b2").unwrap();
    assert_eq!(back(&mut desk), [], "it was not away");
    assert_eq!(away(&mut desk, "b1").len(), 1);
    assert_eq!(away(&mut desk, "b2"), []);
    assert!(desk.world.away.contains_key(&"shop".parse().unwrap()));
    let mut due = [owed(0), owed(2)];
    due.sort();
    assert_eq!(desk.owed(), due, "b1 has given its claim back");
    assert_eq!(back(&mut desk).len(), 1);
    assert_eq!(back(&mut desk), []);
    settle(&mut desk);
    desk.check();
}

/// B6: what is in the way is what was found last, since the first of it.
#[test]
fn finding_b06_an_outage_tells_its_latest_reason() {
    let mut desk = Desk::new();
    let target = "shop".parse().unwrap();
    away(&mut desk, "b1");
    let since = desk.world.away[&target].since;
    desk.now = desk.now.after(Duration::from_secs(60));
    assert_eq!(away_because(&mut desk, "b2", "read_only_target").len(), 1);
    assert_eq!(away_because(&mut desk, "b1", "read_only_target"), []);
    let outage = &desk.world.away[&target];
    assert_eq!(outage.code, "read_only_target");
    assert_eq!(outage.since, since);
    desk.check();
}

/// B7: a lease at a target that is gone for good leaves its agent's quota, and is not called ended.
#[test]
fn finding_b07_a_lease_is_given_up_only_when_its_end_keeps_failing() {
    let mut desk = Desk::new();
    desk.targets.room = Some(1);
    let (request, lease) = live(&mut desk);
    assert_eq!(abandon(&mut desk, &lease), Err(RefusalCode::NotStuck));
    finish(&mut desk, &request);
    assert_eq!(
        abandon(&mut desk, &lease),
        Err(RefusalCode::NotStuck),
        "its end is not even tried"
    );
    away(&mut desk, "b1");
    assert_eq!(abandon(&mut desk, &lease).unwrap().len(), 1);
    assert_eq!(abandon(&mut desk, &lease), Ok(Vec::new()));
    let agent = "reporter".parse().unwrap();
    assert_eq!(desk.world.open_requests_of(&agent), 0);
    assert!(desk.open(&request).is_none());
    let state = &desk.world.leases[&lease].state;
    assert_eq!(state.word(), "abandoned", "listed until it is proven gone");
    let next = desk.submit("reporter", "orders.report").unwrap();
    assert_eq!(
        desk.collect("reporter", &next, "k"),
        Err(RefusalCode::GuardFull),
        "it takes its guard's room"
    );
    // The target comes back: what was given up is ended like anything else.
    back(&mut desk);
    assert_eq!(desk.owed(), [Owed::Lease(lease.clone())]);
    desk.end(&lease).unwrap();
    assert!(desk.world.leases.is_empty());
    desk.check();
}

#[test]
fn finding_b07_a_lease_whose_end_has_failed_is_given_up() {
    let mut desk = Desk::new();
    let (request, lease) = live(&mut desk);
    finish(&mut desk, &request);
    let owed = Owed::Lease(lease.clone());
    desk.claim(&owed, "b1").unwrap();
    desk.record(&owed, "b1", Err(failed("session_alive", 1)))
        .unwrap();
    abandon(&mut desk, &lease).unwrap();
    settle(&mut desk);
    assert!(desk.world.leases.is_empty());
    desk.check();
}
