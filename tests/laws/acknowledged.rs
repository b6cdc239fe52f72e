//! B14: a credential that its agent does not say it holds counts as lost, and is ended.

use countersign::domain::command::{RefusalCode, Revoker};
use countersign::domain::due::lapses;
use countersign::domain::request::Outcome;
use countersign::domain::{Command, EndCause, Event, LeaseId, RequestId, RequestState, Seconds};
use serde_json::Map;

use super::desk::{Desk, settle};

/// A credential that was minted, for five minutes, and of whose agent nothing is heard.
fn minted(desk: &mut Desk) -> (RequestId, LeaseId) {
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    let events = desk.answered(&lease).unwrap();
    let [Event::LeaseLive { acknowledge_by, .. }] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(acknowledge_by, desk.now.plus(Seconds(60)));
    (request, lease)
}

fn lapse(desk: &mut Desk, request: &RequestId) -> Vec<Event> {
    let requests = vec![request.clone()];
    desk.tell(&Command::Lapse { requests }).unwrap()
}

fn cause(events: &[Event]) -> Option<EndCause> {
    events.iter().find_map(|event| match event {
        Event::LeaseEnding { cause, .. } => Some(*cause),
        _ => None,
    })
}

#[test]
fn finding_b14_a_credential_that_nobody_acknowledges_ends_after_a_minute() {
    let mut desk = Desk::new();
    let (request, lease) = minted(&mut desk);
    desk.now = desk.now.plus(Seconds(59));
    assert_eq!(lapses(&desk.world, desk.now).count(), 0);
    assert_eq!(lapse(&mut desk, &request), []);
    desk.now = desk.now.plus(Seconds(1));
    let due: Vec<_> = lapses(&desk.world, desk.now).collect();
    assert_eq!(due, [&request]);
    let late = desk.acknowledge("reporter", &lease);
    assert_eq!(late, Err(RefusalCode::NotLive), "too late does not count");
    let events = lapse(&mut desk, &request);
    assert_eq!(cause(&events), Some(EndCause::Unacknowledged));
    let late = desk.acknowledge("reporter", &lease);
    assert_eq!(late, Err(RefusalCode::NotLive));
    desk.check();
}

/// As when the answer was lost: one live credential at a time, and nothing longer than the collect window.
#[test]
fn finding_b14_its_grant_goes_back_to_the_agent_until_the_collect_window_is_over() {
    let mut desk = Desk::new();
    let (request, lease) = minted(&mut desk);
    desk.now = desk.now.plus(Seconds(60));
    lapse(&mut desk, &request);
    let underway = desk.collect("reporter", &request, "k");
    assert_eq!(
        underway,
        Err(RefusalCode::MintUnderway),
        "the first ends before"
    );
    desk.end(&lease).unwrap();
    let state = &desk.open(&request).unwrap().state;
    assert!(matches!(state, RequestState::Approved { .. }), "{state:?}");
    let again = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&again).unwrap();
    desk.now = desk.now.plus(Seconds(200));
    assert_eq!(lapse(&mut desk, &request), [], "acknowledged, it lives on");
    desk.check();
}

#[test]
fn finding_b14_what_is_lost_at_the_end_of_the_collect_window_is_over() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    desk.now = desk.now.plus(Seconds(899));
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.answered(&lease).unwrap();
    desk.now = desk.now.plus(Seconds(60));
    lapse(&mut desk, &request);
    desk.end(&lease).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Failed));
    desk.check();
}

#[test]
fn finding_b14_acknowledging_is_one_entry_and_the_agents_own() {
    let mut desk = Desk::new();
    let (_, lease) = minted(&mut desk);
    let foreign = desk.acknowledge("fixer", &lease);
    assert_eq!(foreign, Err(RefusalCode::NotFound));
    assert_eq!(desk.acknowledge("reporter", &lease).unwrap().len(), 1);
    assert_eq!(desk.acknowledge("reporter", &lease).unwrap(), []);
    desk.check();
}

/// A late word about a credential that was replaced says nothing of the one that replaced it.
#[test]
fn finding_b14_acknowledging_one_lease_does_not_acknowledge_the_next() {
    let mut desk = Desk::new();
    let (request, first) = minted(&mut desk);
    assert_eq!(desk.collect("reporter", &request, "k").unwrap(), first);
    desk.end(&first).unwrap();
    let second = desk.collect("reporter", &request, "k").unwrap();
    desk.answered(&second).unwrap();
    let late = desk.acknowledge("reporter", &first);
    assert_eq!(late, Err(RefusalCode::NotFound));
    desk.now = desk.now.plus(Seconds(60));
    let events = lapse(&mut desk, &request);
    assert_eq!(cause(&events), Some(EndCause::Unacknowledged));
    desk.check();
}

#[test]
fn finding_b14_finishing_says_that_it_was_held_and_revoking_ends_it_for_good() {
    let mut desk = Desk::new();
    let (request, lease) = minted(&mut desk);
    desk.tell(&Command::Finish {
        agent: "reporter".parse().unwrap(),
        request: request.clone(),
        report: Map::new(),
    })
    .unwrap();
    desk.end(&lease).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Completed));
    // One whose grant would go back is taken from the agent all the same.
    let (request, lease) = minted(&mut desk);
    desk.now = desk.now.plus(Seconds(60));
    lapse(&mut desk, &request);
    let revoke = Command::Revoke {
        by: Revoker::Operator,
        request: request.clone(),
    };
    assert_eq!(cause(&desk.tell(&revoke).unwrap()), Some(EndCause::Revoked));
    desk.end(&lease).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Revoked));
    desk.check();
}

/// A credential shorter than the minute is over at its own end.
#[test]
fn finding_b14_no_credential_lives_longer_for_it() {
    let mut desk = Desk::new();
    let request = desk
        .submit_with("reporter", "orders.report", |ask| {
            ask.ttl = Some(Seconds(30))
        })
        .unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.answered(&lease).unwrap();
    desk.now = desk.now.plus(Seconds(30));
    let events = lapse(&mut desk, &request);
    assert_eq!(cause(&events), Some(EndCause::Expired));
    desk.check();
}

/// One approval is one lifetime, from the first credential on, however often its agent says that an answer was lost.
#[test]
fn finding_b14_what_is_minted_again_lives_no_longer_than_the_first_would_have() {
    let mut desk = Desk::new();
    let (request, first) = minted(&mut desk);
    let until = desk.world.leases[&first].expires;
    for _ in 0..4 {
        desk.now = desk.now.plus(Seconds(50));
        let lost = desk.collect("reporter", &request, "k").unwrap();
        desk.end(&lost).unwrap();
        let again = desk.collect("reporter", &request, "k").unwrap();
        desk.answered(&again).unwrap();
        assert_ne!(again, lost);
        assert_eq!(desk.world.leases[&again].expires, until);
    }
    desk.now = until;
    lapse(&mut desk, &request);
    settle(&mut desk);
    let more = desk.collect("reporter", &request, "k");
    assert_eq!(more, Err(RefusalCode::NotFound), "it is over");
    desk.check();
}

#[test]
fn finding_b14_who_holds_a_credential_has_not_lost_it() {
    let mut desk = Desk::new();
    let (request, lease) = minted(&mut desk);
    desk.acknowledge("reporter", &lease).unwrap();
    let again = desk.collect("reporter", &request, "k");
    assert_eq!(again, Err(RefusalCode::Gone));
    assert_eq!(desk.world.leases[&lease].state.word(), "live");
    desk.check();
}
