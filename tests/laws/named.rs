//! What an entry says of the people and the wishes behind a request, and what can be done with a request whose action
//! has left the bundle.

use countersign::domain::command::{EndFailure, GiveReview, MintResult, RefusalCode, Revoker};
use countersign::domain::event::{BlobRef, Freeze};
use countersign::domain::request::{Outcome, ReviewDecision, VerdictAnswer};
use countersign::domain::{
    Actor, Command, Digest, Event, LeaseId, Owed, RequestId, RequestState, Seconds, TargetName,
};
use serde_json::Map;

use super::desk::{Desk, server};
use crate::support::rules::{person, reviewer};

/// The bundle in force no longer has the action.
fn drop_action(desk: &mut Desk, name: &str) {
    desk.policy
        .actions
        .retain(|action| action.name.as_str() != name);
    put_in_force(desk);
}

fn put_in_force(desk: &mut Desk) {
    desk.policy.edition += 1;
    let content = BlobRef {
        sha256: Digest::of(b"another bundle"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
}

#[test]
fn finding_b13_a_request_whose_action_is_gone_can_be_denied_by_those_who_were_to_review_it() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    drop_action(&mut desk, "customers.export");
    let ben = reviewer("ben", &["support-leads", "dba"]);
    let approve = desk.review(&request, &ben, ReviewDecision::Approve);
    assert_eq!(
        approve,
        Err(RefusalCode::BindingMismatch),
        "nobody approves what is gone"
    );
    for (who, groups, code) in [
        ("chloe", ["security"], RefusalCode::NotAReviewer),
        ("ana", ["support-leads"], RefusalCode::SelfApproval),
    ] {
        let barred = reviewer(who, &groups);
        let denied = desk.review(&request, &barred, ReviewDecision::Deny);
        assert_eq!(denied, Err(code), "{who}");
    }
    desk.review(&request, &ben, ReviewDecision::Deny).unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Denied));
    desk.check();
}

#[test]
fn finding_b13_a_changed_action_can_be_denied_and_not_approved() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.policy.actions[1].review.groups = [("security".parse().unwrap(), 1)].into();
    put_in_force(&mut desk);
    let (ben, chloe) = (
        reviewer("ben", &["support-leads"]),
        reviewer("chloe", &["security"]),
    );
    for who in [&ben, &chloe] {
        let approve = desk.review(&request, who, ReviewDecision::Approve);
        assert_eq!(approve, Err(RefusalCode::BindingMismatch));
    }
    let denied = desk.review(&request, &chloe, ReviewDecision::Deny);
    assert_eq!(
        denied,
        Err(RefusalCode::NotAReviewer),
        "judged by what was sealed"
    );
    desk.review(&request, &ben, ReviewDecision::Deny).unwrap();
    desk.check();
}

#[test]
fn finding_b13_a_lease_whose_action_is_gone_is_revoked_by_those_who_were_to_review_it() {
    let mut desk = Desk::new();
    let ben = reviewer("ben", &["support-leads"]);
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.review(&request, &ben, ReviewDecision::Approve)
        .unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    drop_action(&mut desk, "customers.export");
    let mut revoke = |by| {
        desk.tell(&Command::Revoke {
            by: Revoker::Person(Box::new(by)),
            request: request.clone(),
        })
    };
    // Policy named security while the action was there, and says nothing of it now.
    let refused = revoke(reviewer("chloe", &["security"]));
    assert_eq!(refused, Err(RefusalCode::NotAReviewer));
    assert_eq!(revoke(ben).unwrap().len(), 1);
    let state = &desk.open(&request).unwrap().state;
    assert!(matches!(state, RequestState::Ending { .. }), "{state:?}");
    desk.check();
}

/// P: one entry for a routine decision, and for every other answer of policy.
#[test]
fn a_submit_is_one_entry_whatever_policy_says() {
    let mut desk = Desk::new();
    desk.policy.denied.insert("schema.migrate".parse().unwrap());
    for (action, answer, state) in [
        ("orders.report", VerdictAnswer::Allow, Some("approved")),
        ("customers.export", VerdictAnswer::Review, Some("pending")),
        ("schema.migrate", VerdictAnswer::Deny, None),
    ] {
        let (before, open) = (desk.entries.len(), open_requests(&desk));
        let request = desk.submit("reporter", action).unwrap();
        let [entry] = &desk.entries[before..] else {
            panic!("{action}: {:?}", &desk.entries[before..]);
        };
        let Event::RequestSubmitted { verdict, .. } = &entry.event else {
            panic!("{entry:?}");
        };
        assert_eq!(verdict.answer, answer);
        let stands = desk.open(&request).map(|request| request.state.word());
        assert_eq!(stands, state, "{action}");
        let opened = usize::from(state.is_some());
        assert_eq!(open_requests(&desk), open + opened, "{action}");
    }
    desk.check();
}

fn open_requests(desk: &Desk) -> usize {
    desk.world.open_requests_of(&"reporter".parse().unwrap())
}

#[test]
fn finding_b15_what_was_asked_is_recorded_beside_what_is_given() {
    let mut desk = Desk::new();
    let mut asked = |ttl| {
        let request = desk
            .submit_with("reporter", "schema.migrate", |submit| submit.ttl = ttl)
            .unwrap();
        let submission = &desk.open(&request).unwrap().submission;
        assert_eq!(
            submission.reviewers,
            [("dba", 1), ("security", 1)]
                .map(|(group, n)| (group.parse().unwrap(), n))
                .into()
        );
        (submission.asked_ttl_seconds, submission.sealed.ttl_seconds)
    };
    assert_eq!(asked(None), (None, Seconds(300)));
    let day = Seconds(24 * 3600);
    assert_eq!(asked(Some(day)), (Some(day), Seconds(1800)));
}

/// B8: an ask that was looked up in the ledger and then waited, until what came in between has left the world, is not
/// decided: it may have come twice.
#[test]
fn finding_b08_what_was_looked_up_is_not_relied_upon_for_long() {
    let mut desk = Desk::new();
    let drawn = desk.now;
    for (waited, decided) in [(599, true), (600, false)] {
        desk.now = drawn.plus(Seconds(waited));
        let asked = desk.submit_with("reporter", "orders.report", |submit| {
            submit.request = RequestId::draw(drawn, u128::from(waited));
            submit.idempotency_key = Some(Digest::of(&waited.to_be_bytes()));
        });
        assert_eq!(asked.err(), (!decided).then_some(RefusalCode::Expired));
    }
    desk.check();
}

/// B10: who left a reviewing group since no longer counts where the action asks for it.
#[test]
fn finding_b10_an_approver_who_left_the_group_does_not_count_at_collect() {
    for (left, collected) in [(false, true), (true, false)] {
        let mut desk = Desk::new();
        let request = desk.submit("reporter", "schema.migrate").unwrap();
        for (who, group) in [("ben", "dba"), ("chloe", "security")] {
            let who = reviewer(who, &[group]);
            desk.review(&request, &who, ReviewDecision::Approve)
                .unwrap();
        }
        let groups = if left {
            vec![]
        } else {
            vec!["security", "oncall"]
        };
        desk.tell(&Command::NoteSignIn {
            person: person("chloe"),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        })
        .unwrap();
        let result = desk.collect("reporter", &request, "k");
        assert_eq!(result.is_ok(), collected, "{result:?}");
        desk.check();
    }
}

fn failure() -> EndFailure {
    EndFailure {
        code: "target_unavailable".into(),
        detail: String::new(),
        attempts: 1,
        retry_in: Seconds(1),
    }
}

/// Commands that end access, or record what happened.
fn ending_access(request: &RequestId, lease: &LeaseId) -> Vec<Command> {
    let target: TargetName = "shop".parse().unwrap();
    let broker = "b".to_owned();
    let owed = vec![
        Owed::Lease(lease.clone()),
        Owed::Orphan((target.clone(), "h".to_owned())),
    ];
    let failed = |owed| (owed, Err(failure()));
    vec![
        Command::ShutGuard {
            guard: "orders".parse().unwrap(),
        },
        Command::SetFreeze {
            by: Actor::Operator,
            freeze: Freeze::Everything,
            on: true,
        },
        Command::DisableAgent {
            agent: "reporter".parse().unwrap(),
        },
        Command::Revoke {
            by: Revoker::Operator,
            request: request.clone(),
        },
        Command::Finish {
            agent: "reporter".parse().unwrap(),
            request: request.clone(),
            report: Map::new(),
        },
        Command::Acknowledge {
            agent: "reporter".parse().unwrap(),
            lease: lease.clone(),
        },
        Command::ClaimEnds {
            broker: broker.clone(),
            owed: owed.clone(),
        },
        Command::RecordEnds {
            broker: broker.clone(),
            results: owed.into_iter().map(failed).collect(),
        },
        Command::Lapse {
            requests: vec![request.clone()],
        },
        Command::NoteTargetAway {
            target: target.clone(),
            broker,
            code: "target_unavailable".into(),
            detail: String::new(),
        },
        Command::NoteTargetBack {
            target: target.clone(),
        },
        Command::RecordMint {
            lease: lease.clone(),
            result: MintResult::Unknown,
        },
        Command::MoveTarget {
            target,
            from: server(),
            to: "another server".parse().unwrap(),
            reason: None,
        },
    ]
}

/// B9: whatever ends access or records what happened is decided without the bundle in force.
#[test]
fn finding_b09_what_ends_access_asks_no_policy() {
    let (request, lease) = (
        RequestId::draw(Desk::new().now, 1),
        LeaseId::draw(Desk::new().now, 2),
    );
    for command in ending_access(&request, &lease) {
        assert!(!command.asks_policy(), "{command:?}");
    }
    let asks = [
        Command::Collect {
            agent: "reporter".parse().unwrap(),
            request: request.clone(),
            lease,
            key: Digest::of(b"k"),
        },
        Command::Review(Box::new(GiveReview {
            reviewer: reviewer("ben", &[]),
            request,
            digest: Digest::of(b""),
            decision: ReviewDecision::Approve,
            comment: None,
        })),
    ];
    for command in asks {
        assert!(command.asks_policy(), "{command:?}");
    }
}
