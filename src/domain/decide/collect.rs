//! An agent collects; the target answers. Everything is checked again before the intent is written.

use super::super::action::Action;
use super::super::approval::{approvers, as_known_now, is_complete};
use super::super::command::{MintResult, Refusal, RefusalCode};
use super::super::event::Event;
use super::super::freeze::Stop;
use super::super::ids::{AgentName, Digest, LeaseId, RequestId, TargetName};
use super::super::lease::{ACKNOWLEDGE_WITHIN, EndCause, Lease, LeaseState};
use super::super::quorum::quorum;
use super::super::request::{Outcome, Request, RequestState, VerdictAnswer};
use super::super::rules::{Question, Rules};
use super::super::time::{Seconds, Time};
use super::super::world::World;
use super::end::stop;
use super::{Decision, ask_of, no_such_request, own_request, sealed_now, serving_agent};

/// The parts of `Command::Collect`.
pub(super) struct Collect<'a> {
    pub(super) agent: &'a AgentName,
    pub(super) request: &'a RequestId,
    pub(super) lease: &'a LeaseId,
    pub(super) key: &'a Digest,
}

pub(super) fn collect(
    world: &World,
    collect: &Collect<'_>,
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    serving_agent(world, collect.agent)?;
    let request = own_request(world, collect.agent, collect.request)?;
    if let Some(order) = world.stop_of(collect.request) {
        return Err(stopped(request, order));
    }
    let same_key = request.collect_key.as_ref() == Some(collect.key);
    match &request.state {
        RequestState::Approved { collect_until } if now < *collect_until => {
            intend(world, request, collect, rules, now)
        }
        RequestState::Approved { .. } => Err(Refusal::new(
            RefusalCode::Expired,
            "the request was approved but not collected in time",
            "Ask again.",
        )),
        RequestState::Pending => Err(Refusal::new(
            RefusalCode::NotApproved,
            "the request still waits for its reviewers",
            "Wait with `Prefer: wait` on the request, then collect.",
        )),
        // The answer to this very collect was lost: nobody has said that they hold it. Nobody else may hold what it
        // carried, so that credential ends first, and only then is another one minted under the same grant.
        RequestState::Live {
            lease,
            collect_until,
        } if same_key && now < *collect_until && is_unacknowledged(world, lease) => {
            Ok(vec![Event::LeaseEnding {
                request: collect.request.clone(),
                lease: lease.clone(),
                cause: EndCause::AnswerLost,
                report: serde_json::Map::new(),
            }])
        }
        RequestState::Issuing { .. } if same_key => Err(underway()),
        RequestState::Ending {
            cause,
            collect_until,
            ..
        } if cause.hands_back() && same_key && now < *collect_until => Err(underway()),
        _ => Err(Refusal::new(
            RefusalCode::Gone,
            "the credential of this request was handed out already",
            "A credential is handed out once; ask again for another one.",
        )),
    }
}

fn is_unacknowledged(world: &World, lease: &LeaseId) -> bool {
    let lease = world.leases.get(lease);
    lease.is_some_and(|lease| lease.acknowledge_by.is_some())
}

/// An order stops it. Who comes before the broker does carries it out.
fn stopped(request: &Request, order: Stop) -> Box<Refusal> {
    let (code, detail) = match order.cause {
        EndCause::Frozen => (RefusalCode::Frozen, "a freeze stopped this request"),
        _ => (RefusalCode::Gone, "this request was stopped"),
    };
    let next = "Wait until the security team lifts what stops it, then ask again.";
    let mut refusal = Refusal::new(code, detail, next);
    refusal.record = stop(request, order.outcome(), order.cause)
        .into_iter()
        .collect();
    refusal
}

fn underway() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::MintUnderway,
        "this collect is under way",
        "Repeat it with the same idempotency key in a moment.",
    )
}

fn intend(
    world: &World,
    request: &Request,
    collect: &Collect<'_>,
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    if let Err((outcome, mut refusal)) = still_granted(world, request, rules, now) {
        refusal.record.push(Event::RequestClosed {
            request: request.id().clone(),
            outcome,
        });
        return Err(refusal);
    }
    let sealed = request.sealed();
    has_room(world, &sealed.target, rules)?;
    let life = life_left(request, now)?;
    Ok(vec![Event::LeaseIntended {
        request: request.id().clone(),
        lease: collect.lease.clone(),
        digest: request.submission.digest,
        agent: sealed.agent.clone(),
        target: sealed.target.clone(),
        server: sealed.server.clone(),
        scope: sealed.scope.clone(),
        ttl_seconds: life,
        mint_until: now.plus(rules.policy.limits().mint_window),
        expires: now.plus(life),
        collect_key: *collect.key,
        bundle: rules.policy.bundle(),
    }])
}

/// What was approved is one lifetime, from the first credential that was handed out, however often it is minted again.
fn life_left(request: &Request, now: Time) -> Result<Seconds, Box<Refusal>> {
    let whole = request.sealed().ttl_seconds;
    let left = request.access_until.map_or(whole, |until| until.since(now));
    match left.min(whole) {
        Seconds(0) => Err(Refusal::new(
            RefusalCode::Expired,
            "the time that was granted is over: it ran from the first credential",
            "Ask again.",
        )),
        life => Ok(life),
    }
}

/// A credential is minted only if it could be cut off alone, even when all others of its guard are cut off too.
fn has_room(world: &World, target: &TargetName, rules: &Rules<'_>) -> Result<(), Box<Refusal>> {
    let Some(guard) = rules.targets.guard(target) else {
        return Ok(());
    };
    let shares = |other: &TargetName| {
        let other = rules.targets.guard(other);
        other.is_some_and(|other| other.name == guard.name)
    };
    if world.leases_at(&shares) < guard.room {
        return Ok(());
    }
    let detail = format!(
        "guard {} has room for {} leases, and all of it is taken",
        guard.name, guard.room
    );
    let next = "Collect again in a moment: room comes free as leases run out.";
    Err(Refusal::new(RefusalCode::GuardFull, detail, next))
}

/// The approval is void.
fn stale(code: RefusalCode, detail: &str) -> (Outcome, Box<Refusal>) {
    let next = "The approval is void; ask again.";
    (Outcome::Stale, Refusal::new(code, detail, next))
}

/// Whether what was approved can still be minted as it is: freezes, the server, the definition, the scope.
fn still_the_same<'a>(
    world: &World,
    request: &Request,
    rules: &Rules<'a>,
) -> Result<&'a Action, (Outcome, Box<Refusal>)> {
    let sealed = request.sealed();
    if world
        .freezes
        .iter()
        .any(|f| f.covers(&sealed.agent, &sealed.action, &sealed.target))
    {
        let next = "Wait until the security team lifts it, then ask again.";
        let refusal = Refusal::new(RefusalCode::Frozen, "a freeze covers this request", next);
        return Err((Outcome::Frozen, refusal));
    }
    if world.servers.get(&sealed.target) != Some(&sealed.server) {
        return Err(stale(
            RefusalCode::TargetChanged,
            "the target stands for another server now than the one that was approved",
        ));
    }
    let action = match sealed_now(request, rules) {
        Some((action, now)) if now.digest() == request.submission.digest => action,
        _ => {
            return Err(stale(
                RefusalCode::BindingMismatch,
                "what would be minted now is not what was approved: the action changed",
            ));
        }
    };
    let scope = rules.targets.check_scope(&sealed.target, &sealed.scope);
    if scope.is_err() || rules.targets.longest_ttl(&sealed.target) < Some(sealed.ttl_seconds) {
        return Err(stale(
            RefusalCode::BindingMismatch,
            "the target no longer accepts what was approved",
        ));
    }
    Ok(action)
}

/// Whether the grant still holds: what was approved, policy and, where asked for, the reviewers.
fn still_granted(
    world: &World,
    request: &Request,
    rules: &Rules<'_>,
    now: Time,
) -> Result<(), (Outcome, Box<Refusal>)> {
    let action = still_the_same(world, request, rules)?;
    let sealed = request.sealed();
    let Some(agent) = world.agent(&sealed.agent) else {
        return Err(stale(RefusalCode::AgentDisabled, "the agent is disabled"));
    };
    let denied = || {
        stale(
            RefusalCode::PolicyDenied,
            "policy changed and no longer permits this request",
        )
    };
    let holds = |question: Question<'_>| {
        let ruling = rules.policy.ask(&question);
        let short = ruling
            .ttl_at_most
            .is_some_and(|ttl| ttl < sealed.ttl_seconds);
        ruling.permitted && ruling.errors.is_empty() && !short
    };
    let ask = || ask_of(agent, action, request, now);
    if !holds(Question::Request(ask())) {
        return Err(denied());
    }
    let routine = request.verdict.answer == VerdictAnswer::Allow;
    if routine && !holds(Question::Routine(ask())) {
        return Err(denied());
    }
    if !routine && !is_complete(world, request) {
        return Err(stale(
            RefusalCode::SelfApproval,
            "somebody who approved this has come to own the agent since, and without them too few have",
        ));
    }
    if routine || !action.review.recheck_at_collect {
        return Ok(());
    }
    let approvers: Vec<_> = approvers(world, request)
        .map(|it| as_known_now(world, it))
        .collect();
    let places = quorum(
        &request.submission.reviewers,
        &approvers.iter().collect::<Vec<_>>(),
    );
    if places.is_none()
        || !approvers
            .iter()
            .all(|it| holds(Question::Review(it, ask())))
    {
        return Err(stale(
            RefusalCode::PolicyDenied,
            "a reviewer is no longer eligible",
        ));
    }
    Ok(())
}

pub(super) fn record_mint(world: &World, id: &LeaseId, result: &MintResult, now: Time) -> Decision {
    let stale = || {
        Refusal::new(
            RefusalCode::StaleClaim,
            "the lease was ended while it was minted",
            "Its credential is being removed; collect again.",
        )
    };
    let lease = world.leases.get(id).ok_or_else(stale)?;
    let LeaseState::Issuing { mint_until } = lease.state else {
        return Err(stale());
    };
    let expires = lease.expires;
    let (request, lease_id) = (lease.request.clone(), id.clone());
    if let Some(order) = world.stop_of(&request) {
        // Whatever is at the target is to be ended and proven gone, and handed to nobody.
        return Ok(vec![Event::LeaseEnding {
            request,
            lease: lease_id,
            cause: order.cause,
            report: serde_json::Map::new(),
        }]);
    }
    Ok(match result {
        MintResult::Minted if now < mint_until && now < expires => {
            vec![Event::LeaseLive {
                request,
                lease: lease_id,
                expires,
                acknowledge_by: now.plus(ACKNOWLEDGE_WITHIN).min(expires),
            }]
        }
        MintResult::Failed { code, retryable } => vec![Event::LeaseFailed {
            outcome: after_failure(world, lease, *retryable, now),
            request,
            lease: lease_id,
            code: code.clone(),
        }],
        // Too late or unknown: whatever is at the target is to be ended and proven gone.
        MintResult::Minted | MintResult::Unknown => vec![Event::LeaseEnding {
            request,
            lease: lease_id,
            cause: EndCause::MintUnknown,
            report: serde_json::Map::new(),
        }],
    })
}

/// The agent holds the credential. Said again, it is nothing new; too late, it does not count.
pub(super) fn acknowledge(world: &World, agent: &AgentName, id: &LeaseId, now: Time) -> Decision {
    let lease = world.leases.get(id);
    let lease = lease.filter(|lease| &lease.agent == agent);
    let lease = lease.ok_or_else(no_such_request)?;
    let stopped = world.stop_of(&lease.request).is_some();
    match (&lease.state, lease.acknowledge_by) {
        (LeaseState::Live, _) if stopped => Err(not_held()),
        (LeaseState::Live, None) => Ok(Vec::new()),
        (LeaseState::Live, Some(by)) if now < by => Ok(vec![Event::LeaseAcknowledged {
            request: lease.request.clone(),
            lease: id.clone(),
        }]),
        _ => Err(not_held()),
    }
}

fn not_held() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::NotLive,
        "the credential of this lease is being ended",
        "Do not use it; look at the request for why it ends, and collect again if it is approved still.",
    )
}

/// A credential nobody received is ended at once; the same collect may be repeated.
pub(super) fn lose_answer(world: &World, id: &LeaseId) -> Vec<Event> {
    match world.leases.get(id).map(|lease| (lease, &lease.state)) {
        Some((lease, LeaseState::Live)) if lease.acknowledge_by.is_some() => {
            vec![Event::LeaseEnding {
                request: lease.request.clone(),
                lease: id.clone(),
                cause: EndCause::AnswerLost,
                report: serde_json::Map::new(),
            }]
        }
        _ => Vec::new(),
    }
}

/// A failed mint does not use the grant up, while the window is open and asking again may help.
fn after_failure(world: &World, lease: &Lease, retryable: bool, now: Time) -> Option<Outcome> {
    let open = world.requests.get(&lease.request).is_some_and(|request| {
        matches!(request.state, RequestState::Issuing { collect_until, .. } if now < collect_until)
    });
    (!(retryable && open)).then_some(Outcome::Failed)
}
