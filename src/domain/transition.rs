//! The state machine: one request and its lease, one event, the next states. There is no other way to move.

use super::event::Event;
use super::lease::{EndCause, Lease, LeaseState};
use super::request::{Outcome, Request, RequestState};
use super::time::Time;

/// The states of [`RequestState`] and [`LeaseState`] together, and what may follow:
///
/// ```text
/// (submitted) pending | approved | closed, as policy said
/// pending -grant-> approved                       pending, approved -close-> closed
/// approved -intend-> issuing -live-> live         issuing -failed-> approved | closed
/// live -acknowledged-> live
/// issuing, live, ending -ending-> ending          ending -claimed, end_failed-> ending
/// ending -cut_off-> ending | approved, its lease alone    ending -ended-> approved | closed
/// ending -abandoned-> closed, its lease alone
/// ```
///
/// Returns the lease as it then is, or `None` when it is over. `Err` when the event cannot follow;
/// `request` may then be half-changed and is to be thrown away.
pub(super) fn step(
    request: &mut Request,
    lease: Option<Lease>,
    event: &Event,
    at: Time,
) -> Result<Option<Lease>, ()> {
    match event {
        Event::ReviewGiven { review, .. } => {
            require(request.state == RequestState::Pending)?;
            require(review.digest == request.submission.digest)?;
            request.reviews.push((**review).clone());
            Ok(None)
        }
        Event::GrantMade {
            digest,
            collect_until,
            ..
        } => {
            require(request.state == RequestState::Pending)?;
            require(*digest == request.submission.digest)?;
            request.state = RequestState::Approved {
                collect_until: *collect_until,
            };
            Ok(None)
        }
        Event::RequestClosed { outcome, .. } => {
            require(matches!(
                request.state,
                RequestState::Pending | RequestState::Approved { .. }
            ))?;
            request.state = RequestState::Closed {
                outcome: *outcome,
                at,
            };
            Ok(None)
        }
        Event::LeaseIntended { .. } => intend(request, lease, event).map(Some),
        _ => step_lease(request, lease.ok_or(())?, event, at),
    }
}

fn require(holds: bool) -> Result<(), ()> {
    if holds { Ok(()) } else { Err(()) }
}

/// The only door to a lease: an approved request, a grant, the same digest.
fn intend(request: &mut Request, lease: Option<Lease>, event: &Event) -> Result<Lease, ()> {
    let (
        Event::LeaseIntended {
            lease: id,
            digest,
            agent,
            target,
            server,
            scope,
            ttl_seconds,
            mint_until,
            expires,
            collect_key,
            ..
        },
        RequestState::Approved { collect_until },
    ) = (event, &request.state)
    else {
        return Err(());
    };
    let sealed = request.sealed();
    require(lease.is_none())?;
    require(*digest == request.submission.digest)?;
    require(agent == &sealed.agent && target == &sealed.target && scope == &sealed.scope)?;
    require(server == &sealed.server)?;
    require(*ttl_seconds <= sealed.ttl_seconds)?;
    require(request.access_until.is_none_or(|until| *expires <= until))?;
    request.state = RequestState::Issuing {
        lease: id.clone(),
        collect_until: *collect_until,
    };
    request.collect_key = Some(*collect_key);
    Ok(Lease {
        id: id.clone(),
        request: request.id().clone(),
        agent: agent.clone(),
        target: target.clone(),
        server: server.clone(),
        scope: scope.clone(),
        ttl_seconds: *ttl_seconds,
        expires: *expires,
        acknowledge_by: None,
        state: LeaseState::Issuing {
            mint_until: *mint_until,
        },
    })
}

/// Events of a lease that exists.
fn step_lease(
    request: &mut Request,
    mut lease: Lease,
    event: &Event,
    at: Time,
) -> Result<Option<Lease>, ()> {
    require(request.lease() == Some(&lease.id))?;
    let collect_until = match &request.state {
        RequestState::Issuing { collect_until, .. }
        | RequestState::Live { collect_until, .. }
        | RequestState::Ending { collect_until, .. } => *collect_until,
        _ => return Err(()),
    };
    match (event, &mut lease.state) {
        (
            Event::LeaseLive {
                expires,
                acknowledge_by,
                ..
            },
            LeaseState::Issuing { .. },
        ) => {
            require(*expires <= lease.expires && acknowledge_by <= expires)?;
            lease.expires = *expires;
            lease.acknowledge_by = Some(*acknowledge_by);
            lease.state = LeaseState::Live;
            request.access_until.get_or_insert(*expires);
            request.state = RequestState::Live {
                lease: lease.id.clone(),
                collect_until: collect_until.min(*expires),
            };
        }
        (Event::LeaseAcknowledged { .. }, LeaseState::Live) => {
            require(lease.acknowledge_by.take().is_some())?;
        }
        (Event::LeaseFailed { outcome, .. }, LeaseState::Issuing { .. }) => {
            request.state = after_lease(*outcome, collect_until, at);
            return Ok(None);
        }
        (Event::LeaseEnding { cause, .. }, state) => {
            let next = ending(state, *cause, at);
            request.state = RequestState::Ending {
                lease: lease.id.clone(),
                cause: *cause,
                collect_until,
            };
            lease.state = next;
        }
        (
            Event::LeaseEnded {
                outcome, residue, ..
            },
            LeaseState::Ending { .. },
        ) => {
            request.residue.extend(residue.iter().cloned());
            request.state = after_lease(*outcome, collect_until, at);
            return Ok(None);
        }
        (
            Event::LeaseCutOff {
                handed_back: true, ..
            },
            LeaseState::Ending { .. },
        ) => {
            request.state = RequestState::Approved { collect_until };
            return step_ending(lease, event, at);
        }
        // Its request is over, and it has none any more.
        (Event::LeaseAbandoned { .. }, LeaseState::Ending { .. }) => {
            request.state = after_lease(Some(Outcome::Abandoned), collect_until, at);
            return step_ending(lease, event, at);
        }
        _ => return step_ending(lease, event, at),
    }
    Ok(Some(lease))
}

/// Events that move a lease on its way out and leave its request alone. A lease whose grant was handed back when it
/// was cut off has no other ones: its request goes its own way.
pub(super) fn step_ending(mut lease: Lease, event: &Event, at: Time) -> Result<Option<Lease>, ()> {
    let LeaseState::Ending {
        attempts,
        trouble,
        not_before,
        claimed_by,
        cut_off,
        abandoned,
        ..
    } = &mut lease.state
    else {
        return Err(());
    };
    match event {
        Event::LeaseEndClaimed { broker, until, .. } => {
            *not_before = *until;
            *claimed_by = Some(broker.clone());
        }
        Event::LeaseEndFailed {
            code,
            attempts: failed,
            retry_at,
            ..
        } => {
            *attempts = *failed;
            *trouble = Some(code.clone());
            *not_before = *retry_at;
            *claimed_by = None;
        }
        Event::LeaseCutOff { until, .. } => {
            require(cut_off.is_none())?;
            require(*until <= lease.expires)?;
            *cut_off = Some(at);
            *attempts = 0;
            *trouble = None;
            *not_before = *until;
            *claimed_by = None;
        }
        Event::LeaseAbandoned { .. } => {
            require(abandoned.is_none())?;
            *abandoned = Some(at);
        }
        Event::LeaseEnded { outcome: None, .. } => return Ok(None),
        _ => return Err(()),
    }
    Ok(Some(lease))
}

/// A lease that ends while its mint may still be under way is left alone until the mint is over:
/// a proof of absence taken earlier would prove nothing.
fn ending(state: &LeaseState, cause: EndCause, at: Time) -> LeaseState {
    let from = |not_before| LeaseState::Ending {
        cause,
        since: at,
        attempts: 0,
        trouble: None,
        not_before,
        claimed_by: None,
        cut_off: None,
        abandoned: None,
    };
    match state {
        LeaseState::Issuing { mint_until } => from((*mint_until).max(at)),
        LeaseState::Live => from(at),
        LeaseState::Ending { .. } => {
            let mut state = state.clone();
            if let LeaseState::Ending { cause: why, .. } = &mut state {
                *why = cause;
            }
            state
        }
    }
}

fn after_lease(outcome: Option<Outcome>, collect_until: Time, at: Time) -> RequestState {
    match outcome {
        Some(outcome) => RequestState::Closed { outcome, at },
        None => RequestState::Approved { collect_until },
    }
}
