//! The laws and the cases that the pure core answers for, one by one.

use countersign::domain::command::{RefusalCode, Revoker};
use countersign::domain::event::BlobRef;
use countersign::domain::request::{Outcome, ReviewDecision};
use countersign::domain::rules::Limits;
use countersign::domain::{
    Actor, Command, Digest, Entry, Event, Owed, Proof, RequestId, RequestState, Seconds,
};
use countersign::ledger::entry::VERSION;
use serde_json::{Map, json};

use super::desk::{Desk, settle};
use crate::support::rules::{people, person, reviewer};

#[test]
fn l01_no_mint_without_a_grant() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::NotApproved)
    );
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    desk.check();
}

#[test]
fn l02_a_second_collect_gets_nothing_and_a_repeated_one_waits_for_the_first_to_end() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let first = desk.collect("reporter", &request, "k").unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::MintUnderway)
    );
    assert_eq!(
        desk.collect("reporter", &request, "other"),
        Err(RefusalCode::Gone)
    );
    desk.answered(&first).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "other"),
        Err(RefusalCode::Gone)
    );
    // The same key: the answer was lost. The first credential ends before a second one is minted.
    assert_eq!(desk.collect("reporter", &request, "k").unwrap(), first);
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::MintUnderway)
    );
    desk.end(&first).unwrap();
    let second = desk.collect("reporter", &request, "k").unwrap();
    assert_ne!(second, first);
    desk.check();
}

#[test]
fn l13_nobody_on_the_requesters_side_counts_whatever_their_role() {
    let mut desk = Desk::new();
    // Ana owns `reporter` and leads support; `fixer` belongs to everybody in data-platform.
    let by_owner = desk.submit("reporter", "customers.export").unwrap();
    let by_group = desk.submit("fixer", "customers.export").unwrap();
    let for_ben = desk
        .submit_with("reporter", "customers.export", |s| {
            s.on_behalf_of = Some(person("ben"))
        })
        .unwrap();
    for (request, who) in [(&by_owner, 0), (&by_group, 0), (&for_ben, 1)] {
        let refused = desk.review(request, &people()[who], ReviewDecision::Approve);
        assert_eq!(refused, Err(RefusalCode::SelfApproval));
        let entry = desk.entries.last().unwrap();
        assert!(
            matches!(&entry.event, Event::ReviewRefused { code, .. } if code == "self_approval")
        );
        assert_eq!(desk.open(request).unwrap().state, RequestState::Pending);
    }
    desk.check();
}

#[test]
fn case_024_a_reviewer_who_lost_the_group_is_refused_at_the_click() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    let refused = desk.review(
        &request,
        &reviewer("ben", &["dba"]),
        ReviewDecision::Approve,
    );
    assert_eq!(refused, Err(RefusalCode::NotAReviewer));
    desk.check();
}

#[test]
fn case_007_an_action_that_changed_after_approval_is_not_minted() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    desk.policy.edition += 1;
    desk.policy.actions[1].scope = json!({"roles": ["everything"]});
    let content = BlobRef {
        sha256: Digest::of(b"edited"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::BindingMismatch)
    );
    assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
    desk.check();
}

#[test]
fn case_082_policy_that_changed_after_approval_is_asked_again() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    desk.change_policy(2);
    let content = BlobRef {
        sha256: Digest::of(b"edited"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::PolicyDenied)
    );
    assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
    desk.check();
}

#[test]
fn case_018_a_stale_approval_mints_nothing() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    desk.now = desk.now.plus(Seconds(900));
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::Expired)
    );
    let late = desk.submit("reporter", "customers.export").unwrap();
    desk.now = desk.now.plus(Seconds(3600));
    let refused = desk.review(&late, &people()[1], ReviewDecision::Approve);
    assert_eq!(refused, Err(RefusalCode::Expired));
    settle(&mut desk);
    assert_eq!(desk.outcome(&late), Some(Outcome::Lapsed));
    desk.check();
}

#[test]
fn case_080_an_evaluation_error_denies() {
    let mut desk = Desk::new();
    desk.policy.edition += 1;
    desk.policy.broken = true;
    let content = BlobRef {
        sha256: Digest::of(b"broken"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    let request = desk.submit("reporter", "orders.report").unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Refused));
    desk.check();
}

#[test]
fn case_077_a_disabled_agent_loses_everything_and_its_name_stays_taken() {
    let mut desk = Desk::new();
    let live = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &live, "k").unwrap();
    desk.minted(&lease).unwrap();
    let pending = desk.submit("reporter", "customers.export").unwrap();
    let agent = desk.world.agents[&"reporter".parse().unwrap()].0.clone();
    desk.tell(&Command::DisableAgent {
        agent: agent.name.clone(),
    })
    .unwrap();
    desk.lapse();
    assert_eq!(desk.outcome(&pending), Some(Outcome::Revoked));
    assert!(matches!(
        desk.open(&live).unwrap().state,
        RequestState::Ending { .. }
    ));
    assert_eq!(
        desk.submit("reporter", "orders.report"),
        Err(RefusalCode::AgentDisabled)
    );
    let again = desk.tell(&Command::EnrollAgent {
        agent: Box::new(agent),
    });
    assert_eq!(again, Err(RefusalCode::AgentExists));
    desk.check();
}

#[test]
fn case_138_a_zombies_proof_is_refused_after_its_claim_ran_out() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    let agent = "reporter".parse().unwrap();
    desk.tell(&Command::Finish {
        agent,
        request,
        report: Map::new(),
    })
    .unwrap();
    let owed = Owed::Lease(lease);
    let proof = || Ok(Proof::gone(["no_role"]));
    desk.claim(&owed, "zombie").unwrap();
    assert_eq!(desk.claim(&owed, "b2"), Err(RefusalCode::StaleClaim));
    desk.now = desk.now.plus(Seconds(30));
    desk.claim(&owed, "b2").unwrap();
    assert_eq!(
        desk.record(&owed, "zombie", proof()),
        Err(RefusalCode::StaleClaim)
    );
    desk.record(&owed, "b2", proof()).unwrap();
    desk.check();
}

#[test]
fn a_lease_ended_while_its_mint_may_be_under_way_is_left_alone_until_the_mint_is_over() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.tell(&Command::Revoke {
        by: Revoker::Operator,
        request,
    })
    .unwrap();
    assert_eq!(desk.end(&lease), Err(RefusalCode::StaleClaim));
    assert_eq!(desk.minted(&lease), Err(RefusalCode::StaleClaim));
    desk.now = desk.now.plus(Limits::default().mint_window);
    desk.end(&lease).unwrap();
    desk.check();
}

#[test]
fn l04_the_owner_always_and_others_as_policy_says_may_end_access() {
    for (who, allowed) in [
        ("ana", true),
        ("chloe", true),
        ("eve", false),
        ("ben", false),
    ] {
        let mut desk = Desk::new();
        let request = desk.submit("reporter", "orders.report").unwrap();
        let lease = desk.collect("reporter", &request, "k").unwrap();
        desk.minted(&lease).unwrap();
        // The owner can even when the action has left the catalog.
        desk.policy
            .actions
            .retain(|action| who != "ana" || action.name.as_str() != "orders.report");
        let person = people()
            .into_iter()
            .find(|p| p.person.subject == who)
            .unwrap();
        let by = Revoker::Person(Box::new(person));
        let revoked = desk.tell(&Command::Revoke {
            by,
            request: request.clone(),
        });
        assert_eq!(revoked.is_ok(), allowed, "{who}: {revoked:?}");
        let ending = matches!(
            desk.open(&request).unwrap().state,
            RequestState::Ending { .. }
        );
        assert_eq!(ending, allowed, "{who}");
    }
}

#[test]
fn illegal_transitions_carry_both_sides() {
    let desk = Desk::new();
    let mut world = desk.world.clone();
    let request = RequestId::draw(desk.now, 1);
    let event = Event::RequestClosed {
        request,
        outcome: Outcome::Denied,
    };
    let entry = Entry {
        v: VERSION,
        seq: world.size,
        time: desk.now,
        actor: Actor::Broker,
        event,
    };
    let error = world.apply(&entry).unwrap_err();
    assert_eq!(
        (error.event, error.state.as_str()),
        ("request.closed", "no open request")
    );
    assert_eq!(world, desk.world, "a refused entry changes nothing");
}
