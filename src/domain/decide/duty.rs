//! Ends as duties: claimed, done, recorded, the same for leases and for what no lease explains. And what hinders them: a
//! target that is away, a credential that is given up.

use std::collections::BTreeSet;

use super::super::command::{EndFailure, Refusal, RefusalCode};
use super::super::due::Owed;
use super::super::event::{BlobRef, Event};
use super::super::ids::{LeaseId, TargetName};
use super::super::lease::{EndCause, Lease, LeaseState, Proof, lease_of, residue};
use super::super::orphan::OrphanKey;
use super::super::request::{Outcome, RequestState};
use super::super::rules::Rules;
use super::super::time::{Seconds, Time};
use super::super::world::World;
use super::Decision;

/// How soon a credential is looked at again that should have run out by our clock.
pub const NOT_RUN_OUT: Seconds = Seconds(2);

pub(super) fn find(world: &World, target: &TargetName, handle: &str) -> Vec<Event> {
    let explained = lease_of(handle).is_some_and(|lease| world.leases.contains_key(&lease));
    let known = world
        .orphans
        .contains_key(&(target.clone(), handle.to_owned()));
    if explained || known {
        return Vec::new();
    }
    vec![Event::OrphanFound {
        target: target.clone(),
        handle: handle.into(),
    }]
}

/// Takes those duties that nobody has.
pub(super) fn claim(
    world: &World,
    broker: &str,
    owed: &[Owed],
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    let until = now.plus(rules.policy.limits().claim_window);
    let each: BTreeSet<_> = owed.iter().collect();
    let claim = |owed: &Owed| match owed {
        Owed::Lease(id) => match world.leases.get(id).map(|lease| (lease, &lease.state)) {
            Some((lease, LeaseState::Ending { not_before, .. })) if *not_before <= now => {
                Some(Event::LeaseEndClaimed {
                    request: lease.request.clone(),
                    lease: id.clone(),
                    broker: broker.into(),
                    until,
                })
            }
            _ => None,
        },
        Owed::Orphan(key) => {
            let orphan = world.orphans.get(key);
            let free = orphan.is_some_and(|orphan| orphan.not_before <= now);
            free.then(|| Event::OrphanEndClaimed {
                target: key.0.clone(),
                handle: key.1.clone(),
                broker: broker.into(),
                until,
            })
        }
    };
    let events: Vec<_> = each.into_iter().filter_map(claim).collect();
    if events.is_empty() {
        return Err(stale_claim());
    }
    Ok(events)
}

fn stale_claim() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::StaleClaim,
        "another broker has the duty, or it is done",
        "Leave it alone.",
    )
}

/// Records how ends went, for those that are `broker`'s to tell of: it has the claim, or nobody has. A failure is an entry
/// when it says something new, see [`is_news`].
pub(super) fn record(
    world: &World,
    broker: &str,
    results: &[(Owed, Result<Proof, EndFailure>)],
    now: Time,
) -> Decision {
    let (mut told, mut ours, mut events) = (BTreeSet::new(), false, Vec::new());
    for (owed, result) in results {
        let led_to = match owed {
            _ if !told.insert(owed) => None,
            Owed::Lease(id) => record_lease(world, id, broker, result, now),
            Owed::Orphan(key) => record_orphan(world, key, broker, result, now),
        };
        ours |= led_to.is_some();
        events.extend(led_to.flatten());
    }
    if ours { Ok(events) } else { Err(stale_claim()) }
}

/// What is known of a failure once it is counted.
struct Counted<'a> {
    code: &'a str,
    detail: &'a str,
    attempts: u32,
    retry_in: Seconds,
}

impl<'a> Counted<'a> {
    fn failure(failure: &'a EndFailure, recorded: u32) -> Self {
        Self {
            code: &failure.code,
            detail: &failure.detail,
            attempts: failure.attempts.max(recorded.saturating_add(1)),
            retry_in: failure.retry_in,
        }
    }

    /// The target's clock is a little behind ours.
    fn not_run_out(recorded: u32) -> Self {
        Self {
            code: "not_run_out",
            detail: "",
            attempts: recorded.saturating_add(1),
            retry_in: NOT_RUN_OUT,
        }
    }

    /// Whether it is worth an entry: something else is in the way than before, it has gone on for twice as long, or the
    /// entry gives a claim back.
    fn is_news(&self, trouble: Option<&String>, claimed: bool) -> bool {
        claimed || trouble.is_none_or(|code| code != self.code) || self.attempts.is_power_of_two()
    }
}

/// `None` when another broker has the duty, or it is done.
fn record_lease(
    world: &World,
    id: &LeaseId,
    broker: &str,
    result: &Result<Proof, EndFailure>,
    now: Time,
) -> Option<Option<Event>> {
    let lease = world.leases.get(id)?;
    let LeaseState::Ending {
        cause,
        attempts,
        trouble,
        cut_off,
        ..
    } = &lease.state
    else {
        return None;
    };
    if !lease.may_be_told_by(broker, now) {
        return None;
    }
    let (request, lease_id) = (lease.request.clone(), id.clone());
    let outcome = outcome_when_ended(world, lease, *cause, now);
    let failed = match result {
        Ok(Proof::Gone { seen, left }) => {
            return Some(Some(Event::LeaseEnded {
                outcome,
                request,
                lease: lease_id,
                proof: seen.clone(),
                residue: residue(left),
            }));
        }
        Ok(Proof::CutOff { seen, until }) if cut_off.is_none() => {
            return Some(Some(Event::LeaseCutOff {
                handed_back: outcome.is_none() && !world.is_alone(lease),
                request,
                lease: lease_id,
                broker: broker.into(),
                proof: seen.clone(),
                until: (*until).min(lease.expires),
            }));
        }
        Ok(Proof::CutOff { .. }) => Counted::not_run_out(*attempts),
        Err(failure) => Counted::failure(failure, *attempts),
    };
    let is_news = failed.is_news(trouble.as_ref(), lease.is_claimed_by(broker));
    Some(is_news.then(|| Event::LeaseEndFailed {
        request,
        lease: lease_id,
        broker: broker.into(),
        code: failed.code.into(),
        detail: failed.detail.into(),
        attempts: failed.attempts,
        retry_at: now.plus(failed.retry_in),
    }))
}

/// `None` when another broker has the duty, or it is done.
fn record_orphan(
    world: &World,
    key: &OrphanKey,
    broker: &str,
    result: &Result<Proof, EndFailure>,
    now: Time,
) -> Option<Option<Event>> {
    let orphan = world.orphans.get(key)?;
    if !orphan.may_be_told_by(broker, now) {
        return None;
    }
    let (target, handle) = key.clone();
    let failed = match result {
        Ok(Proof::Gone { seen, left }) => {
            return Some(Some(Event::OrphanEnded {
                proof: seen.clone(),
                residue: residue(left),
                target,
                handle,
            }));
        }
        Ok(Proof::CutOff { .. }) => Counted::not_run_out(orphan.attempts),
        Err(failure) => Counted::failure(failure, orphan.attempts),
    };
    let claimed = orphan.claimed_by.as_deref() == Some(broker);
    let is_news = failed.is_news(orphan.trouble.as_ref(), claimed);
    Some(is_news.then(|| Event::OrphanEndFailed {
        target,
        handle,
        broker: broker.into(),
        code: failed.code.into(),
        detail: failed.detail.into(),
        attempts: failed.attempts,
        retry_at: now.plus(failed.retry_in),
    }))
}

/// How the request comes out; `None` hands the grant back for the same collect to be repeated, or leaves a request
/// alone that has its grant back already.
pub(in crate::domain) fn outcome_when_ended(
    world: &World,
    lease: &Lease,
    cause: EndCause,
    now: Time,
) -> Option<Outcome> {
    if world.is_alone(lease) {
        return None;
    }
    match cause {
        EndCause::Finished => Some(Outcome::Completed),
        EndCause::Expired => Some(Outcome::Expired),
        EndCause::Revoked | EndCause::Frozen | EndCause::AgentDisabled => Some(Outcome::Revoked),
        EndCause::AnswerLost | EndCause::Unacknowledged | EndCause::MintUnknown => {
            let request = world.requests.get(&lease.request)?;
            let open = matches!(request.state,
                RequestState::Ending { collect_until, .. } if now < collect_until);
            (!open).then_some(Outcome::Failed)
        }
    }
}

/// A target that is away is so once, whoever notices.
pub(super) fn away(
    world: &World,
    target: &TargetName,
    broker: &str,
    (code, detail): (&str, &str),
) -> Vec<Event> {
    let known = world.away.get(target);
    if known.is_some_and(|known| known.code == code) {
        return Vec::new();
    }
    vec![Event::TargetAway {
        target: target.clone(),
        broker: broker.into(),
        code: code.into(),
        detail: detail.into(),
    }]
}

pub(super) fn back(world: &World, target: &TargetName) -> Vec<Event> {
    let away = world.away.contains_key(target);
    let back = away.then(|| Event::TargetBack {
        target: target.clone(),
    });
    back.into_iter().collect()
}

/// Whether the end of `lease` is seen to be hindered, so that it may be given up.
pub(in crate::domain) fn is_stuck(world: &World, lease: &Lease) -> bool {
    match lease.state {
        LeaseState::Ending { attempts, .. } => {
            attempts > 0 || world.away.contains_key(&lease.target)
        }
        LeaseState::Issuing { .. } | LeaseState::Live => false,
    }
}

pub(super) fn abandon(world: &World, id: &LeaseId, reason: BlobRef) -> Decision {
    let lease = world.leases.get(id).ok_or_else(|| {
        Refusal::new(
            RefusalCode::NotFound,
            "there is no such open lease",
            "Check the id; a lease that is over needs nobody.",
        )
    })?;
    if lease.abandoned_at().is_some() {
        return Ok(Vec::new());
    }
    if !is_stuck(world, lease) {
        return Err(Refusal::new(
            RefusalCode::NotStuck,
            format!(
                "the lease is {}, and no attempt to end it has failed",
                lease.state.word()
            ),
            "Revoke its request if it is to end, and give it up only when its end keeps failing.",
        ));
    }
    Ok(vec![Event::LeaseAbandoned {
        request: lease.request.clone(),
        lease: id.clone(),
        reason,
    }])
}
