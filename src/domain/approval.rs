//! Which approvals count. Who stands on the requester's side is judged by the owner and the groups of then and of now:
//! an agent's owner can change, and people come to belong to groups, between an approval and what rests on it.

use std::collections::BTreeMap;

use super::ids::GroupName;
use super::person::Reviewer;
use super::quorum;
use super::request::{Request, RequestState, ReviewDecision};
use super::rules::is_requesters_side;
use super::world::World;

/// A reviewer in the groups that their newest sign-in named.
pub(super) fn as_known_now(world: &World, reviewer: &Reviewer) -> Reviewer {
    let known = world.groups.get(&reviewer.person);
    Reviewer {
        groups: known.unwrap_or(&reviewer.groups).clone(),
        ..reviewer.clone()
    }
}

/// Whether `reviewer` stands on the requester's side, or has come to: the person acted for, or one of its owner's, by
/// the owner and the groups of then or of now.
pub(super) fn has_a_stake(world: &World, reviewer: &Reviewer, request: &Request) -> bool {
    let submission = &request.submission;
    let agent = world.agents.get(&submission.sealed.agent);
    let owners = [
        Some(&submission.owner),
        agent.map(|(agent, _)| &agent.owner),
    ];
    let now = as_known_now(world, reviewer);
    let on_behalf_of = submission.on_behalf_of.as_ref();
    let of = |reviewer, owner| is_requesters_side(reviewer, owner, on_behalf_of);
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| of(reviewer, owner) || of(&now, owner))
}

fn approved(request: &Request) -> impl Iterator<Item = &Reviewer> {
    let reviews = request.reviews.iter();
    let approvals = reviews.filter(|review| review.decision == ReviewDecision::Approve);
    approvals.map(|review| &review.reviewer)
}

/// Who approved `request` and still counts, in the order they did.
pub(super) fn approvers<'a>(
    world: &'a World,
    request: &'a Request,
) -> impl Iterator<Item = &'a Reviewer> {
    approved(request).filter(|reviewer| !has_a_stake(world, reviewer, request))
}

/// Whether those who approved and still count fill every place.
pub(super) fn is_complete(world: &World, request: &Request) -> bool {
    let approvers: Vec<_> = approvers(world, request).collect();
    quorum::quorum(&request.submission.reviewers, &approvers).is_some()
}

/// How many more people each group must still give, or had to when it was decided.
pub fn missing(world: &World, request: &Request) -> BTreeMap<GroupName, u32> {
    let approvers: Vec<_> = match request.state {
        RequestState::Pending => approvers(world, request).collect(),
        _ => approved(request).collect(),
    };
    quorum::missing(&request.submission.reviewers, &approvers)
}
