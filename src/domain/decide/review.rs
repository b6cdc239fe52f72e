//! A person approves or denies. Self-approval is refused here, before policy is asked, and cannot be permitted.

use super::super::action::Action;
use super::super::command::{GiveReview, Refusal, RefusalCode};
use super::super::event::Event;
use super::super::person::Reviewer;
use super::super::quorum::quorum;
use super::super::request::{Ground, Outcome, Request, RequestState, Review, ReviewDecision};
use super::super::rules::{Ask, Question, Rules, is_requesters_side};
use super::super::time::Time;
use super::super::world::World;
use super::{Decision, ask_of, no_such_request, sealed_now};

pub(super) fn review(world: &World, given: &GiveReview, rules: &Rules<'_>, now: Time) -> Decision {
    let request = world
        .requests
        .get(&given.request)
        .ok_or_else(no_such_request)?;
    let allowed = may_review(world, &given.reviewer, request, rules, now).and_then(|ok| {
        if given.digest == request.submission.digest {
            return Ok(ok);
        }
        Err(Refusal::new(
            RefusalCode::DigestMismatch,
            "what you saw is not what is asked",
            "Load the request again and look at it once more.",
        ))
    });
    let (action, policies) = allowed.map_err(|mut refusal| {
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
            let approvers: Vec<_> = approvers(request).chain([&given.reviewer]).collect();
            if let Some(people) = quorum(&action.review.groups, &approvers) {
                events.push(Event::GrantMade {
                    request: given.request.clone(),
                    digest: given.digest,
                    ground: Ground::Quorum { people },
                    collect_until: now.plus(request.submission.collect_window),
                });
            }
        }
    }
    Ok(events)
}

/// Everybody who approved so far.
pub(super) fn approvers(request: &Request) -> impl Iterator<Item = &Reviewer> {
    request
        .reviews
        .iter()
        .filter(|review| review.decision == ReviewDecision::Approve)
        .map(|review| &review.reviewer)
}

/// Whether `reviewer` may review `request` now; the action and the policies that say so.
///
/// # Errors
/// Why not, as `review` would refuse it.
pub fn may_review<'a>(
    world: &World,
    reviewer: &Reviewer,
    request: &Request,
    rules: &Rules<'a>,
    now: Time,
) -> Result<(&'a Action, Vec<String>), Box<Refusal>> {
    waits(request, now)?;
    let submission = &request.submission;
    let agent = world.agent(&submission.sealed.agent).ok_or_else(|| {
        Refusal::new(
            RefusalCode::AgentDisabled,
            "the agent is disabled",
            "There is nothing to decide any more.",
        )
    })?;
    // The owner counts as of the request and as of now.
    let on_behalf_of = submission.on_behalf_of.as_ref();
    if is_requesters_side(reviewer, &submission.owner, on_behalf_of)
        || agent.owner.includes(reviewer)
    {
        return Err(Refusal::new(
            RefusalCode::SelfApproval,
            "you own this agent or it acts for you, so you may not review its request",
            "Somebody else from the reviewing groups has to decide.",
        ));
    }
    let (action, sealed) = sealed_now(request, rules).ok_or_else(changed_since)?;
    if sealed.digest() != submission.digest {
        return Err(changed_since());
    }
    let policies = eligible(reviewer, action, ask_of(agent, action, request, now), rules)?;
    let again = |review: &Review| review.reviewer.person == reviewer.person;
    if request.reviews.iter().any(again) {
        return Err(Refusal::new(
            RefusalCode::AlreadyReviewed,
            "you have reviewed this request already",
            "Somebody else has to give the next review.",
        ));
    }
    Ok((action, policies))
}

fn waits(request: &Request, now: Time) -> Result<(), Box<Refusal>> {
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
    action: &Action,
    ask: Ask<'_>,
    rules: &Rules<'_>,
) -> Result<Vec<String>, Box<Refusal>> {
    let groups = &action.review.groups;
    if !reviewer
        .groups
        .iter()
        .any(|group| groups.contains_key(group))
    {
        let groups: Vec<_> = groups.keys().map(|group| group.as_str()).collect();
        return Err(Refusal::new(
            RefusalCode::NotAReviewer,
            format!("this request is reviewed by {}", groups.join(" and ")),
            "Ask somebody from these groups.",
        ));
    }
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

fn changed_since() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::BindingMismatch,
        "the action was changed or removed after this request was made",
        "The agent has to ask again, under the definition in force now.",
    )
}
