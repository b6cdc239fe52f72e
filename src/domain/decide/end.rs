//! Whatever ends a request or a lease: the agent, a person, the operator, time.

use serde_json::{Map, Value};

use super::super::command::{EndFailure, Refusal, RefusalCode, Revoker};
use super::super::event::Event;
use super::super::ids::{AgentName, LeaseId, RequestId};
use super::super::lease::{EndCause, Lease, LeaseState, Proof, residue};
use super::super::person::Reviewer;
use super::super::request::{Outcome, Request, RequestState};
use super::super::rules::{Question, Rules};
use super::super::time::{Seconds, Time};
use super::super::world::World;
use super::{Decision, ask_of, no_such_request, own_request, was_named};

/// How soon a credential is looked at again that should have run out by our clock.
pub(super) const NOT_RUN_OUT: Seconds = Seconds(2);

pub(super) fn withdraw(world: &World, agent: &AgentName, id: &RequestId) -> Decision {
    let request = own_request(world, agent, id)?;
    match request.state {
        RequestState::Pending | RequestState::Approved { .. } => Ok(vec![Event::RequestClosed {
            request: id.clone(),
            outcome: Outcome::Withdrawn,
        }]),
        _ => Err(Refusal::new(
            RefusalCode::Gone,
            "the credential of this request was handed out already",
            "Finish the request instead.",
        )),
    }
}

pub(super) fn finish(
    world: &World,
    agent: &AgentName,
    id: &RequestId,
    report: &Map<String, Value>,
) -> Decision {
    let request = own_request(world, agent, id)?;
    match &request.state {
        RequestState::Live { lease, .. } => Ok(vec![Event::LeaseEnding {
            request: id.clone(),
            lease: lease.clone(),
            cause: EndCause::Finished,
            report: report.clone(),
        }]),
        RequestState::Ending { .. } => Ok(Vec::new()),
        _ => Err(Refusal::new(
            RefusalCode::NotLive,
            format!(
                "the request is {}, so there is no credential to end",
                request.state.word()
            ),
            "Withdraw the request if it is no longer needed.",
        )),
    }
}

pub(super) fn revoke(
    world: &World,
    by: &Revoker,
    id: &RequestId,
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    let request = world.requests.get(id).ok_or_else(no_such_request)?;
    match by {
        Revoker::Operator => {}
        Revoker::Agent(agent) => {
            own_request(world, agent, id)?;
        }
        Revoker::Person(reviewer) if !may_revoke(world, reviewer, request, rules, now) => {
            return Err(Refusal::new(
                RefusalCode::NotAReviewer,
                "policy does not let you revoke this",
                "Ask the agent's owner or the security team.",
            ));
        }
        Revoker::Person(_) => {}
    }
    Ok(stop(request, Outcome::Revoked, EndCause::Revoked)
        .into_iter()
        .collect())
}

/// Whether `reviewer` may end this: the agent's owner always, others as policy says; once its action has left the
/// bundle, those who were to review it.
pub fn may_revoke(
    world: &World,
    reviewer: &Reviewer,
    request: &Request,
    rules: &Rules<'_>,
    now: Time,
) -> bool {
    let sealed = request.sealed();
    let Some((agent, _)) = world.agents.get(&sealed.agent) else {
        return false;
    };
    let permitted = |action| {
        let ask = ask_of(agent, action, request, now);
        rules.policy.ask(&Question::Revoke(reviewer, ask)).permitted
    };
    agent.owner.includes(reviewer)
        || match rules.policy.action(&sealed.action) {
            Some(action) => permitted(action),
            None => was_named(request, reviewer),
        }
}

/// The entry that stops `request` for good, wherever it stands; none when it is ending for good already.
pub(super) fn stop(request: &Request, outcome: Outcome, cause: EndCause) -> Option<Event> {
    let id = request.id().clone();
    let ending = |lease: &LeaseId| {
        Some(Event::LeaseEnding {
            request: request.id().clone(),
            lease: lease.clone(),
            cause,
            report: Map::new(),
        })
    };
    match &request.state {
        RequestState::Pending | RequestState::Approved { .. } => Some(Event::RequestClosed {
            request: id,
            outcome,
        }),
        RequestState::Issuing { lease, .. } | RequestState::Live { lease, .. } => ending(lease),
        RequestState::Ending {
            lease,
            cause: before,
            ..
        } if before.hands_back() => ending(lease),
        RequestState::Ending { .. } | RequestState::Closed { .. } => None,
    }
}

pub(super) fn lapse(world: &World, id: &RequestId, now: Time) -> Vec<Event> {
    let Some(request) = world.requests.get(id) else {
        return Vec::new();
    };
    let end = |lease: &LeaseId, cause| Event::LeaseEnding {
        request: id.clone(),
        lease: lease.clone(),
        cause,
        report: Map::new(),
    };
    let lease = request.lease().and_then(|lease| world.leases.get(lease));
    let event = match (&request.state, lease) {
        (RequestState::Pending, _) if now >= request.submission.pending_until => {
            Some(Event::RequestClosed {
                request: id.clone(),
                outcome: Outcome::Lapsed,
            })
        }
        (RequestState::Approved { collect_until }, _) if now >= *collect_until => {
            Some(Event::RequestClosed {
                request: id.clone(),
                outcome: Outcome::Lapsed,
            })
        }
        (RequestState::Issuing { .. }, Some(lease)) => match lease.state {
            LeaseState::Issuing { mint_until } if now >= mint_until => {
                Some(end(&lease.id, EndCause::MintUnknown))
            }
            _ => None,
        },
        (RequestState::Live { .. }, Some(lease)) if now >= lease.expires => {
            Some(end(&lease.id, EndCause::Expired))
        }
        (RequestState::Live { .. }, Some(lease))
            if lease.acknowledge_by.is_some_and(|by| now >= by) =>
        {
            Some(end(&lease.id, EndCause::Unacknowledged))
        }
        _ => None,
    };
    event.into_iter().collect()
}

pub(super) fn claim(
    world: &World,
    id: &LeaseId,
    broker: &str,
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    match world.leases.get(id).map(|lease| (lease, &lease.state)) {
        Some((lease, LeaseState::Ending { not_before, .. })) if now >= *not_before => {
            Ok(vec![Event::LeaseEndClaimed {
                request: lease.request.clone(),
                lease: id.clone(),
                broker: broker.into(),
                until: now.plus(rules.policy.limits().claim_window),
            }])
        }
        _ => Err(stale_claim()),
    }
}

pub(super) fn stale_claim() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::StaleClaim,
        "another broker has the duty, or it is done",
        "Leave it alone.",
    )
}

pub(super) fn record_end(
    world: &World,
    id: &LeaseId,
    broker: &str,
    result: &Result<Proof, EndFailure>,
    now: Time,
) -> Decision {
    let lease = world.leases.get(id).ok_or_else(stale_claim)?;
    let LeaseState::Ending {
        cause,
        claimed_by: Some(holder),
        cut_off,
        ..
    } = &lease.state
    else {
        return Err(stale_claim());
    };
    if holder != broker {
        return Err(stale_claim());
    }
    let (request, lease_id) = (lease.request.clone(), id.clone());
    let outcome = outcome_when_ended(world, lease, *cause, now);
    let failed = |code: &str, detail: &str, retry_in| Event::LeaseEndFailed {
        request: request.clone(),
        lease: lease_id.clone(),
        broker: broker.into(),
        code: code.into(),
        detail: detail.into(),
        retry_at: now.plus(retry_in),
    };
    Ok(vec![match result {
        Ok(Proof::Gone { seen, left }) => Event::LeaseEnded {
            outcome,
            request,
            lease: lease_id,
            proof: seen.clone(),
            residue: residue(left),
        },
        Ok(Proof::CutOff { seen, until }) if cut_off.is_none() => Event::LeaseCutOff {
            handed_back: outcome.is_none(),
            request,
            lease: lease_id,
            broker: broker.into(),
            proof: seen.clone(),
            until: (*until).min(lease.expires),
        },
        // The target's clock is a little behind ours.
        Ok(Proof::CutOff { .. }) => failed("not_run_out", "", NOT_RUN_OUT),
        Err(failure) => failed(&failure.code, &failure.detail, failure.retry_in),
    }])
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
