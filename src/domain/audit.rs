//! What an entry claims, derived again from the world it was written on: for whoever does not trust the broker that
//! wrote it. That entries can follow each other at all is the business of [`World::apply`].

use super::approval::{approvers, has_a_stake, is_complete};
use super::decide::{is_stuck, outcome_when_ended};
use super::event::{Actor, Entry, Event, Freeze};
use super::ids::{AgentName, RequestId};
use super::lease::{ACKNOWLEDGE_WITHIN, EndCause, Lease, LeaseState};
use super::orphan::Orphan;
use super::quorum::quorum;
use super::request::{
    Outcome, Request, RequestState, Review, ReviewDecision, Submission, Verdict, VerdictAnswer,
};
use super::world::World;

/// Whether `entry` may stand after `world`, the fold of everything before it, whose last entry is `before`.
///
/// # Errors
/// What it claims that is not so.
pub fn audit(world: &World, before: Option<&Entry>, entry: &Entry) -> Result<(), String> {
    match &entry.event {
        Event::RequestSubmitted {
            submission,
            verdict,
        } => submitted(world, entry, submission, verdict),
        Event::ReviewGiven { request, review } => {
            reviewed(world, entry, open(world, request)?, review)
        }
        Event::GrantMade { request, .. } => granted(world, open(world, request)?, before, entry),
        Event::RequestClosed { request, outcome } => {
            closed(world, open(world, request)?, *outcome, before, entry)
        }
        Event::LeaseIntended { request, .. } => intended(world, open(world, request)?, entry),
        Event::LeaseLive { lease, .. }
        | Event::LeaseAcknowledged { lease, .. }
        | Event::LeaseEnding { lease, .. }
        | Event::LeaseEndClaimed { lease, .. }
        | Event::LeaseEndFailed { lease, .. }
        | Event::LeaseCutOff { lease, .. }
        | Event::LeaseAbandoned { lease, .. }
        | Event::LeaseEnded { lease, .. } => {
            let lease = world.leases.get(lease).ok_or("there is no such lease")?;
            moved(world, lease, entry)
        }
        Event::OrphanEndClaimed { target, handle, .. }
        | Event::OrphanEndFailed { target, handle, .. }
        | Event::OrphanEnded { target, handle, .. } => {
            let orphan = world.orphans.get(&(target.clone(), handle.clone()));
            orphan_moved(orphan.ok_or("there is no such orphan")?, entry)
        }
        Event::TargetAway { .. } | Event::TargetBack { .. } => must(
            entry.actor == Actor::Broker,
            "brokers alone notice that a target is away or back",
        ),
        Event::GuardShut { issued_before, .. } => must(
            *issued_before == entry.time,
            "a guard is shut for what was issued until then",
        ),
        Event::PersonSignedIn { person, .. } | Event::PersonSignedOut { person } => {
            let own = Actor::Person {
                person: person.clone(),
            };
            must(entry.actor == own, "people sign in and out themselves")
        }
        Event::ClockAccepted { .. } | Event::LedgerAccepted { .. } => must(
            entry.actor == Actor::Operator,
            "the operator alone accepts a clock or a ledger",
        ),
        // Claims about the outside, or claims that the fold judges.
        Event::LedgerOpened { .. }
        | Event::BundleApplied { .. }
        | Event::AgentEnrolled { .. }
        | Event::AgentDisabled { .. }
        | Event::TargetIdentified { .. }
        | Event::TargetMoved { .. }
        | Event::ReviewRefused { .. }
        | Event::LeaseFailed { .. }
        | Event::OrphanFound { .. }
        | Event::FreezeSet { .. }
        | Event::FreezeLifted { .. } => Ok(()),
    }
}

fn must(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn open<'a>(world: &'a World, request: &RequestId) -> Result<&'a Request, String> {
    let request = world.requests.get(request);
    Ok(request.ok_or("there is no such open request")?)
}

fn by_agent(entry: &Entry, name: &AgentName) -> Result<(), String> {
    let agent = Actor::Agent { name: name.clone() };
    must(entry.actor == agent, "only the agent itself does this")
}

fn is_frozen(world: &World, request: &Submission) -> bool {
    let sealed = &request.sealed;
    let covers = |freeze: &Freeze| freeze.covers(&sealed.agent, &sealed.action, &sealed.target);
    world.freezes.iter().any(covers)
}

/// What must hold whenever something new is let in: the agent is served, no freeze, the server is the sealed one.
fn let_in(world: &World, entry: &Entry, submission: &Submission) -> Result<(), String> {
    let sealed = &submission.sealed;
    by_agent(entry, &sealed.agent)?;
    must(
        world.agent(&sealed.agent).is_some(),
        "the agent was not served",
    )?;
    must(!is_frozen(world, submission), "a freeze covered it")?;
    must(
        world.servers.get(&sealed.target) == Some(&sealed.server),
        "its target stood for another server",
    )
}

fn submitted(
    world: &World,
    entry: &Entry,
    submission: &Submission,
    verdict: &Verdict,
) -> Result<(), String> {
    let sealed = &submission.sealed;
    must(
        submission.digest == sealed.digest(),
        "its digest is not the one of what it seals",
    )?;
    let_in(world, entry, submission)?;
    let owner = world.agent(&sealed.agent).map(|agent| &agent.owner);
    must(
        owner == Some(&submission.owner),
        "the agent had another owner",
    )?;
    must(
        submission
            .asked_ttl_seconds
            .is_none_or(|asked| sealed.ttl_seconds <= asked),
        "its lifetime is longer than was asked",
    )?;
    must(
        world.bundle.map(|(bundle, _)| bundle) == Some(verdict.bundle),
        "its verdict is of a bundle that was not in force",
    )?;
    must(
        verdict.errors.is_empty() || verdict.answer == VerdictAnswer::Deny,
        "an evaluation error denies",
    )?;
    let places: u32 = submission.reviewers.values().sum();
    must(
        verdict.answer != VerdictAnswer::Review || places > 0,
        "it is left to people and names none",
    )
}

fn reviewed(
    world: &World,
    entry: &Entry,
    request: &Request,
    review: &Review,
) -> Result<(), String> {
    let (submission, reviewer) = (&request.submission, &review.reviewer);
    let own = Actor::Person {
        person: reviewer.person.clone(),
    };
    must(entry.actor == own, "the review is not the reviewer's own")?;
    must(
        review.at == entry.time,
        "the review was given at another time",
    )?;
    must(
        entry.time < submission.pending_until,
        "the request had lapsed before the review",
    )?;
    let mut groups = reviewer.groups.iter();
    must(
        groups.any(|group| submission.reviewers.contains_key(group)),
        "the reviewer is in no group that was to decide",
    )?;
    must(
        world.agent(&submission.sealed.agent).is_some(),
        "the agent was not served",
    )?;
    must(
        !has_a_stake(world, reviewer, request),
        "the reviewer stands on the requester's side",
    )?;
    let mut given = request.reviews.iter();
    must(
        given.all(|given| given.reviewer.person != reviewer.person),
        "the reviewer had decided already",
    )
}

/// Whether `before` is the review by the same hand, at the same time, that `entry` follows from.
fn follows(before: Option<&Entry>, entry: &Entry, decision: ReviewDecision) -> bool {
    before.is_some_and(|before| {
        let led = matches!(&before.event, Event::ReviewGiven { review, .. } if review.decision == decision);
        led && before.event.request() == entry.event.request()
            && (&before.actor, before.time) == (&entry.actor, entry.time)
    })
}

fn granted(
    world: &World,
    request: &Request,
    before: Option<&Entry>,
    entry: &Entry,
) -> Result<(), String> {
    let Event::GrantMade {
        people,
        collect_until,
        ..
    } = &entry.event
    else {
        return Ok(());
    };
    must(
        follows(before, entry, ReviewDecision::Approve),
        "no approval led to the grant",
    )?;
    let approvers: Vec<_> = approvers(world, request).collect();
    let reached = quorum(&request.submission.reviewers, &approvers);
    must(
        reached.as_ref() == Some(people),
        "these people are not the quorum that was reached",
    )?;
    must(
        *collect_until == entry.time.plus(request.submission.collect_window),
        "it may be collected for another time than its action says",
    )
}

fn is_stopped_by(world: &World, request: &Request, cause: EndCause) -> bool {
    let order = world.stop_of(request.id());
    order.is_some_and(|order| order.cause == cause)
}

fn closed(
    world: &World,
    request: &Request,
    outcome: Outcome,
    before: Option<&Entry>,
    entry: &Entry,
) -> Result<(), String> {
    let agent = &request.sealed().agent;
    match outcome {
        Outcome::Denied => must(
            follows(before, entry, ReviewDecision::Deny),
            "nobody denied it",
        ),
        Outcome::Lapsed => {
            let until = match request.state {
                RequestState::Approved { collect_until } => collect_until,
                _ => request.submission.pending_until,
            };
            must(until <= entry.time, "its time was not over")
        }
        Outcome::Withdrawn | Outcome::Stale => by_agent(entry, agent),
        Outcome::Frozen => must(
            is_stopped_by(world, request, EndCause::Frozen)
                || is_frozen(world, &request.submission),
            "no freeze covered it",
        ),
        Outcome::Revoked => must(
            entry.actor != Actor::Broker || world.stop_of(request.id()).is_some(),
            "nobody stopped it",
        ),
        Outcome::Refused
        | Outcome::Failed
        | Outcome::Completed
        | Outcome::Expired
        | Outcome::Abandoned => Err(format!(
            "a request without a credential cannot come out as {}",
            outcome.word()
        )),
    }
}

fn intended(world: &World, request: &Request, entry: &Entry) -> Result<(), String> {
    let (
        Event::LeaseIntended {
            ttl_seconds,
            mint_until,
            expires,
            bundle,
            ..
        },
        RequestState::Approved { collect_until },
    ) = (&entry.event, &request.state)
    else {
        return Err("it was not granted".into());
    };
    let_in(world, entry, &request.submission)?;
    must(entry.time < *collect_until, "its grant had lapsed")?;
    must(
        request.verdict.answer == VerdictAnswer::Allow || is_complete(world, request),
        "who approved it had come to stand on the requester's side",
    )?;
    must(
        *expires <= entry.time.plus(*ttl_seconds),
        "it expires later than its lifetime allows",
    )?;
    must(
        entry.time < *mint_until,
        "its mint is over before it begins",
    )?;
    must(
        world.bundle.map(|(bundle, _)| bundle) == Some(*bundle),
        "it was checked under a bundle that was not in force",
    )
}

/// Events of an orphan that is known.
fn orphan_moved(orphan: &Orphan, entry: &Entry) -> Result<(), String> {
    let free = orphan.not_before <= entry.time;
    match &entry.event {
        Event::OrphanEndClaimed { .. } => {
            must(free, "the duty was claimed while another broker had it")
        }
        Event::OrphanEndFailed {
            broker, attempts, ..
        } => {
            must(
                orphan.may_be_told_by(broker, entry.time),
                "another broker had the duty",
            )?;
            must(*attempts > orphan.attempts, "attempts are counted upwards")
        }
        _ => must(
            orphan.claimed_by.is_some() || free,
            "nobody had the duty to end it",
        ),
    }
}

/// Events of a lease that exists.
fn moved(world: &World, lease: &Lease, entry: &Entry) -> Result<(), String> {
    match (&entry.event, &lease.state) {
        (
            Event::LeaseLive {
                expires,
                acknowledge_by,
                ..
            },
            LeaseState::Issuing { mint_until },
        ) => {
            must(
                *acknowledge_by == entry.time.plus(ACKNOWLEDGE_WITHIN).min(*expires),
                "its agent had another time to say that it holds it",
            )?;
            must(entry.time < *mint_until, "its mint was over")?;
            must(
                *expires == lease.expires,
                "it expires at another time than intended",
            )?;
            must(world.stop_of(&lease.request).is_none(), "it was stopped")
        }
        (Event::LeaseAcknowledged { .. }, _) => {
            by_agent(entry, &lease.agent)?;
            let in_time = lease.acknowledge_by.is_some_and(|by| entry.time < by);
            must(in_time, "it was too late to say so")
        }
        (Event::LeaseEnding { cause, report, .. }, _) => {
            must(
                report.is_empty() || *cause == EndCause::Finished,
                "only an agent that is done reports",
            )?;
            has_cause(world, lease, *cause, entry)
        }
        (Event::LeaseAbandoned { .. }, _) => {
            must(
                entry.actor == Actor::Operator,
                "the operator alone gives a lease up",
            )?;
            must(is_stuck(world, lease), "its end had not failed")
        }
        (_, LeaseState::Ending { .. }) => ending_moved(world, lease, entry),
        _ => Ok(()),
    }
}

fn has_cause(world: &World, lease: &Lease, cause: EndCause, entry: &Entry) -> Result<(), String> {
    let order = world.stop_of(&lease.request);
    match cause {
        EndCause::Finished => by_agent(entry, &lease.agent),
        EndCause::Expired => must(lease.expires <= entry.time, "its time was not over"),
        EndCause::Unacknowledged => {
            let over = lease.acknowledge_by.is_some_and(|by| by <= entry.time);
            must(over, "its agent had time to say that it holds it")
        }
        EndCause::AgentDisabled => must(world.agent(&lease.agent).is_none(), "its agent is served"),
        EndCause::Frozen => must(
            order.is_some_and(|order| order.cause == EndCause::Frozen),
            "no freeze covered it",
        ),
        EndCause::Revoked => must(
            entry.actor != Actor::Broker || order.is_some(),
            "nobody stopped it",
        ),
        EndCause::AnswerLost => must(
            lease.acknowledge_by.is_some(),
            "its agent had said that it holds it",
        ),
        EndCause::MintUnknown => Ok(()),
    }
}

/// Events of a lease whose end is owed.
fn ending_moved(world: &World, lease: &Lease, entry: &Entry) -> Result<(), String> {
    let LeaseState::Ending {
        cause,
        attempts: counted,
        not_before,
        claimed_by,
        ..
    } = &lease.state
    else {
        return Ok(());
    };
    let free = *not_before <= entry.time;
    let told = |broker| {
        must(
            lease.may_be_told_by(broker, entry.time),
            "another broker had the duty",
        )
    };
    match &entry.event {
        Event::LeaseEndClaimed { .. } => {
            must(free, "the duty was claimed while another broker had it")
        }
        Event::LeaseEndFailed {
            broker, attempts, ..
        } => {
            told(broker)?;
            must(attempts > counted, "attempts are counted upwards")
        }
        Event::LeaseCutOff { broker, .. } => told(broker),
        Event::LeaseEnded { outcome, .. } => {
            must(
                claimed_by.is_some() || free,
                "nobody had the duty to end it",
            )?;
            must(
                *outcome == outcome_when_ended(world, lease, *cause, entry.time),
                "its request comes out otherwise",
            )
        }
        _ => Ok(()),
    }
}
