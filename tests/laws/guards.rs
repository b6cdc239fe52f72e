//! Leases at a target with a guard: cut off first, ended when they run out.

use countersign::domain::command::{RefusalCode, Revoker};
use countersign::domain::request::Outcome;
use countersign::domain::{
    Command, EndCause, Event, LeaseId, LeaseState, Owed, RequestId, RequestState,
};

use super::desk::{Desk, settle};

fn desk(room: usize) -> Desk {
    let mut desk = Desk::new();
    desk.targets.room = Some(room);
    desk
}

/// A live lease of a new request.
fn live(desk: &mut Desk) -> (RequestId, LeaseId) {
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    (request, lease)
}

fn revoke(desk: &mut Desk, request: &RequestId) {
    let (by, request) = (Revoker::Operator, request.clone());
    desk.tell(&Command::Revoke { by, request }).unwrap();
}

#[test]
fn l04_case_091_a_lease_is_cut_off_first_and_ended_when_it_has_run_out() {
    let mut desk = desk(10);
    let (request, lease) = live(&mut desk);
    let expires = desk.world.leases[&lease].expires;
    revoke(&mut desk, &request);
    assert_eq!(desk.world.leases[&lease].state.word(), "ending");
    desk.cut_off(&lease).unwrap();
    assert_eq!(desk.world.leases[&lease].state.word(), "cut_off");
    assert_eq!(
        desk.world.leases[&lease].cut_off_at(),
        Some(desk.now),
        "with its time"
    );
    assert!(
        matches!(
            desk.open(&request).unwrap().state,
            RequestState::Ending { .. }
        ),
        "never called revoked before it has run out"
    );
    assert!(desk.owed().is_empty());
    desk.now = expires;
    assert_eq!(desk.owed(), [Owed::Lease(lease.clone())]);
    desk.end(&lease).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Revoked));
    desk.check();
}

#[test]
fn a_target_whose_clock_is_behind_is_looked_at_again() {
    let mut desk = desk(10);
    let (request, lease) = live(&mut desk);
    revoke(&mut desk, &request);
    desk.cut_off(&lease).unwrap();
    desk.now = desk.world.leases[&lease].expires;
    let events = desk.cut_off(&lease).unwrap();
    assert!(
        matches!(&events[..], [Event::LeaseEndFailed { code, .. }] if code == "not_run_out"),
        "{events:?}"
    );
    settle(&mut desk);
    assert_eq!(desk.outcome(&request), Some(Outcome::Revoked));
    desk.check();
}

#[test]
fn l02_case_095_a_grant_is_handed_back_as_soon_as_a_lost_credential_is_cut_off() {
    let mut desk = desk(10);
    let request = desk.submit("reporter", "orders.report").unwrap();
    let first = desk.collect("reporter", &request, "k").unwrap();
    desk.answered(&first).unwrap();
    assert_eq!(desk.collect("reporter", &request, "k").unwrap(), first);
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::MintUnderway)
    );
    desk.cut_off(&first).unwrap();
    let second = desk.collect("reporter", &request, "k").unwrap();
    assert_ne!(first, second);
    desk.minted(&second).unwrap();
    // The first one is still accounted for, and ends by itself whatever becomes of its request.
    assert!(desk.world.leases.contains_key(&first));
    let finish = Command::Finish {
        agent: "reporter".parse().unwrap(),
        request: request.clone(),
        report: serde_json::Map::new(),
    };
    desk.tell(&finish).unwrap();
    desk.end(&second).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Completed));
    assert!(desk.open(&request).is_none());
    settle(&mut desk);
    assert!(desk.world.leases.is_empty());
    assert_eq!(desk.outcome(&request), Some(Outcome::Completed));
    desk.check();
}

#[test]
fn l08_case_092_nothing_is_minted_that_could_not_be_cut_off() {
    let mut desk = desk(2);
    let (first, lease) = live(&mut desk);
    live(&mut desk);
    let third = desk.submit("reporter", "orders.report").unwrap();
    assert_eq!(
        desk.collect("reporter", &third, "k"),
        Err(RefusalCode::GuardFull)
    );
    // A lease takes its room until it has run out, cut off or not.
    revoke(&mut desk, &first);
    desk.cut_off(&lease).unwrap();
    assert_eq!(
        desk.collect("reporter", &third, "k"),
        Err(RefusalCode::GuardFull)
    );
    desk.now = desk.world.leases[&lease].expires;
    desk.end(&lease).unwrap();
    assert!(
        desk.collect("reporter", &third, "k").is_ok(),
        "the approval was not used up"
    );
    desk.check();
}

#[test]
fn the_kill_switch_ends_every_lease_of_its_guard() {
    let mut desk = desk(10);
    let (_, live_lease) = live(&mut desk);
    let waiting = desk.submit("reporter", "customers.export").unwrap();
    let shut = Command::ShutGuard {
        guard: "guard".parse().unwrap(),
    };
    let events = desk.tell(&shut).unwrap();
    let first = events.first();
    assert!(
        matches!(first, Some(Event::GuardShut { issued_before, .. }) if *issued_before == desk.now),
        "{first:?}"
    );
    assert_eq!(events.len(), 1, "one entry, whatever it ends");
    desk.lapse();
    let state = &desk.world.leases[&live_lease].state;
    assert!(
        matches!(
            state,
            LeaseState::Ending {
                cause: EndCause::Revoked,
                ..
            }
        ),
        "{state:?}"
    );
    assert_eq!(desk.open(&waiting).unwrap().state, RequestState::Pending);
    desk.check();
}
