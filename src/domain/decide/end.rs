//! Whatever ends a request or a lease: the agent, a person, the operator, time.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::command::{Refusal, RefusalCode, Revoker};
use super::super::event::Event;
use super::super::ids::{AgentName, LeaseId, RequestId};
use super::super::lease::{EndCause, LeaseState};
use super::super::person::Reviewer;
use super::super::request::{Outcome, Request, RequestState};
use super::super::rules::{Question, Rules};
use super::super::time::Time;
use super::super::world::World;
use super::{Decision, ask_of, no_such_request, own_request, was_named};

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

/// Whether there is anything to stop for good.
pub(in crate::domain) fn is_stoppable(request: &Request) -> bool {
    stop(request, Outcome::Revoked, EndCause::Revoked).is_some()
}

/// What is due for each of `requests`: that an order stops it, or that its time is up.
pub(super) fn lapse(world: &World, requests: &[RequestId], now: Time) -> Vec<Event> {
    let each: BTreeSet<_> = requests.iter().collect();
    let open = each.into_iter().filter_map(|id| world.requests.get(id));
    let due = |request: &Arc<Request>| match world.stop_of(request.id()) {
        Some(order) => stop(request, order.outcome(), order.cause),
        None => lapse_one(world, request, now),
    };
    open.filter_map(due).collect()
}

fn lapse_one(world: &World, request: &Request, now: Time) -> Option<Event> {
    let id = request.id();
    let end = |lease: &LeaseId, cause| Event::LeaseEnding {
        request: id.clone(),
        lease: lease.clone(),
        cause,
        report: Map::new(),
    };
    let over = || Event::RequestClosed {
        request: id.clone(),
        outcome: Outcome::Lapsed,
    };
    let lease = request.lease().and_then(|lease| world.leases.get(lease));
    match (&request.state, lease) {
        (RequestState::Pending, _) => (now >= request.submission.pending_until).then(over),
        (RequestState::Approved { collect_until }, _) => (now >= *collect_until).then(over),
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
    }
}
