//! A person approves or denies. Self-approval is refused here, before policy is asked, and cannot be permitted.

use super::super::action::Action;
use super::super::agent::Agent;
use super::super::approval::{approvers, has_a_stake};
use super::super::command::{GiveReview, Refusal, RefusalCode};
use super::super::event::Event;
use super::super::person::Reviewer;
use super::super::quorum::quorum;
use super::super::request::{Outcome, Request, RequestState, Review, ReviewDecision};
use super::super::rules::{Ask, Question, Rules};
use super::super::time::Time;
use super::super::world::World;
use super::{Decision, ask_of, no_such_request, sealed_now, was_named};

pub(super) fn review(world: &World, given: &GiveReview, rules: &Rules<'_>, now: Time) -> Decision {
    let request = world
        .requests
        .get(&given.request)
        .ok_or_else(no_such_request)?;
    let may = match given.decision {
        ReviewDecision::Approve => may_review(world, &given.reviewer, request, rules, now),
        ReviewDecision::Deny => may_deny(world, &given.reviewer, request, rules, now),
    };
    let allowed = may.and_then(|policies| {
        if given.digest == request.submission.digest {
            return Ok(policies);
        }
        Err(Refusal::new(
            RefusalCode::DigestMismatch,
            "what you saw is not what is asked",
            "Load the request again and look at it once more.",
        ))
    });
    let policies = allowed.map_err(|mut refusal| {
        refusal.record.push(Event::ReviewRefused {
            request: given.request.clone(),
            person: given.reviewer.person.clone(),
            code: refusal.code.word().into(),
        });
        refusal
    })?;
    let review = Review {
        reviewer: given.reviewer.clone(),
        decision: given.decision,
        digest: given.digest,
        comment: given.comment,
        policies,
        at: now,
    };
    let mut events = vec![Event::ReviewGiven {
        request: given.request.clone(),
        review: Box::new(review),
    }];
    match given.decision {
        ReviewDecision::Deny => events.push(Event::RequestClosed {
            request: given.request.clone(),
            outcome: Outcome::Denied,
        }),
        ReviewDecision::Approve => {
            // Who has come to stand on the requester's side since does not count, and is not told again.
            let earlier = approvers(world, request);
            let approvers: Vec<_> = earlier.chain([&given.reviewer]).collect();
            if let Some(people) = quorum(&request.submission.reviewers, &approvers) {
                events.push(Event::GrantMade {
                    request: given.request.clone(),
                    digest: given.digest,
                    people,
                    collect_until: now.plus(request.submission.collect_window),
                });
            }
        }
    }
    Ok(events)
}

/// Whether `reviewer` may review `request` now; the policies that say so.
///
/// # Errors
/// Why not, as `review` would refuse it.
pub fn may_review(
    world: &World,
    reviewer: &Reviewer,
    request: &Request,
    rules: &Rules<'_>,
    now: Time,
) -> Result<Vec<String>, Box<Refusal>> {
    let agent = may_decide(world, reviewer, request, now)?;
    let action = as_asked(request, rules).ok_or_else(changed_since)?;
    eligible(
        reviewer,
        request,
        ask_of(agent, action, request, now),
        rules,
    )
}

/// Whether `reviewer` may say no to `request` now; the policies that say so. What was asked about can be denied when
/// its action has changed or left the bundle, too: no policy speaks of it then, so those who were to review it may.
///
/// # Errors
/// Why not, as `review` would refuse it.
pub fn may_deny(
    world: &World,
    reviewer: &Reviewer,
    request: &Request,
    rules: &Rules<'_>,
    now: Time,
) -> Result<Vec<String>, Box<Refusal>> {
    if as_asked(request, rules).is_some() {
        return may_review(world, reviewer, request, rules, now);
    }
    may_decide(world, reviewer, request, now)?;
    in_a_reviewing_group(reviewer, request).map(|()| Vec::new())
}

/// The action of `request`, if it still is what the request was made under.
fn as_asked<'a>(request: &Request, rules: &Rules<'a>) -> Option<&'a Action> {
    let (action, sealed) = sealed_now(request, rules)?;
    (sealed.digest() == request.submission.digest).then_some(action)
}

/// What holds whatever policy says: the request waits, and `reviewer` is not on its side and has not decided yet.
fn may_decide<'a>(
    world: &'a World,
    reviewer: &Reviewer,
    request: &Request,
    now: Time,
) -> Result<&'a Agent, Box<Refusal>> {
    waits(world, request, now)?;
    let submission = &request.submission;
    let agent = world.agent(&submission.sealed.agent).ok_or_else(|| {
        Refusal::new(
            RefusalCode::AgentDisabled,
            "the agent is disabled",
            "There is nothing to decide any more.",
        )
    })?;
    if has_a_stake(world, reviewer, request) {
        return Err(Refusal::new(
            RefusalCode::SelfApproval,
            "you own this agent or it acts for you, so you may not review its request",
            "Somebody else from the reviewing groups has to decide.",
        ));
    }
    let again = |review: &Review| review.reviewer.person == reviewer.person;
    if request.reviews.iter().any(again) {
        return Err(Refusal::new(
            RefusalCode::AlreadyReviewed,
            "you have reviewed this request already",
            "Somebody else has to give the next review.",
        ));
    }
    Ok(agent)
}

fn waits(world: &World, request: &Request, now: Time) -> Result<(), Box<Refusal>> {
    if world.stop_of(request.id()).is_some() {
        return Err(Refusal::new(
            RefusalCode::NotPending,
            "the request was stopped",
            "There is nothing to decide any more.",
        ));
    }
    if request.state != RequestState::Pending {
        return Err(Refusal::new(
            RefusalCode::NotPending,
            format!(
                "the request is {} and waits for nobody",
                request.state.word()
            ),
            "There is nothing to decide any more.",
        ));
    }
    if now >= request.submission.pending_until {
        return Err(Refusal::new(
            RefusalCode::Expired,
            "the request waited too long and has lapsed",
            "The agent can ask again.",
        ));
    }
    Ok(())
}

/// The policies that let `reviewer` review; a reviewing group is needed besides.
fn eligible(
    reviewer: &Reviewer,
    request: &Request,
    ask: Ask<'_>,
    rules: &Rules<'_>,
) -> Result<Vec<String>, Box<Refusal>> {
    in_a_reviewing_group(reviewer, request)?;
    let ruling = rules.policy.ask(&Question::Review(reviewer, ask));
    if !ruling.permitted || !ruling.errors.is_empty() {
        return Err(Refusal::new(
            RefusalCode::NotAReviewer,
            "policy does not let you review this request",
            "Ask somebody whom policy permits, or the platform team.",
        ));
    }
    Ok(ruling.policies)
}

fn in_a_reviewing_group(reviewer: &Reviewer, request: &Request) -> Result<(), Box<Refusal>> {
    if was_named(request, reviewer) {
        return Ok(());
    }
    let groups = request.submission.reviewers.keys();
    let groups: Vec<_> = groups.map(|group| group.as_str()).collect();
    Err(Refusal::new(
        RefusalCode::NotAReviewer,
        format!("this request is reviewed by {}", groups.join(" and ")),
        "Ask somebody from these groups.",
    ))
}

fn changed_since() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::BindingMismatch,
        "the action was changed or removed after this request was made",
        "The agent has to ask again, under the definition in force now.",
    )
}
