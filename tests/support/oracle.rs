//! The laws, checked on nothing but ledger entries. Written apart from the code it judges: it knows the
//! log format and the catalog, not the state machine.

use std::collections::{BTreeMap, BTreeSet};

use countersign::domain::event::{Actor, Entry, Event};
use countersign::domain::request::{ReviewDecision, Submission, VerdictAnswer};
use countersign::domain::{LeaseId, Request, RequestId, Time, World};

/// What the entries say of one request.
#[derive(Default)]
struct Seen {
    submission: Option<Submission>,
    answer: Option<VerdictAnswer>,
    approvals: Vec<countersign::domain::Reviewer>,
    granted: bool,
    open_leases: BTreeSet<LeaseId>,
    /// When each lease must end.
    expires: BTreeMap<LeaseId, Time>,
    /// Leases nobody received that are seen to be denied everything; their grant was handed back.
    alone: BTreeSet<LeaseId>,
    /// Leases seen to be denied everything.
    cut_off: BTreeSet<LeaseId>,
    closed: bool,
}

/// Panics with the first law that `entries` break.
pub fn check_laws(entries: &[Entry]) {
    let mut requests: BTreeMap<RequestId, Seen> = BTreeMap::new();
    let mut ended: BTreeSet<LeaseId> = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.seq, index as u64, "the ledger has no gaps");
        let Some(id) = entry.event.request() else {
            continue;
        };
        let seen = requests.entry(id.clone()).or_default();
        let alone = entry
            .event
            .lease()
            .is_some_and(|lease| seen.alone.contains(lease));
        if !alone && !matches!(entry.event, Event::ReviewRefused { .. }) {
            assert!(
                !seen.closed,
                "L12: one terminal state, then {:?}",
                entry.event
            );
        }
        check_entry(entry, seen, &mut ended);
    }
}

fn check_entry(entry: &Entry, seen: &mut Seen, ended: &mut BTreeSet<LeaseId>) {
    match &entry.event {
        Event::RequestSubmitted {
            submission,
            verdict,
        } => {
            assert!(seen.submission.is_none(), "submitted once");
            assert_eq!(
                submission.digest,
                submission.sealed.digest(),
                "L9: the digest is of what is sealed"
            );
            let actor = Actor::Agent {
                name: submission.sealed.agent.clone(),
            };
            assert_eq!(entry.actor, actor, "only the agent itself asks");
            seen.submission = Some((**submission).clone());
            seen.answer = Some(verdict.answer);
            seen.granted = verdict.answer == VerdictAnswer::Allow;
            seen.closed = verdict.answer == VerdictAnswer::Deny;
        }
        Event::ReviewGiven { review, .. } => {
            let submission = seen.submission.as_ref().unwrap();
            assert_eq!(
                review.digest, submission.digest,
                "L1: reviewers approve this digest"
            );
            assert_eq!(
                entry.actor,
                Actor::Person {
                    person: review.reviewer.person.clone()
                }
            );
            assert!(
                !submission.owner.includes(&review.reviewer),
                "L13: the owner does not review"
            );
            assert_ne!(
                submission.on_behalf_of.as_ref(),
                Some(&review.reviewer.person),
                "L13"
            );
            if review.decision == ReviewDecision::Approve {
                seen.approvals.push(review.reviewer.clone());
            }
        }
        Event::GrantMade { digest, people, .. } => {
            let submission = seen.submission.as_ref().unwrap();
            assert_eq!(
                *digest, submission.digest,
                "L1: the grant is for this digest"
            );
            assert_eq!(seen.answer, Some(VerdictAnswer::Review), "L1");
            check_quorum(seen, people);
            seen.granted = true;
        }
        _ => check_lease(entry, seen, ended),
    }
}

/// L1, L2, L9, L11: what is intended is what was granted, once.
fn check_intent(entry: &Entry, seen: &mut Seen) {
    let Event::LeaseIntended {
        lease,
        digest,
        scope,
        target,
        server,
        ttl_seconds,
        expires,
        ..
    } = &entry.event
    else {
        return;
    };
    let submission = seen.submission.as_ref().unwrap();
    assert!(seen.granted, "L1: no mint without a grant");
    assert_eq!(*digest, submission.digest, "L1");
    let sealed = &submission.sealed;
    assert_eq!(
        (scope, target, server),
        (&sealed.scope, &sealed.target, &sealed.server),
        "L9"
    );
    assert!(*ttl_seconds <= sealed.ttl_seconds, "L11");
    assert!(*expires <= entry.time.plus(*ttl_seconds), "L11");
    assert!(
        seen.open_leases.is_empty(),
        "L2: one grant, one live credential"
    );
    seen.open_leases.insert(lease.clone());
    seen.expires.insert(lease.clone(), *expires);
}

fn check_lease(entry: &Entry, seen: &mut Seen, ended: &mut BTreeSet<LeaseId>) {
    match &entry.event {
        Event::LeaseIntended { .. } => check_intent(entry, seen),
        Event::LeaseCutOff {
            lease,
            until,
            handed_back,
            ..
        } => {
            assert!(seen.cut_off.insert(lease.clone()), "cut off once");
            assert!(
                seen.open_leases.contains(lease) || seen.alone.contains(lease),
                "only a lease that is open or given up is cut off"
            );
            assert!(*until <= seen.expires[lease], "L11: it runs out no later");
            if *handed_back {
                seen.open_leases.remove(lease);
                seen.alone.insert(lease.clone());
            }
        }
        Event::LeaseAbandoned { lease, .. } => {
            assert!(
                seen.open_leases.remove(lease) || seen.alone.contains(lease),
                "only a lease that is open is given up"
            );
            seen.closed |= seen.alone.insert(lease.clone());
        }
        Event::LeaseEnded { lease, outcome, .. } if seen.alone.contains(lease) => {
            assert!(outcome.is_none(), "its request goes its own way");
            assert!(ended.insert(lease.clone()), "L4: ended once");
        }
        Event::LeaseFailed { lease, outcome, .. } | Event::LeaseEnded { lease, outcome, .. } => {
            assert!(
                seen.open_leases.remove(lease),
                "L3: only a lease that was intended ends"
            );
            ended.insert(lease.clone());
            seen.closed = outcome.is_some();
        }
        Event::RequestClosed { .. } => {
            assert!(
                seen.open_leases.is_empty(),
                "L4: no request closes over a live lease"
            );
            seen.closed = true;
        }
        Event::LeaseLive { lease, .. } | Event::LeaseEnding { lease, .. } => {
            assert!(!ended.contains(lease), "L4: what ended stays ended");
        }
        _ => {}
    }
}

/// L13: distinct people, all of whom approved, enough of every group, one place each.
fn check_quorum(seen: &Seen, people: &[countersign::domain::Person]) {
    let distinct: BTreeSet<_> = people.iter().collect();
    assert_eq!(
        distinct.len(),
        people.len(),
        "L13: a quorum counts distinct people"
    );
    let named = &seen.submission.as_ref().unwrap().reviewers;
    let places: Vec<_> = named
        .iter()
        .flat_map(|(group, count)| std::iter::repeat_n(group, *count as usize))
        .collect();
    assert_eq!(places.len(), people.len(), "L13: one person a place");
    for (group, person) in places.iter().zip(people) {
        let approval = seen
            .approvals
            .iter()
            .find(|reviewer| &reviewer.person == person);
        let approval = approval.expect("L1: everybody who is counted approved");
        assert!(
            approval.groups.contains(*group),
            "L13: {person} is not in {group}"
        );
    }
}

/// L5: the entries alone rebuild `live`, through their JSON, with everything derived.
pub fn check_fold(entries: &[Entry], live: &World) {
    let mut world = World::default();
    for entry in entries {
        let json = serde_json::to_vec(entry).unwrap();
        world
            .apply(&serde_json::from_slice(&json).unwrap())
            .unwrap();
    }
    assert_eq!(&world, live, "L5: state is a fold over the ledger");
    let json = serde_json::to_vec(&world).unwrap();
    let restored = serde_json::from_slice::<World>(&json).unwrap().restored();
    assert_eq!(&restored, live, "a snapshot is a pure cache");
}

/// Requests that are open in `world` though the ledger owes nobody anything: none may be stuck.
pub fn stuck(world: &World) -> Vec<Request> {
    let open = world
        .requests
        .values()
        .filter(|_| world.next_deadline().is_none());
    open.map(|request| Request::clone(request)).collect()
}
